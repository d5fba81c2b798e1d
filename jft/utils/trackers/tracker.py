"""The protocol of trackers, and those that jft has."""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from jft.utils.registry import Registry

State = Literal["finished", "interrupted", "failed"]


@dataclasses.dataclass(frozen=True)
class About:
    """The run that a tracker follows.

    Attributes:
      name: the last two parts of its folder, such as 'runs/flowers'.
      config: its fields, as in config.json.
      folder: for files of the tracker's own, within the run's folder.
      id: the tracker's own name of the run, where it followed an earlier part of it; '' at the beginning.
    """

    name: str
    config: Mapping[str, Any]
    folder: Path
    id: str


class Tracker(Protocol):
    """What follows a run. Each method may raise whatever it likes: it is called again later, after opening anew.

    Attributes:
      id: the tracker's own name of the run, given back as `About.id` when the run is resumed.
    """

    id: str

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Takes numbers of a step, by tags such as 'train/loss'."""

    def text(self, step: int, name: str, text: str) -> None:
        """Takes a text."""

    def image(self, step: int, name: str, path: Path) -> None:
        """Takes an image, a PNG file."""

    def end(self, state: State) -> None:
        """Sends what is left; the run is finished, or may be resumed later."""


def _of(package: str, module: str, name: str) -> Callable[[About], Tracker]:
    """Opens a tracker of jft's, whose package, an extra of jft's of the same name, is imported then."""

    def opened(about: About) -> Tracker:
        try:
            return getattr(importlib.import_module(f"jft.utils.trackers.{module}"), name)(about)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"{error}: pip install 'jft[{package}]'") from error

    return opened


TRACKERS = Registry(
    "trackers",
    "class, called with a jft.utils.trackers.tracker.About",
    {
        "wandb": _of("wandb", "weights_and_biases", "WeightsAndBiases"),
        "mlflow": _of("mlflow", "ml_flow", "MLflow"),
    },
)
