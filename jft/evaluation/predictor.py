"""A model ready for images: uint8 images in; logits, probabilities or the features of a stage out."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from jft.data import decode, host_resize, transforms
from jft.data.feeds.threads import read_ahead
from jft.data.given import Given, several
from jft.data.image_file import MAX_IMAGE_PIXELS
from jft.data.transforms import Preprocess
from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.evaluation.open_model import of_variables, write_own
from jft.features.feature_step import Wanted, make_feature_step
from jft.metrics import calibration
from jft.metrics.losses import Objective
from jft.models import Chain, between
from jft.utils import waiting
from jft.utils.mesh import Parallel

# One image; several of one size as an array; or several of any sizes: see `given.several`.
Images = Given | Sequence[Given]

_IN_FLIGHT = 2  # batches that the devices are given before the first is waited for


@dataclasses.dataclass(frozen=True, repr=False)
class Predictor:
    """A model with its preprocessing, class names and temperature. Made by `create_model`, `load` and `train`.

    It compiles once per size of array, and once for sequences of images of any size; the last batch is padded. Images
    of an array are resized on the device, those of a sequence on the host, as in evaluation.

    Attributes:
      name: name of the run or weight set, for people.
      model: the chain of stages.
      variables: `{'params', 'batch_stats'}` on this process' devices.
      spec: preprocessing of the weights.
      fit: how an image becomes a square, 'crop' or 'whole'.
      objective: converts logits to probabilities.
      class_names: names of the classes, in the order of the outputs.
      temperature: divisor of the logits that calibrates the probabilities; 1 if none was fitted.
      info: what the checkpoint says of itself and its run; None for a weight set.
      parallel: the devices.
      batch_size: batch size over all devices.
      architecture: name of a model, see `jft.models.architecture`.
      options: fields of the model, including its number of classes.
    """

    name: str
    model: Chain
    variables: Mapping[str, Any]
    spec: Preprocess
    fit: str
    objective: Objective
    class_names: tuple[str, ...]
    temperature: float
    info: CheckpointInfo | None
    parallel: Parallel
    batch_size: int
    architecture: str
    options: Mapping[str, Any]
    _compiled: dict[Any, jax.stages.Compiled] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __repr__(self) -> str:
        """One line, for notebooks, without the variables."""
        names = ", ".join(self.class_names[:5]) + (", ..." if len(self.class_names) > 5 else "")
        size = f"{self.spec.size} x {self.spec.size} pixels"
        of = f"{type(self.model).__name__}, {size}, {len(self.class_names)} classes: {names}"
        return f"{type(self).__name__}({self.name!r}: {of})"

    @property
    def side(self) -> int:
        """Side in pixels of the squares to which the host resizes images of mixed sizes."""
        return transforms.stored_size(self.spec, self.fit)

    @property
    def max_image_pixels(self) -> int:
        """The largest number of pixels of an image file, from the run's config."""
        return MAX_IMAGE_PIXELS if self.info is None else self.info.config["max_image_pixels"]

    @property
    def module(self) -> Chain:
        """The Flax module: `module.apply(variables, x, train=False, start=None, stop=None)`."""
        return self.model

    @property
    def preprocess(self) -> Preprocess:
        """The preprocessing: size, resizing, channel order, mean and standard deviation."""
        return self.spec

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the model's stages, in order."""
        return tuple(self.model.stages())

    def __call__(self, images: Images) -> np.ndarray:
        """The same as `logits`."""
        return self.logits(images)

    def predict(self, images: Images, *, calibrated: bool = True) -> np.ndarray:
        """Probabilities of the classes.

        Args:
          images: one image, or a sequence of images of any size: paths, bytes of encoded images, PIL images, or arrays
            uint8 [h, w, 3], RGB, 0 .. 255, or grayscale [h, w]; or one array of several images, [n, h, w, 3].
          calibrated: divide the logits by the temperature fitted on validation; this does not change the ranking.

        Returns:
          float32 [n, classes], n = 1 for one image; rows add up to 1 unless images may have several labels.

        Raises:
          ValueError: images have another type or shape, or an image cannot be read; names it.
        """
        temperature = self.temperature if calibrated else 1.0
        return self.probabilities(self.logits(images), temperature)

    def probabilities(self, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """Converts logits [n, classes] to probabilities, float32 [n, classes]."""
        several = self.objective.multi_label
        return calibration.apply_temperature(logits, temperature, multilabel=several).astype(np.float32)

    def logits(self, images: Images) -> np.ndarray:
        """One logit per class, float32 [n, classes], without temperature scaling; arguments as in `predict`."""

        def step(variables: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
            x = transforms.to_model_input(batch["image"], self.spec, fit=self.fit)
            return self.objective.class_logits(self.model.apply(variables, x, train=False))

        return self.run("logits", step, images)

    def features(self, images: Images, stage: str, *, pooled: bool = False) -> np.ndarray:
        """The output of a stage.

        Args:
          images: as in `predict`.
          stage: name of a stage, such as 'fire9' or 'fc7'; `stages` lists them.
          pooled: average feature maps over height and width.

        Returns:
          float32 [n, h, w, channels]; [n, channels] if pooled, or if the stage outputs vectors.

        Raises:
          ValueError: see `predict`; or there is no such stage.
        """
        between(self.stages, None, stage)

        step = make_feature_step(self.model, self.spec, Wanted(stage, pooled, self.fit))
        return self.run(("features", stage, pooled), step, images)

    def save(self, path: str | Path) -> Path:
        """Writes the model, with all that is needed to use it, into one safetensors file, which `jft.load(path)` opens.

        Args:
          path: the file; replaced if it exists, and written atomically.

        Returns:
          The path.

        Raises:
          ValueError: a weight is not finite.
          OSError: it cannot be written.
        """
        facts = {"source": self.name, "dialect": "jft"}
        how = self.spec, self.fit, self.class_names, self.objective.kind
        opened = of_variables(self.name, self.architecture, self.options, self.variables, *how, facts)
        write_own(dataclasses.replace(opened, temperature=self.temperature), Path(path))
        return Path(path)

    @waiting.during("running the model")
    def run(self, key: Any, step: Callable[[Any, Any], jax.Array], images: Images, **others: Any) -> np.ndarray:
        """Runs a pure step over images, a padded batch at a time.

        Args:
          key: names the step; it is compiled at its first call with a size of images, and found again by this.
          step: (variables, {'image': uint8 [b, h, w, 3], ...}) -> [b, ...].
          images: as of `predict`.
          **others: arrays [n, ...], of which the step is given the rows of its batch.

        Returns:
          float32 [n, ...].
        """
        pending, done = [], []
        images = several(images)
        for start, batch in self._batches(images):
            count = len(batch)
            whole = {"image": batch, **{k: np.asarray(v)[start : start + count] for k, v in others.items()}}
            filled = {k: _padded(v, self.batch_size) for k, v in whole.items()}
            placed = self.parallel.place_batch(filled)
            if start == 0 and isinstance(images, np.ndarray):  # files are not scaled to 0..1, though one may be black
                transforms.check_range(batch, self.spec)
            known = (key, batch.shape[1:])
            if known not in self._compiled:
                self._compiled[known] = self.parallel.compile(step, self.variables, placed, donate=False)
            pending.append((self._compiled[known](self.variables, placed), count))
            if len(pending) > _IN_FLIGHT:
                done.append(_fetch(*pending.pop(0)))
        done += [_fetch(*one) for one in pending]
        return np.concatenate(done)

    def read(self, image: Given) -> np.ndarray:
        """Reads an image as the square uint8 [side, side, 3] of `predict`; ValueError if it cannot be read."""
        if isinstance(image, np.ndarray):
            return decode.from_array(image, self.spec, fit=self.fit)
        if isinstance(image, Image.Image):
            return decode.from_image(image, self.spec, fit=self.fit)
        return decode.decode(image, self.spec, fit=self.fit, max_pixels=self.max_image_pixels)

    def pixels(self, path: Path) -> np.ndarray:
        """An image in its own size: uint8 [h, w, 3]; ValueError if it cannot be read."""
        return decode.pixels(path, self.spec, max_pixels=self.max_image_pixels)

    def _batches(self, images: np.ndarray | Sequence[Given]) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, uint8 [at most batch_size, h, w, 3])."""
        if not len(images):
            raise ValueError("there are no images: give at least one.")
        starts = range(0, len(images), self.batch_size)
        if isinstance(images, np.ndarray):
            for start in starts:
                batch = images[start : start + self.batch_size]
                yield start, host_resize.resize(batch, self.spec, self.fit) if self._resizes_on_host else batch
            return
        groups = (images[start : start + self.batch_size] for start in starts)
        done = read_ahead(self.read, groups)
        yield from ((start, np.stack(squares)) for start, (_, squares) in zip(starts, done, strict=True))

    @property
    def _resizes_on_host(self) -> bool:
        return self.info is not None and self.info.config["resize_on"] == "host"


def _padded(array: np.ndarray, size: int) -> np.ndarray:
    """To `size` rows, the last one repeated."""
    missing = size - len(array)
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array


def _fetch(result: jax.Array, count: int) -> np.ndarray:
    return np.asarray(result, np.float32)[:count]
