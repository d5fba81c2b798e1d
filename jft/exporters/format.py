"""What an export format is: the row of `jft.exporters.formats.FORMATS` that describes one file of an export."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.evaluation.open_model import SourceWeights
from jft.evaluation.predictor import Predictor

Predict = Callable[[jax.Array], jax.Array]

CHECK_BATCH = 20  # another batch size than in the export; the last batch is usually smaller, which checks a second size


@dataclasses.dataclass(frozen=True)
class Content:
    """What there is to write.

    Attributes:
      predictor: the run's model, computing in float32.
      weights: its weights, preprocessing and class names.
      predict: from `stablehlo.make_predict`: uint8 [batch, side, side, 3] -> float32 [batch, classes], preprocessing,
        parameters and temperature inside; the side is `predictor.side`.
    """

    predictor: Predictor
    weights: SourceWeights
    predict: Predict


@dataclasses.dataclass(frozen=True)
class Described:
    """A file as the model card describes it.

    Attributes:
      name: name of the file.
      usage: (info of the checkpoint, metrics of the card) -> Markdown for the card: how to use the file.
      complete: whether preprocessing and temperature are in the file. If not, the card says what its user must do.
      normalized: whether, though it is complete otherwise, its user must crop and normalize the images.
    """

    name: str
    usage: Callable[[CheckpointInfo, Mapping[str, Any]], list[str]]
    complete: bool
    normalized: bool = dataclasses.field(default=False, kw_only=True)


@dataclasses.dataclass(frozen=True)
class Format(Described):
    """One file of an export. If it is not complete, it is compared with the probabilities without temperature.

    Attributes:
      write: (content, path) -> '', or the reason why the file cannot be written for this model on this machine.
      read: path -> function from images, uint8 [batch, side, side, 3], to probabilities, float32 [batch, classes]. A
        fresh process checks the file by it. The other files of the export lie beside it.
    """

    write: Callable[[Content, Path], str]
    read: Callable[[Path], Callable[[Any], Any]]


def code_block(*lines: str) -> list[str]:
    """Lines of Python as Markdown."""
    return ["```python", *lines, "```"]
