"""Looking into a run: pictures as it sees them, where it looks, and what it learnt from that is like them."""

import csv
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from jft import explain, feature_file, grid, labels
from jft.data import decode, preprocess
from jft.data.sources import Source
from jft.evaluate import Trained, load_like
from jft.files import written_whole
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
      float32 [n, d].
    """
    backbone = feature_file.Backbone(predictor.model, predictor.variables, predictor.spec, predictor.meta["config"])
    values, _ = feature_file.compute(backbone, source, stage=predictor.stages[-2], fit=predictor.fit)
    return values.reshape(len(values), -1)


def training(trained: Trained) -> Source:
    """The pictures that a run learnt from, in the order of its classes; ValueError or OSError where they are gone."""
    config = trained.meta["config"]
    fields = ("data_dir", "validation", "seed", "examples_per_class", "skip_unreadable")
    return load_like(trained, None, split="train", **{field: config[field] for field in fields})


def draw(
    predictor: Predictor, paths: Sequence[Path], out: Path, *, train: Source | None, stage: str | None, neighbours: int
) -> None:
    """Draws pictures, each beside where the model looked and the training pictures that are most like it.

    Args:
      predictor: the model.
      paths: of the pictures.
      out: the file, see `grid.draw`.
      train: among which neighbours are sought; None where none are.
      stage: whose Grad-CAM is drawn; None: the last with a map.
      neighbours: how many; 0: none.

    Raises:
      ValueError: see `grid.draw` and `heat_maps`; a picture that cannot be read; or more neighbours than pictures.
    """
    stage = stage or explain.default_stage(predictor.model, predictor.spec.size)
    pictures = [decode.pixels(path) for path in paths]
    probabilities = predictor.predict(list(paths))
    best = probabilities.argmax(axis=1)
    heat = heat_maps(predictor, pictures, best, stage)
    near = np.zeros((len(paths), 0), np.int64)
    if neighbours:
        own = predictor.features(list(paths), predictor.stages[-2], pooled=True).reshape(len(paths), -1)
        near, _ = labels.nearest(features(predictor, train), own, neighbours)
    cells = []
    for pixels, chosen, sure, cam, rows in zip(pictures, best, probabilities, heat, near, strict=True):
        seen = shown(predictor, pixels)
        cells.append((seen, predictor.class_names[chosen], float(sure[chosen])))
        cells.append((explain.overlay(seen, cam), f"where: {stage}", None))
        for row in rows:
            names = np.flatnonzero(train.labels[row]) if train.multi_label else [train.labels[row]]
            told = " | ".join(train.class_names[name] for name in names)
            cells.append((shown(predictor, picture(train, row)), f"like: {told}", None))
    images, told, sure = zip(*cells, strict=True)
    grid.draw(out, images, told, sure, [None] * len(cells), columns=2 + neighbours)


def suspects(known: np.ndarray, train: Source) -> list[labels.Suspect]:
    """`labels.suspicious` of training pictures by their features, in as many folds as the smallest class fills."""
    counts = np.bincount(train.labels) if not train.multi_label else np.zeros(0, int)
    folds = int(min([5, *counts[counts > 0]]))
    return labels.suspicious(known, train.labels, classes=train.class_names, folds=folds)


def write_suspects(predictor: Predictor, train: Source, out: Path) -> int:
    """Writes the training pictures whose label looks wrong, see `labels.suspicious`, as CSV; returns how many."""
    found = suspects(features(predictor, train), train)
    with written_whole(out) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("picture", "label", "probability", "suggested", "suggested_probability"))
        for one in found:
            label, suggested = train.class_names[one.label], train.class_names[one.suggested]
            figures = (label, f"{one.probability:.4f}", suggested, f"{one.suggested_probability:.4f}")
            writer.writerow((train.picture_name(one.row), *figures))
    return len(found)


def sample(source: Source, count: int) -> Source:
    """At most `count` pictures of a source, the same whenever it is asked; all where there are no more."""
    if len(source) <= count:
        return source
    order = np.random.default_rng(zlib.crc32(source.name.encode())).permutation(len(source))
    return source.take(np.sort(order[:count]))
