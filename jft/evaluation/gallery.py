"""`jft explain`: draws images with Grad-CAM and their nearest training images, and lists suspicious labels."""

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from jft.data import grid, transforms
from jft.data.given import Given, several
from jft.data.source import Source
from jft.evaluation import feature_file, gradcam, label_issues
from jft.evaluation.predictor import Images, Predictor
from jft.features.knn import nearest
from jft.utils import tree
from jft.utils.files import written_whole
from jft.utils.text import csv_cell, one_line

_MOST_DRAWN = 50  # images, one row each
_SHOWN_SIDE = 256  # longer side of a drawn image, in pixels


def shown(predictor: Predictor, pixels: np.ndarray) -> np.ndarray:
    """The part of an image that the model reads, in its own proportions: uint8 [h, w, 3], no side above 256 pixels."""
    if predictor.fit == "crop":
        size, square = predictor.spec.size, predictor.read(pixels)
        start = transforms.crop_offset(len(square), size)
        pixels = square[start : start + size, start : start + size]
    image = Image.fromarray(pixels)
    image.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
    return np.asarray(image)


def heat_maps(
    predictor: Predictor, images: Sequence[Given], classes: Sequence[int], stage: str | None = None
) -> np.ndarray:
    """Grad-CAM of images, see `gradcam.make_grad_cam`.

    Args:
      predictor: the model.
      images: uint8 [h, w, 3] each, of any size.
      classes: the class to explain for each image.
      stage: the stage whose feature map is used; None: `gradcam.default_stage`.

    Returns:
      float32 [n, a, b], at least 0.

    Raises:
      ValueError: there is no such stage, or it has no feature map.
    """
    stage = stage or gradcam.default_stage(predictor.model, predictor.spec.size)
    cam = gradcam.make_grad_cam(predictor.model, stage=stage, objective=predictor.objective)

    def step(variables: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
        x = transforms.to_model_input(batch["image"], predictor.spec, fit=predictor.fit)
        return cam(variables, x, batch["class"])

    return predictor.run(("grad-cam", stage), step, list(images), **{"class": np.asarray(classes, np.int32)})


def grad_cam(
    model: Predictor, images: Images, stage: str | None = None, *, classes: Sequence[int | str] | None = None
) -> np.ndarray:
    """Where a model looks: Grad-CAM (Selvaraju et al., 2017, https://arxiv.org/abs/1610.02391).

    Args:
      model: from `create_model`, `load` or `train`.
      images: one image or several, as of `Predictor.predict`; n of them.
      stage: whose map it is, one of `model.stages`; None: the last with a map of more than one place.
      classes: names or numbers of the classes for which the evidence is shown, one for each image; None: the likeliest.

    Returns:
      float32 [n, a, b], the size of the stage's map: 0 where nothing speaks for the class, higher where more does, in
      units of the logit. `jft.evaluation.gradcam.overlay` lays one over its image.

    Raises:
      ValueError: no such stage or class, one without a map, or an image that cannot be read.
    """
    given = list(several(images))
    if classes is None:
        chosen = model.logits(given).argmax(axis=1).tolist()
    else:
        numbers = {name: number for number, name in enumerate(model.class_names)}
        chosen = [tree.choose(numbers, each, what="class") if isinstance(each, str) else int(each) for each in classes]
    if len(chosen) != len(given) or not set(chosen) <= set(range(len(model.class_names))):
        raise ValueError(
            f"classes has {len(chosen)} values for {len(given)} images: give each image the name or number of one of "
            f"the {len(model.class_names)} classes."
        )
    return heat_maps(model, given, chosen, stage)


def features(predictor: Predictor, source: Source) -> np.ndarray:
    """Average-pooled features of a source's images at the stage before the head, through the activation cache.

    Returns:
      float32 [n, d].
    """
    assert predictor.info is not None  # neighbors are sought among what a run was trained on
    config = predictor.info.config
    backbone = feature_file.Backbone(predictor.model, predictor.variables, predictor.spec, config)
    values, _ = feature_file.compute(backbone, source, stage=predictor.stages[-2], fit=predictor.fit)
    return values.reshape(len(values), -1)


def like(predictor: Predictor, images: Sequence[np.ndarray | Path], known: np.ndarray, k: int) -> np.ndarray:
    """Rows of each image's k nearest neighbors among images with features `known`: int64 [n, k], see `nearest`."""
    own = predictor.features(list(images), predictor.stages[-2], pooled=True)
    return nearest(known, own.reshape(len(own), -1), k)[0]


def draw(
    predictor: Predictor, paths: Sequence[Path], out: Path, *, train: Source | None, stage: str | None, neighbors: int
) -> list[str]:
    """Draws images, each with its Grad-CAM and its nearest training images.

    Args:
      predictor: the model.
      paths: paths of the images.
      out: the file, see `grid.draw`.
      train: the training images to search for neighbors; None if `neighbors` is 0.
      stage: stage for Grad-CAM; None: the last one with a feature map.
      neighbors: number of neighbors per image; 0 for none.

    Returns:
      One sentence for each image that cannot be read and was skipped.

    Raises:
      ValueError: see `grid.draw` and `heat_maps`; there are more than 50 images; none can be read; or `neighbors`
        exceeds the number of training images.
    """
    if len(paths) > _MOST_DRAWN:
        raise ValueError(f"{len(paths):,} images are given, and a drawing shows at most {_MOST_DRAWN}: give fewer.")
    stage = stage or gradcam.default_stage(predictor.model, predictor.spec.size)
    images, errors = _read(predictor, paths)
    if not images:
        raise ValueError(" ".join(errors))
    probabilities = predictor.predict(images)
    best = probabilities.argmax(axis=1)
    heat = heat_maps(predictor, images, best, stage)
    near = np.zeros((len(images), 0), np.int64)
    if neighbors:
        assert train is not None
        near = like(predictor, images, features(predictor, train), neighbors)
    cells = []
    for pixels, predicted, row_probabilities, cam, rows in zip(images, best, probabilities, heat, near, strict=True):
        seen = shown(predictor, pixels)
        cells.append((seen, predictor.class_names[predicted], float(row_probabilities[predicted])))
        cells.append((gradcam.overlay(seen, cam), f"Grad-CAM: {stage}", None))
        for row in rows:
            assert train is not None
            pixels = train.pixels(row, predictor.spec)
            cells.append((shown(predictor, pixels), f"neighbor: {train.label(row) or 'none'}", None))
    drawn, captions, confidences = zip(*cells, strict=True)
    grid.draw(out, drawn, captions, confidences, [None] * len(cells), columns=2 + neighbors)
    return errors


def _read(predictor: Predictor, paths: Sequence[Path]) -> tuple[list[np.ndarray], list[str]]:
    """The readable images in their own sizes, and one sentence for each of the others."""
    images, errors = [], []
    for path in paths:
        try:
            predictor.read(path)  # also refuses images too elongated for the model
            images.append(predictor.pixels(path))
        except ValueError as error:
            errors.append(one_line(error))
    return images, errors


def suspects(known: np.ndarray, train: Source) -> list[label_issues.Suspect]:
    """`label_issues.suspicious` of training images from features, in as many folds as the smallest class fills."""
    if train.multi_label:
        raise ValueError("confident learning needs one label per image, and these images have several each.")
    counts = train.counts()
    rows = np.flatnonzero(counts[train.labels] > 1)  # a class of one image cannot be cross-validated
    folds = int(min([5, *counts[counts > 1]]))
    found = label_issues.suspicious(known[rows], train.labels[rows], classes=train.class_names, folds=folds)
    return [dataclasses.replace(one, row=int(rows[one.row])) for one in found]


def write_suspects(predictor: Predictor, train: Source, out: Path) -> int:
    """Writes training images with a suspicious label as CSV, see `label_issues.suspicious`; returns their number."""
    found = suspects(features(predictor, train), train)
    with written_whole(out) as aside, aside.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "label", "probability", "suggested", "suggested_probability"))
        for one in found:
            label, suggested = train.class_names[one.label], train.class_names[one.suggested]
            cells = (label, f"{one.probability:.4f}", suggested, f"{one.suggested_probability:.4f}")
            writer.writerow(map(csv_cell, (train.image_name(one.row), *cells)))
    return len(found)
