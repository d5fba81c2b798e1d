"""The teacher of a run: a trained run of the same classes, whose outputs its loss compares its own with."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from jft.data import transforms
from jft.data.source import Source
from jft.data.transforms import Preprocess
from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.evaluation.restore import model_of, restore
from jft.metrics.losses import Objective
from jft.models import Chain, abstract_variables
from jft.utils.checkpoint import Checkpoints
from jft.utils.fingerprint import combined, fingerprints
from jft.utils.mesh import Parallel


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A trained run; its weights are read by `read`.

    Attributes:
      folder: of the run.
      info: what its newest checkpoint says.
    """

    folder: Path
    info: CheckpointInfo

    @functools.cached_property
    def model(self) -> Chain:
        """Its chain of stages."""
        return model_of(self.info)

    @property
    def size(self) -> int:
        """Side of the images that it reads, in pixels."""
        return self.info.preprocess.size

    @property
    def shapes(self) -> dict[str, Any]:
        """Shapes of its variables."""
        return abstract_variables(self.model, self.size)

    def read(self, parallel: Parallel) -> tuple[dict[str, Any], str]:
        """The variables of its best checkpoint, on the devices, and their fingerprint."""
        variables = restore(self.folder, parallel).variables
        return variables, combined(fingerprints(variables))

    def spec(self, student: Preprocess) -> Preprocess:
        """Preprocessing that gives a student's images, of its size, in the range of the teacher's weights."""
        own = {name: getattr(self.info.preprocess, name) for name in ("channels", "scale", "mean", "std")}
        return dataclasses.replace(student, **own)

    def make_logits(self, student: Preprocess) -> Callable[[dict[str, Any], jax.Array], jax.Array]:
        """Makes `(variables, the student's inputs) -> logits` of the same images, augmented and mixed alike.

        Args:
          student: preprocessing of the inputs, float32 [batch, size, size, channels]. They are normalized as the
            teacher's weights expect and, where it reads another size, resized.
        """
        same = self.spec(student) == student and self.size == student.size

        def logits(variables: dict[str, Any], inputs: jax.Array) -> jax.Array:
            if not same:
                levels = transforms.denormalize(inputs, student)
                inputs = transforms.to_model_input(levels, self.info.preprocess, fit="whole")
            return self.model.apply(variables, inputs, train=False)

        return logits


def open_teacher(folder: str, source: Source, objective: Objective) -> Teacher | None:
    """Opens the run of `config.teacher`, without its weights.

    Args:
      folder: of the run; '': there is no teacher.
      source: the training images.
      objective: the loss.

    Raises:
      ValueError: there is no such run, or its outputs mean something else.
    """
    if not folder:
        return None
    path, called = Path(folder).expanduser(), f"teacher = {folder!r}"
    try:
        with contextlib.closing(Checkpoints(path, read_only=True, from_json=CheckpointInfo.from_json)) as checkpoints:
            info = checkpoints.newest_info()
    except ValueError as error:
        raise ValueError(f"{called}: {error}") from error
    if info is None:
        raise ValueError(f"{called}: it holds no finished checkpoint: train it further first.")
    if info.class_names != source.class_names:
        raise ValueError(
            f"{called} has the classes {', '.join(info.class_names)}, and {source.name} has "
            f"{', '.join(source.class_names)}: a teacher knows the same classes in the same order."
        )
    if info.objective != objective.kind:
        raise ValueError(
            f"{called} has outputs of the kind {info.objective!r}, and this run's are {objective.kind!r}: choose the "
            "same loss."
        )
    return Teacher(path, info)
