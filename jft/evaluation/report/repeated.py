"""The part of a report about images that occur more than once: pairs side by side, with their split and label.

Perceptual hashes miss crops of more than a few percent. Where the network is frozen, as under a solver, its features
are there, and an image whose features are nearly those of a training image is shown too, as one to look at: another
crop or photo of the same thing. A network that was fine-tuned makes all images of a class similar, so its features tell
nothing of this kind.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import logging

from jft.data import duplicates
from jft.data.duplicates import Pair
from jft.data.source import Source
from jft.evaluation.evaluate import Predicted
from jft.features.knn import nearest

_SHOWN = 10  # pairs
# Cosine similarity of averaged features above which an image is shown. With SqueezeNet 1.1, no pair of different photos
# is above, among 211,540, nor of images of CIFAR-10, among 244,650; of copies that lost up to 5 % on each side all are,
# up to 15 % half (docs/results.md).
_SIMILAR = 0.93
_MOST = 0.05  # of the images; where more are similar, as signs of one kind are, features tell nothing of copies

Card = Callable[[Source, int], dict[str, Any]]  # an image as the page shows it: 'image', 'name', 'label'


def similar(features: np.ndarray, known: np.ndarray) -> list[tuple[int, int, float]]:
    """Images with nearly the features of a known one.

    Args:
      features: float [m, d], of the images.
      known: float [n, d], of those among which the nearest is sought, n > 0.

    Returns:
      (row of the image, row of the known one, cosine similarity), the most similar first; [] where more than a
      twentieth of the images have one, and more than ten.
    """
    rows, similarities = (found[:, 0] for found in nearest(known, features, 1))
    order = np.argsort(-similarities, kind="stable")
    found = [(int(i), int(rows[i]), float(similarities[i])) for i in order if similarities[i] >= _SIMILAR]
    return found if len(found) <= max(_SHOWN, _MOST * len(features)) else []


def of_run(
    predicted: Predicted,
    data: Source | None,
    card: Card,
    near: Sequence[tuple[int, int, float]] = (),
    train: Source | None = None,
) -> dict[str, Any]:
    """The training images, and those that were evaluated, that occur more than once.

    Args:
      predicted: the run and the images that it is evaluated on.
      data: the images in memory that the run was trained on; None: its config says where they are.
      card: draws an image.
      near: from `similar`, of the evaluated images and those of `train`.
      train: the training images that have features, all or a sample.

    Returns:
      {'told', 'notes': sentences; 'pairs': [{'one', 'other': cards, with 'split'; 'what': how they are alike}]; 'more':
      number of pairs that are not shown}. {} where no image occurs twice, or the training images are gone.
    """
    try:
        splits = {"train": predicted.trained.images("train", dataset=data), predicted.split: predicted.source}
    except (ValueError, OSError) as error:
        logging.warning("the report has no images that occur twice: %s", error)
        return {}
    found = duplicates.find(**splits)
    order = sorted(found.pairs, key=lambda pair: (pair.split == pair.other_split, pair.split == "train"))
    known = {pair.row for pair in found.leaking(predicted.split)}
    further = [(row, other, like) for row, other, like in near if row not in known]
    pairs = [_drawn(pair, splits, card) for pair in order[:_SHOWN]]
    for row, other, like in further[:_SHOWN]:
        assert train is not None  # whose rows these are
        what = f"similar features ({like:.2f}): perhaps the same thing, look at them"
        pairs.append(_pair(card(predicted.source, row), predicted.split, card(train, other), "train", what))
    more = max(0, len(order) - _SHOWN) + max(0, len(further) - _SHOWN)
    return {"told": found.told(), "notes": found.notes(), "pairs": pairs, "more": more} if pairs else {}


def _drawn(pair: Pair, splits: dict[str, Source], card: Card) -> dict[str, Any]:
    what = "the same pixels" if pair.same_pixels else "almost alike, mirrored" if pair.flipped else "almost alike"
    one, other = card(splits[pair.split], pair.row), card(splits[pair.other_split], pair.other_row)
    return _pair(one, pair.split, other, pair.other_split, what)


def _pair(one: dict[str, Any], split: str, other: dict[str, Any], other_split: str, what: str) -> dict[str, Any]:
    return {"one": one | {"split": split}, "other": other | {"split": other_split}, "what": what}
