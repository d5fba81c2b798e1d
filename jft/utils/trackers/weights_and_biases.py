"""Weights & Biases. Its own variables, such as WANDB_MODE, WANDB_PROJECT and WANDB_DIR, say where a run goes."""

import html
import importlib
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jft.utils.trackers.tracker import About, State

wandb: Any = importlib.import_module("wandb")


class WeightsAndBiases:
    """One run of Weights & Biases; one row of its history for each line of the log.

    Attributes:
      id: of the run.
    """

    def __init__(self, about: About) -> None:
        self.id = about.id or uuid.uuid4().hex[:8]
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "jft"),
            name=about.name,
            id=self.id,
            resume="allow",
            config=dict(about.config),
            dir=os.environ.get("WANDB_DIR", about.folder),
            reinit="finish_previous",
            settings=wandb.Settings(console="off", silent=True, init_timeout=20),
        )
        # Its own steps must rise, and a step of the log has several lines.
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Logs numbers."""
        self._run.log({**values, "step": step})

    def text(self, step: int, name: str, text: str) -> None:
        """Logs a text, with its lines and columns."""
        self._run.log({name: wandb.Html(f"<pre>{html.escape(text)}</pre>"), "step": step})

    def image(self, step: int, name: str, path: Path) -> None:
        """Logs an image."""
        self._run.log({name: wandb.Image(str(path)), "step": step})

    def end(self, state: State) -> None:
        """Waits until all is sent."""
        self._run.finish(exit_code=0 if state == "finished" else 1)
