"""Looking into a run: images as it sees them, where it looks, and what it learnt from that is like them."""

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from jft.data import grid, transforms
from jft.data.datasets import Source
from jft.data.given import several
from jft.evaluation import feature_file, gradcam, label_issues
from jft.evaluation.predictor import Images, Predictor
from jft.features.knn import nearest
from jft.utils import tree
from jft.utils.files import written_whole
from jft.utils.text import csv_cell, one_line

_MOST_DRAWN = 50  # images, a row each
_SHOWN_SIDE = 256  # pixels of the longer side of an image that is shown


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
    predictor: Predictor, images: Sequence[np.ndarray], classes: Sequence[int], stage: str | None = None
) -> np.ndarray:
    """Grad-CAM of images, see `gradcam.make_grad_cam`.

    Args:
      predictor: the model.
      images: uint8 [h, w, 3] each, of any sizes.
      classes: of which the evidence is shown, one for each image.
      stage: whose map it is; None: `gradcam.default_stage`.

    Returns:
      float32 [n, a, b], 0 and above.

    Raises:
      ValueError: no such stage, or one without a map.
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
    """What the stage before the head makes of a source's images, averaged, through the activation cache.

    Returns:
      float32 [n, d].
    """
    backbone = feature_file.Backbone(predictor.model, predictor.variables, predictor.spec, predictor.meta["config"])
    values, _ = feature_file.compute(backbone, source, stage=predictor.stages[-2], fit=predictor.fit)
    return values.reshape(len(values), -1)


def like(predictor: Predictor, images: Sequence[np.ndarray | Path], known: np.ndarray, k: int) -> np.ndarray:
    """The rows of the k most similar of the images whose `features` are known: int64 [n, k], see `nearest`."""
    own = predictor.features(list(images), predictor.stages[-2], pooled=True)
    return nearest(known, own.reshape(len(own), -1), k)[0]


def draw(
    predictor: Predictor, paths: Sequence[Path], out: Path, *, train: Source | None, stage: str | None, neighbors: int
) -> list[str]:
    """Draws images, each beside where the model looked and the training images that are most like it.

    Args:
      predictor: the model.
      paths: of the images.
      out: the file, see `grid.draw`.
      train: among which neighbors are sought; None where none are.
      stage: whose Grad-CAM is drawn; None: the last with a map.
      neighbors: how many; 0: none.

    Returns:
      Why images are left out: a sentence for each that cannot be read.

    Raises:
      ValueError: see `grid.draw` and `heat_maps`; more than 50 images; none that can be read; or more neighbors
        than there are images to learn from.
    """
    if len(paths) > _MOST_DRAWN:
        raise ValueError(f"{len(paths):,} images were named, and a drawing shows {_MOST_DRAWN}: name fewer.")
    stage = stage or gradcam.default_stage(predictor.model, predictor.spec.size)
    images, errors = _read(predictor, paths)
    if not images:
        raise ValueError(" ".join(errors))
    probabilities = predictor.predict(images)
    best = probabilities.argmax(axis=1)
    heat = heat_maps(predictor, images, best, stage)
    near = np.zeros((len(images), 0), np.int64)
    if neighbors:
        near = like(predictor, images, features(predictor, train), neighbors)
    cells = []
    for pixels, chosen, sure, cam, rows in zip(images, best, probabilities, heat, near, strict=True):
        seen = shown(predictor, pixels)
        cells.append((seen, predictor.class_names[chosen], float(sure[chosen])))
        cells.append((gradcam.overlay(seen, cam), f"where: {stage}", None))
        for row in rows:
            pixels = train.pixels(row, predictor.spec)
            cells.append((shown(predictor, pixels), f"like: {train.label(row) or 'nothing'}", None))
    drawn, told, sure = zip(*cells, strict=True)
    grid.draw(out, drawn, told, sure, [None] * len(cells), columns=2 + neighbors)
    return errors


def _read(predictor: Predictor, paths: Sequence[Path]) -> tuple[list[np.ndarray], list[str]]:
    """Images in their own sizes, and why the others cannot be read, a sentence each."""
    images, errors = [], []
    for path in paths:
        try:
            predictor.read(path)  # refuses what is too elongated for it, too
            images.append(predictor.pixels(path))
        except ValueError as error:
            errors.append(one_line(error))
    return images, errors


def suspects(known: np.ndarray, train: Source) -> list[label_issues.Suspect]:
    """`label_issues.suspicious` of training images by their features, in as many folds as the smallest class fills."""
    if train.multi_label:
        raise ValueError("confident learning judges one label an image, and these images have several each.")
    counts = train.counts()
    rows = np.flatnonzero(counts[train.labels] > 1)  # the only one of its class has none to be judged by
    folds = int(min([5, *counts[counts > 1]]))
    found = label_issues.suspicious(known[rows], train.labels[rows], classes=train.class_names, folds=folds)
    return [dataclasses.replace(one, row=int(rows[one.row])) for one in found]


def write_suspects(predictor: Predictor, train: Source, out: Path) -> int:
    """Writes the training images whose label looks wrong, see `label_issues.suspicious`, as CSV; returns how many."""
    found = suspects(features(predictor, train), train)
    with written_whole(out) as aside, aside.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "label", "probability", "suggested", "suggested_probability"))
        for one in found:
            label, suggested = train.class_names[one.label], train.class_names[one.suggested]
            figures = (label, f"{one.probability:.4f}", suggested, f"{one.suggested_probability:.4f}")
            writer.writerow(map(csv_cell, (train.image_name(one.row), *figures)))
    return len(found)
