"""Labels as a program has them, names or numbers, one or several an image, as the arrays that a `Source` holds."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jft.data.names import natural, normal
from jft.utils import tree


def encode(labels: Any, class_names: Sequence[str] | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Numbers labels.

    Args:
      labels: for each image the name of its class or its number from 0; or a tuple, list or set of those that it has;
        or, as one array [n, classes], a row of zeros and ones.
      class_names: of the classes in order; None: the names that occur, in natural order, or the numbers.

    Returns:
      int [n], or multi-hot uint8 [n, classes] where an image may have several; and the names of the classes.

    Raises:
      ValueError: a label of another type, or one that is none of `class_names`.
    """
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "iub":
        count = labels.shape[1] if labels.ndim == 2 else int(labels.max(initial=0)) + 1
        return labels, _names(class_names, count)
    labels = list(labels)
    several = any(isinstance(label, list | tuple | set | frozenset) or np.ndim(label) for label in labels)
    own = [list(label) if several else [label] for label in labels]
    flat = [each for of_image in own for each in of_image]
    if all(isinstance(each, str) for each in flat):
        named = class_names if class_names is not None else sorted({*map(normal, flat)}, key=natural)
        known = tuple(map(normal, named))
        numbers = {name: number for number, name in enumerate(known)}
        own = [[tree.choose(numbers, normal(each), what="class") for each in of_image] for of_image in own]
    elif all(isinstance(each, int | np.integer) for each in flat):
        known = _names(class_names, max(map(int, flat), default=-1) + 1)
        if wrong := [each for each in flat if not 0 <= each < len(known)]:
            raise ValueError(f"labels hold {wrong[0]}, but the classes are numbered 0..{len(known) - 1}.")
    else:
        kinds = sorted({type(each).__name__ for each in flat})
        hot = ", such as labels.argmax(axis=1) of one-hot rows" if several else ""
        raise ValueError(
            f"labels are of type {', '.join(kinds)}: give all as names of classes, or as numbers from 0{hot}."
        )
    if not several:
        return np.array([of_image[0] for of_image in own], np.int32), known
    hot = np.zeros((len(own), len(known)), np.uint8)
    for row, of_image in zip(hot, own, strict=True):
        row[of_image] = 1
    return hot, known


def _names(class_names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count))) if class_names is None else tuple(class_names)
