"""MLflow. Its own variables, MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME, say where a run goes."""

import contextlib
import importlib
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jft.utils.trackers.tracker import About, State

# It would try a request for minutes before it tells of a failure; what follows the log tries again by itself.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

mlflow: Any = importlib.import_module("mlflow")

_STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
_MOST = 100  # parameters in one request


class MLflow:
    """One run of MLflow.

    Attributes:
      id: of the run.
    """

    def __init__(self, about: About) -> None:
        self._client = mlflow.MlflowClient()
        self.id = about.id
        if self.id:
            self._client.update_run(self.id, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "jft")
        known = self._client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self._client.create_experiment(name)
        self.id = self._client.create_run(experiment, run_name=about.name).info.run_id
        params = [mlflow.entities.Param(field, str(value)) for field, value in about.config.items()]
        try:
            for start in range(0, len(params), _MOST):
                self._client.log_batch(self.id, params=params[start : start + _MOST])
        except Exception:
            with contextlib.suppress(Exception):  # it is tried again, with a run of its own
                self._client.delete_run(self.id)
            raise

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Logs numbers."""
        now, metric = int(time.time() * 1000), mlflow.entities.Metric
        self._client.log_batch(
            self.id, metrics=[metric(_allowed(tag), float(value), now, step) for tag, value in values.items()]
        )

    def text(self, step: int, name: str, text: str) -> None:
        """Keeps a text as an artifact."""
        self._client.log_text(self.id, text, f"{_allowed(name)}_{step}.txt")

    def image(self, step: int, name: str, path: Path) -> None:
        """Keeps an image as an artifact, under the name of its file."""
        self._client.log_artifact(self.id, str(path), "images")

    def end(self, state: State) -> None:
        """Sets the run's status."""
        self._client.set_terminated(self.id, _STATUS[state])


def _allowed(name: str) -> str:
    """With the characters that MLflow takes in a name."""
    return re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)
