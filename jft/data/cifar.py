"""Dataset 'cifar10' (Krizhevsky 2009) from the author's own Python pickles, in a folder or in the archive."""

import functools
import hashlib
import io
import pathlib
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from absl import logging

from jft.data import lazy_tf, tar, tfds
from jft.utils import pickled_arrays, safe_pickle

_FOLDER = "cifar-10-batches-py"
_ARCHIVE = "cifar-10-python.tar.gz"
URL = f"https://www.cs.toronto.edu/~kriz/{_ARCHIVE}"
_MD5 = "c58f30108f718f92721af3b95e74349a"
_META = "batches.meta"
_BATCHES = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}
_FILES = (_META, *_BATCHES["train"], *_BATCHES["test"])
_MAX_BYTES = 2**26  # of one member; the official ones have 31 million

REMEDY = f"Download {URL} (MD5 {_MD5}) and put it, packed or unpacked, into data_dir."

Reader = Callable[[], tuple[np.ndarray, np.ndarray]]


def find(data_dir: str | None) -> tuple[tuple[str, ...], dict[str, Reader]] | None:
    """Finds the classes and splits of the official pickles.

    Args:
      data_dir: the folder `cifar-10-batches-py`, the archive, or a folder that holds either; None or empty: the
        default folder of TFDS.

    Returns:
      The class names, and {'train': function, 'test': function}. Each function returns images, uint8 [n, 32, 32, 3],
      and labels, int64 [n]. A truncated batch that lists more labels than images yields one example for each image.
      None where TFDS has CIFAR-10 prepared and TensorFlow can read it, or neither form is there.

    Raises:
      ValueError: a file is missing or broken, or would run code.
    """
    root = tfds.root(data_dir)
    if tfds.prepared("cifar10", root) and lazy_tf.is_installed():
        return None
    for place in (root / _FOLDER, root, root / _ARCHIVE):
        if place.is_file():
            _warn_of_other_md5(place)
            open_files = functools.partial(_from_archive, place)
        elif (place / _META).is_file() or (place / "data_batch_1").is_file():
            open_files = functools.partial(_from_folder, place)
        else:
            continue
        class_names = _class_names(open_files)
        return class_names, {split: functools.partial(_read, open_files, names) for split, names in _BATCHES.items()}
    return None


def _from_folder(place: pathlib.Path, names: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Path and content of the files of these names."""
    for name in names:
        if not (place / name).is_file():
            raise ValueError(f"{place} lacks {name}; CIFAR-10 is {', '.join(_FILES)}. {REMEDY}")
        if (size := (place / name).stat().st_size) > _MAX_BYTES:
            raise ValueError(f"{place / name} has {size} bytes; the official files have 31 million. {REMEDY}")
        yield str(place / name), (place / name).read_bytes()


def _from_archive(place: pathlib.Path, names: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Path and content of the files of these names, read from the archive without unpacking it to disk."""
    found = {}
    try:
        for member, read in tar.files(place, _MAX_BYTES):
            name = member.removeprefix(f"{_FOLDER}/")
            if name in names:
                found[name] = read()
            if len(found) == len(names):
                break
    except (ValueError, tarfile.TarError, EOFError, OSError, zlib.error) as e:
        reason = str(e).partition("\n")[0]
        raise ValueError(f"cannot read {place} ({type(e).__name__}: {reason}). {REMEDY}") from e
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"{place} lacks {_FOLDER}/{', '.join(missing)}. {REMEDY}")
    for name in names:
        yield f"{place}:{name}", found.pop(name)


@functools.cache
def _warn_of_other_md5(archive: pathlib.Path) -> None:
    with open(archive, "rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != _MD5:  # no error: truncated or repacked copies are legitimate
        logging.warning("%s is not the official archive: its MD5 is %s, the official one %s.", archive, found, _MD5)


def _load(where: str, pickled: bytes) -> dict[str, Any]:
    """A pickled dict; its keys are bytes, written by Python 2."""
    try:
        content = pickled_arrays.load_arrays(io.BytesIO(pickled), encoding="bytes")
        return {key.decode() if isinstance(key, bytes) else key: value for key, value in content.items()}
    except safe_pickle.UnsafePickleError as e:
        raise safe_pickle.UnsafePickleError(f"{where}: {e}.") from e
    except (ValueError, AttributeError) as e:
        raise ValueError(f"{where} is not a batch of CIFAR-10: {e}. {REMEDY}") from e


def _class_names(open_files: Callable[..., Iterator[tuple[str, bytes]]]) -> tuple[str, ...]:
    [(where, pickled)] = open_files((_META,))
    names = _load(where, pickled).get("label_names")
    if not isinstance(names, list) or len(names) != 10 or not all(isinstance(name, str | bytes) for name in names):
        raise ValueError(f"{where} does not name CIFAR-10's 10 classes. {REMEDY}")
    return tuple(name.decode("latin1") if isinstance(name, bytes) else name for name in names)


def _read(
    open_files: Callable[..., Iterator[tuple[str, bytes]]], names: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of the batches of these names, concatenated."""
    images, labels = [], []
    for where, pickled in open_files(names):
        batch = _load(where, pickled)
        data, numbers = batch.get("data"), _numbers(batch.get("labels"))
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (3072,):
            found = f"{data.dtype} {list(data.shape)}" if isinstance(data, np.ndarray) else type(data).__name__
            raise ValueError(f"{where} holds {found} data; a batch of CIFAR-10 holds uint8 [n, 3072]. {REMEDY}")
        if len(numbers) < len(data):
            raise ValueError(f"{where} holds {len(data)} images and {len(numbers)} labels of 0 to 9. {REMEDY}")
        images.append(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))  # stored as a red, a green and a blue plane
        labels.append(numbers[: len(data)])  # a truncated batch may still list all 10,000 labels
    return np.ascontiguousarray(np.concatenate(images)), np.concatenate(labels)


def _numbers(labels: Any) -> np.ndarray:
    """Labels as int64 [n]; empty if they are anything but integers 0 .. 9.

    Checked before `np.array` sees the list: a list that contains itself twice, nested, would take it for ever.
    """
    if isinstance(labels, list) and all(type(n) is int and 0 <= n <= 9 for n in labels):
        labels = np.array(labels, np.int64)
    if not (isinstance(labels, np.ndarray) and labels.ndim == 1 and labels.dtype.kind in "iu"):
        return np.empty(0, np.int64)
    return labels if labels.size == 0 or 0 <= labels.min() <= labels.max() <= 9 else np.empty(0, np.int64)
