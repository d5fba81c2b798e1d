"""ImageNet images, labeled by the WordNet ids in their names or by the official order of the validation set.

The 1000 ids, sorted, are the classes of every published weight set. jft reads them from Keras' class index in the
image folder, or from the list file of TensorFlow Datasets, without importing or downloading anything.
"""

import functools
import importlib.util
import os
import pathlib
import re
from collections.abc import Callable

import numpy as np

from jft.data import listing
from jft.data.source import Source
from jft.utils import json_file

CLASSES = 1000
CLASS_INDEX = "imagenet_class_index.json"

_WNID = re.compile(r"n\d{8}")
_VALIDATION = re.compile(r"ILSVRC2012_val_(\d{8})")


def load(folder: str | os.PathLike) -> Source:
    """Loads the images of a folder, at any depth, in natural order.

    Args:
      folder: holds images named '<id>_<anything>.jpg', such as 'n01440764_tench.jpg'; or in folders named by their id;
        or the official validation set, 'ILSVRC2012_val_00000001.JPEG'. It may hold imagenet_class_index.json.

    Returns:
      A source whose class names are the 1000 ids.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: the folder holds no images or images without a label, or no list of the ids is found.
    """
    root = pathlib.Path(folder).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root} of ImageNet images.")
    images = listing.images_in(root, listing.LeftOut())
    if not images:
        raise ValueError(f"{root} holds no images (.JPEG, .jpg, .png or another format that jft reads).")
    ids = class_ids(root)
    numbers = {wnid: number for number, wnid in enumerate(ids)}
    labels = [numbers.get(_wnid(path, root) or "") for path in images]
    if unlabeled := [path for path, label in zip(images, labels, strict=True) if label is None]:
        raise ValueError(
            f"{len(unlabeled)} of {len(images)} images in {root} have no ImageNet id in their name or folder, first "
            f"{unlabeled[0].relative_to(root)}. Name them '<id>_<anything>.jpg', such as n01440764_tench.jpg, or put "
            "them into folders named by their id."
        )
    rows = np.arange(len(images), dtype=np.int64)
    return Source("imagenet", ids, np.array(labels, np.int32), tuple(images), rows)


def class_ids(folder: pathlib.Path | None = None) -> tuple[str, ...]:
    """The 1000 WordNet ids in the order of the published weights' outputs.

    Args:
      folder: may hold imagenet_class_index.json, `{"0": ["n01440764", "tench"], ...}`, which is read first.

    Raises:
      ValueError: neither the folder nor TensorFlow Datasets has a valid list.
    """
    index = folder / CLASS_INDEX if folder else None
    if index is not None and index.is_file():
        return _sound(index, _read_index)
    path = _official("labels.txt")
    if path is None:
        raise ValueError(
            f"no list of ImageNet's classes was found: put {CLASS_INDEX} into the folder of the images "
            "(https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json), or install "
            "tensorflow-datasets."
        )
    return _sound(path, lambda file: file.read_text().split())


def class_names() -> tuple[str, ...]:
    """The English names of the 1000 classes, in the order of the published weights' outputs."""
    return tuple((pathlib.Path(__file__).parent / "imagenet_names.txt").read_text().splitlines())


def _sound(path: pathlib.Path, read: Callable[[pathlib.Path], list[str]]) -> tuple[str, ...]:
    """The ids in a file; ValueError unless they are 1000 different ids in ascending order."""
    try:
        ids = read(path)
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"{path} is no list of ImageNet's classes: {type(error).__name__}: {error}.") from error
    if len(ids) != CLASSES or sorted(set(ids)) != ids or not all(_WNID.fullmatch(wnid) for wnid in ids):
        raise ValueError(f"{path} does not list {CLASSES} different WordNet ids in ascending order.")
    return tuple(ids)


def _read_index(path: pathlib.Path) -> list[str]:
    index = json_file.read(path, dict[str, list[str]], "get it anew")
    return [index[str(number)][0] for number in range(len(index))]


def _official(name: str) -> pathlib.Path | None:
    """A file of TensorFlow Datasets' ImageNet, without importing the package, or None."""
    spec = importlib.util.find_spec("tensorflow_datasets")
    for place in spec.submodule_search_locations or () if spec else ():
        path = pathlib.Path(place, "datasets", "imagenet2012", name)
        if path.exists():
            return path
    return None


def _wnid(path: pathlib.Path, root: pathlib.Path) -> str | None:
    """The id of an image: from its folder's name, from its number in the validation set, or from its own name."""
    for folder in reversed(path.relative_to(root).parts[:-1]):
        if _WNID.fullmatch(folder):
            return folder
    if number := _VALIDATION.fullmatch(path.stem):
        return _validation_id(int(number[1]))
    return path.stem.split("_")[0]


def _validation_id(number: int) -> str | None:
    """The id of validation image 1 .. 50000."""
    ids = _validation_ids()
    return ids[number - 1] if 0 < number <= len(ids) else None


@functools.cache
def _validation_ids() -> tuple[str, ...]:
    path = _official("validation_labels.txt")
    if path is None:
        raise ValueError(
            "images named ILSVRC2012_val_… do not name their class, and TensorFlow Datasets, which lists the classes, "
            "is not installed: put them into folders named by their WordNet id, such as n01440764."
        )
    return tuple(path.read_text().split())
