"""The part of a report about images that occur more than once: pairs side by side, with their split and label."""

from collections.abc import Callable
from typing import Any

from absl import logging

from jft.data import duplicates
from jft.data.duplicates import Pair
from jft.data.source import Source
from jft.evaluation.evaluate import Predicted

_SHOWN = 10  # pairs

Card = Callable[[Source, int], dict[str, Any]]  # an image as the page shows it: 'image', 'name', 'label'


def of_run(predicted: Predicted, data: Source | None, card: Card) -> dict[str, Any]:
    """The training images, and those that were evaluated, that occur more than once.

    Args:
      predicted: the run and the images that it is evaluated on.
      data: the images in memory that the run was trained on; None: its config says where they are.
      card: draws an image.

    Returns:
      {'told', 'notes': sentences; 'pairs': [{'one', 'other': cards, with 'split'; 'same', 'flipped': bool}]; 'more':
      number of pairs that are not shown}. {} where no image occurs twice, or the training images are gone.
    """
    try:
        splits = {"train": predicted.trained.images("train", dataset=data), predicted.split: predicted.source}
    except (ValueError, OSError) as error:
        logging.warning("the report has no images that occur twice: %s", error)
        return {}
    found = duplicates.find(**splits)
    if not found.pairs:
        return {}
    order = sorted(found.pairs, key=lambda pair: (pair.split == pair.other_split, pair.split == "train"))
    return {
        "told": found.told(),
        "notes": found.notes(),
        "pairs": [_drawn(pair, splits, card) for pair in order[:_SHOWN]],
        "more": max(0, len(order) - _SHOWN),
    }


def _drawn(pair: Pair, splits: dict[str, Source], card: Card) -> dict[str, Any]:
    one, other = card(splits[pair.split], pair.row), card(splits[pair.other_split], pair.other_row)
    return {
        "one": one | {"split": pair.split},
        "other": other | {"split": pair.other_split},
        "same": pair.same_pixels,
        "flipped": pair.flipped,
    }
