"""Where in a Keras legacy h5 file each weight lies, told by a process of its own.

The HDF5 library loops for ever, or crashes, on some damaged files (a changed byte in the heap of strings is enough),
and nothing in Python can interrupt it. So it parses in a child process, which may die, and which prints where the
numbers are; they are then read without the library. Run as a script, this file is that child: it imports h5py only.
"""

import itertools
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import h5py

LIMIT = 60  # seconds; a sound file takes less than one


def contents(path: str) -> list[tuple[str, str, list[int], int]]:
    """Lists a Keras legacy h5 file.

    Args:
      path: the file.

    Returns:
      Per weight: 'layer/position', its NumPy dtype as text, its shape, the byte of the file at which it starts.

    Raises:
      ValueError: the file is damaged, of another layout, or its weights do not lie plainly in it.
    """
    try:
        child = subprocess.run(
            [sys.executable, "-P", __file__, path], capture_output=True, timeout=LIMIT, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"the HDF5 library did not understand it within {LIMIT} s") from None
    if child.returncode:
        why = child.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["the HDF5 library crashed on it"]
        raise ValueError(why[0])
    return [tuple(row) for row in json.loads(child.stdout)]


def _rows(path: str) -> Iterator[tuple[str, str, tuple[int, ...], int]]:
    with h5py.File(path, "r", locking=False) as file:  # a lock is refused on many network file systems
        whole = "model_weights" in list(file) and not _names(file, "layer_names")  # model.save() puts it a level lower
        root = _walk(file, "model_weights") if whole else file
        layers = _names(root, "layer_names")
        if not layers:
            raise ValueError("no attribute layer_names, so not Keras's legacy h5 layout")
        for layer in layers:
            group = _walk(root, layer)
            for position, weight in enumerate(_names(group, "weight_names")):
                dataset = _walk(group, weight)
                offset = _offset(dataset)
                yield f"{layer}/{position}", dataset.dtype.str, dataset.shape, offset


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """A list of names. Keras splits one longer than 64 kB into attributes with a number behind their name."""
    numbered = (f"{attribute}{i}" for i in itertools.count())
    parts = [attribute] if attribute in group.attrs else itertools.takewhile(group.attrs.__contains__, numbered)
    return [_text(name) for part in parts for name in _attribute(group, part)]


def _attribute(group: h5py.Group, name: str) -> Any:
    """Its value, if that is no larger than the file: h5py takes the memory that a damaged attribute claims."""
    attribute = group.attrs.get_id(name)
    if math.prod(attribute.shape or ()) * attribute.dtype.itemsize > group.file.id.get_filesize():
        raise ValueError(f"attribute {name!r} claims to be larger than the file")
    return group.attrs[name]


def _walk(group: h5py.Group, path: str) -> Any:
    """What lies under `path`, through hard links only: others may lead anywhere, an external one to another file."""
    for part in filter(None, path.split("/")):
        if not isinstance(group, h5py.Group) or not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{path!r} is missing, or a link that leads elsewhere")
        group = group[part]
    return group


def _offset(dataset: Any) -> int:
    """The byte of the file at which the dataset starts, if it lies there in one piece, uncompressed."""
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{dataset.name!r} is no tensor")
    offset = dataset.id.get_offset()
    if offset is None and dataset.size:
        raise ValueError(f"{dataset.name!r} is compressed, in pieces, or in another file: Keras stores it plainly")
    return offset or 0


def _text(value: str | bytes) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


if __name__ == "__main__":
    try:
        json.dump(list(_rows(sys.argv[1])), sys.stdout)
    except Exception as error:  # the library raises of many kinds; the parent has use for one line
        sys.exit(" ".join(str(error).split()) or type(error).__name__)
