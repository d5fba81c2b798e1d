"""A run as exports need it: evaluated, and computing in float32, whatever dtype it was trained in."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jft.data.source import Source
from jft.evaluation import evaluate
from jft.evaluation.load import from_trained
from jft.evaluation.predictor import Predictor
from jft.evaluation.restore import Trained

LIMIT = 1e-4  # largest difference of a probability between a file and the checkpoint
_IMAGES = 100  # number of images to compare on


@dataclasses.dataclass(frozen=True)
class Opened:
    """A run that has been evaluated.

    Attributes:
      trained: the restored run.
      predictor: its model.
      test: the images that it was evaluated on.
      evaluation: the result of `evaluate.evaluate` on them.
    """

    trained: Trained
    predictor: Predictor
    test: Source
    evaluation: Mapping[str, Any]

    def squares(self) -> np.ndarray:
        """Test images to compare on, as the model reads them: uint8 [at most 100, side, side, 3]."""
        rows = np.linspace(0, len(self.test) - 1, min(_IMAGES, len(self.test))).round().astype(int)
        return np.stack([self.predictor.read(self.test.pixels(row, self.predictor.spec)) for row in rows])

    def logits(self, squares: np.ndarray) -> np.ndarray:
        """The checkpoint's logits of squares, without temperature: float32 [n, classes]."""
        with jax.default_matmul_precision("highest"):  # accelerators round more than CPUs by default
            return self.predictor.logits(squares)


def open_run(workdir: str | Path, data_dir: str | None, data: Source | None) -> Opened:
    """Restores and evaluates a run; arguments and errors as of `bundle.ship`."""
    predicted = evaluate.predict_run(workdir, evaluate.Images(dataset=data, data_dir=data_dir))
    evaluation = evaluate.record(predicted)
    # Weight files do not record a compute dtype, and bfloat16 rounds differently in every program.
    trained = dataclasses.replace(predicted.trained, model=predicted.trained.model.clone(dtype=jnp.float32))
    return Opened(trained, from_trained(trained, str(workdir)), predicted.source, evaluation)
