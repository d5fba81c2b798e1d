"""Looking into a run: pictures as it sees them, where it looks, and what it learnt from that is like them."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from PIL import Image

from jft import explain, feature_file
from jft.data import decode, preprocess
from jft.data.sources import Source
from jft.predictor import Predictor

_SHOWN_SIDE = 256  # pixels of the longer side of a picture that is shown


def picture(source: Source, row: int) -> np.ndarray:
    """A picture of a source in full, upright, or its region: uint8 [h, w, 3]; ValueError if it cannot be read."""
    if source.decoded:
        return source.pictures[row]
    region = None if source.regions is None else source.regions[row]
    return decode.pixels(source.pictures[row], name=source.picture_name(row), region=region)


def shown(predictor: Predictor, pixels: np.ndarray) -> np.ndarray:
    """The part of a picture that the model reads, in its own proportions: uint8 [h, w, 3], no side above 256 pixels."""
    if predictor.fit == "crop":
        size, square = predictor.spec.size, predictor.read(pixels)
        start = preprocess.crop_offset(len(square), size)
        pixels = square[start : start + size, start : start + size]
    image = Image.fromarray(pixels)
    image.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
    return np.asarray(image)


def heat_maps(
    predictor: Predictor, pictures: Sequence[np.ndarray], classes: Sequence[int], stage: str | None = None
) -> np.ndarray:
    """Grad-CAM of pictures, see `explain.make_grad_cam`.

    Args:
      predictor: the model.
      pictures: uint8 [h, w, 3] each, of any sizes.
      classes: of which the evidence is shown, one for each picture.
      stage: whose map it is; None: `explain.default_stage`.

    Returns:
      float32 [n, a, b], 0 and above.

    Raises:
      ValueError: no such stage, or one without a map.
    """
    stage = stage or explain.default_stage(predictor.model, predictor.spec.size)
    cam = explain.make_grad_cam(predictor.model, stage=stage, objective=predictor.objective)

    def step(variables: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
        x = preprocess.to_model_input(batch["image"], predictor.spec, fit=predictor.fit)
        return cam(variables, x, batch["class"])

    return predictor.run(("grad-cam", stage), step, list(pictures), **{"class": np.asarray(classes, np.int32)})


def features(predictor: Predictor, source: Source) -> np.ndarray:
    """What the stage before the head makes of a source's pictures, averaged, through the activation cache.

    Returns:
      float32 [n, d]; d is all of a map's places and channels where a head reads it whole.
    """
    backbone = feature_file.Backbone(predictor.model, predictor.variables, predictor.spec, predictor.meta["config"])
    values, _ = feature_file.compute(backbone, source, stage=predictor.stages[-2], fit=predictor.fit)
    return values.reshape(len(values), -1)


def sample(source: Source, count: int) -> Source:
    """At most `count` pictures of a source, the same whenever it is asked; all where there are no more."""
    if len(source) <= count:
        return source
    order = np.random.default_rng(zlib.crc32(source.name.encode())).permutation(len(source))
    return source.take(np.sort(order[:count]))
