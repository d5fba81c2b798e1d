"""Finds the position of each weight in a Keras h5 file, using a child process.

The HDF5 library loops for ever, or crashes, on some damaged files (one changed byte in the heap of strings is enough),
and Python cannot interrupt it. So it runs in a child process with limited memory and time, which prints the positions
of the arrays; these are then read without the library. Run as a script, this file is that child: it imports only h5py.

There are two layouts. The legacy one lists its content in the attributes `layer_names` and `weight_names`. In
`.weights.h5` and `.keras` (keras/src/saving/saving_lib.py), `layers/<class>_<n>/vars/<i>` is variable i of the n-th
layer of a class, and since about Keras 3.6 the attribute `name` of `vars` is the layer's name.
"""

import collections
import contextlib
import io
import itertools
import json
import math
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import h5py

LIMIT = 60  # seconds of wall time, for slow disks
CPU_LIMIT = 2  # seconds of CPU time; a valid file of a thousand weights takes a quarter of a second
MEMORY_LIMIT = 2**30  # bytes in addition to those for starting Python and the library; a valid file takes a few million

_UNSUITABLE = 3  # the child's exit status
_NEW_ROOTS = ("layers", "_layer_checkpoint_dependencies")  # the second up to Keras 2.12
_NO_WEIGHTS = "seed_generator"  # the state of a layer that draws, such as Dropout


class UnsuitableError(ValueError):
    """The file may be valid, but jft cannot read this kind; the message says what to do."""


class Weight(NamedTuple):
    """A weight of the file.

    Attributes:
      layer: name of the layer; empty if the file does not name it.
      group: path of the layer's group in the file.
      position: index among the layer's weights.
      dtype: NumPy dtype as text.
      shape: shape of the array.
      offset: position of the first byte in the HDF5 file.
    """

    layer: str
    group: str
    position: int
    dtype: str
    shape: tuple[int, ...]
    offset: int


def contents(path: str, start: int = 0, size: int | None = None) -> list[Weight]:
    """Lists a Keras h5 file.

    Args:
      path: the h5 file, or an archive that holds it uncompressed.
      start: position of its first byte.
      size: its length in bytes; None: the whole file.

    Returns:
      The weights in the order of the layers; in the new layout, in the order of the layers of each class.

    Raises:
      UnsuitableError: the file holds a Lambda layer, or variables outside of its layers.
      ValueError: the file is damaged or has another layout, its weights are compressed or in pieces, or the library
        exceeds the limits on memory or time.
    """
    arguments = [path, str(start), str(size or ""), str(MEMORY_LIMIT), str(CPU_LIMIT)]
    try:
        child = subprocess.run(
            [sys.executable, "-P", __file__, *arguments], capture_output=True, timeout=LIMIT, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"the HDF5 library did not understand it within {LIMIT} s") from None
    if child.returncode == -signal.SIGXCPU:
        raise ValueError(f"the HDF5 library did not understand it within {CPU_LIMIT} s of computing")
    if child.returncode:
        why = child.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["the HDF5 library crashed on it"]
        raise (UnsuitableError if child.returncode == _UNSUITABLE else ValueError)(why[0][:500])
    return [Weight(*row) for row in json.loads(child.stdout)]


def check_config(text: str | bytes) -> Any:
    """Parses the config of a model as data; nothing in it is executed.

    Raises:
      UnsuitableError: the config has a Lambda layer, which is Python code.
      ValueError: the text is not valid JSON.
    """

    def look(pairs: dict[str, Any]) -> dict[str, Any]:
        if pairs.get("class_name") == "Lambda":
            raise UnsuitableError(
                "its model has a Lambda layer, which is code: it is not run, and what it computes is not known; save "
                "the weights alone, by model.save_weights('x.weights.h5')"
            )
        return pairs

    return json.loads(text, object_hook=look)


def _rows(file: h5py.File) -> Iterator[Weight]:
    if "model_config" in file.attrs:
        check_config(_text(_attribute(file, "model_config")))
    names = list(file)
    whole = "model_weights" in names and not _names(file, "layer_names")  # model.save() puts it a level lower
    root = _walk(file, "model_weights") if whole else file
    if layers := _names(root, "layer_names"):
        return _legacy_rows(root, _once(layers))
    if new := [name for name in _NEW_ROOTS if name in names]:
        return _new_rows(file, new[0])
    raise ValueError(
        "no attribute layer_names, so not Keras's legacy h5 layout; and no group layers, so not its new one"
    )


def _legacy_rows(root: h5py.Group, layers: list[str]) -> Iterator[Weight]:
    for layer in layers:
        group = _walk(root, layer)
        for position, weight in enumerate(_names(group, "weight_names")):
            yield _weight(layer, layer, position, _walk(group, weight))


def _new_rows(file: h5py.File, root: str) -> Iterator[Weight]:
    """All `vars` below the root, with the layers of each class in order; ValueError if two paths lead to one group."""
    if "vars" in file and len(_group(file, "vars")):
        raise UnsuitableError("its model has variables of its own, outside of its layers: jft has no such model")
    seen, left = set(), [(root, _group(file, root))]
    while left:
        path, group = left.pop()
        address = h5py.h5o.get_info(group.id).addr  # pyright: ignore[reportAttributeAccessIssue]  # compiled, no stub
        if address in seen:
            raise ValueError(f"{path!r} is a group that another path leads to")
        seen.add(address)
        names = [name for name in sorted(group, key=_numbered, reverse=True) if name not in ("vars", _NO_WEIGHTS)]
        left += [(f"{path}/{name}", _group(group, name)) for name in names]
        if "vars" in group:
            variables = _group(group, "vars")
            name = _text(_attribute(variables, "name")) if "name" in variables.attrs else ""
            for key in sorted(variables, key=_numbered):
                yield _weight(name, path, int(key), _walk(variables, key))


def _numbered(name: str) -> tuple[str, int]:
    """Sorts 'conv2d', 'conv2d_1', 'conv2d_2', 'conv2d_10'; and '2', '10'."""
    found = re.fullmatch(r"(.*?)_?(\d{0,9})", name, re.DOTALL)
    assert found is not None  # any text matches
    base, number = found.groups()
    return base, int(number or 0)


def _once(names: list[str]) -> list[str]:
    [(twice, count)] = collections.Counter(names).most_common(1)
    if count > 1:
        raise ValueError(f"it names {f'{twice}/0'[:80]!r} twice")
    return names


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """A list of names. Keras splits one longer than 64 kB into attributes with a number behind their name."""
    numbered = (f"{attribute}{i}" for i in itertools.count())
    parts = [attribute] if attribute in group.attrs else itertools.takewhile(group.attrs.__contains__, numbered)
    return [_text(name) for part in parts for name in _attribute(group, part)]


def _attribute(group: h5py.Group | h5py.Dataset, name: str) -> Any:
    """An attribute's value. ValueError if it claims to be larger than the file: h5py would allocate that memory."""
    attribute = group.attrs.get_id(name)
    if math.prod(attribute.shape or ()) * attribute.dtype.itemsize > group.file.id.get_filesize():
        raise ValueError(f"attribute {name!r} claims to be larger than the file")
    return group.attrs[name]


def _walk(group: h5py.Group, path: str) -> Any:
    """The object at `path`, following only hard links: external links may lead to other files."""
    found: Any = group
    for part in filter(None, path.split("/")):
        if not isinstance(found, h5py.Group) or not isinstance(found.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{path!r} is missing, or a link that leads elsewhere")
        found = found[part]
    return found


def _group(parent: h5py.Group, path: str) -> h5py.Group:
    group = _walk(parent, path)
    if not isinstance(group, h5py.Group):
        raise ValueError(f"{group.name!r} is no group of layers or variables")
    return group


def _weight(layer: str, group: str, position: int, dataset: Any) -> Weight:
    """The position of a dataset; ValueError unless it is uncompressed and contiguous in the file."""
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{dataset.name!r} is no tensor")
    offset = dataset.id.get_offset()
    if offset is None and dataset.size:
        raise ValueError(f"{dataset.name!r} is compressed, in pieces, or in another file: Keras stores it plainly")
    dtype: Any = dataset.dtype.str
    if dataset.dtype.itemsize == 2 and "dtype" in dataset.attrs:  # HDF5 has no such type
        dtype = {"bfloat16": "bfloat16"}.get(_text(_attribute(dataset, "dtype")), dtype)
    return Weight(layer, group, position, dtype, dataset.shape, offset or 0)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


class _Part(io.RawIOBase):
    """A part of a file as a file object: the h5 file inside an archive."""

    def __init__(self, path: str, start: int, size: int) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - until the process ends
        self._start, self._size, self._at = start, size, 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._at)
        wanted = max(0, min(len(buffer), self._size - self._at))
        count = self._file.readinto(memoryview(buffer).cast("B")[:wanted])
        self._at += count
        return count


def _limit(memory: int, seconds: int) -> None:
    """Limits this process's memory and CPU time, where the system supports it; the parent's timeout always applies."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    seconds += math.ceil(spent.ru_utime + spent.ru_stime)
    limits = {resource.RLIMIT_CPU: (seconds, seconds + 1), resource.RLIMIT_CORE: (0, 0)}  # the second one is SIGKILL
    with contextlib.suppress(OSError), open("/proc/self/statm") as file:
        most = memory + int(file.read().split()[0]) * resource.getpagesize()
        limits[resource.RLIMIT_AS] = (most, most)
    for kind, limit in limits.items():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, limit)


def _main(path: str, start: str, size: str, memory: str, seconds: str) -> None:
    _limit(int(memory), int(seconds))
    # A lock is refused on many network file systems.
    options: dict[str, Any] = {"name": _Part(path, int(start), int(size))} if size else {"name": path, "locking": False}
    with h5py.File(mode="r", **options) as file:
        json.dump(list(_rows(file)), sys.stdout)


if __name__ == "__main__":
    try:
        _main(*sys.argv[1:])
    except Exception as error:  # the library raises of many kinds; the parent has use for one line
        text = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, MemoryError) or "memory allocation failed" in text:
            text = f"the HDF5 library wanted more than {int(sys.argv[4]) // 2**20} MiB of memory for it"
        print(text, file=sys.stderr)
        sys.exit(_UNSUITABLE if isinstance(error, UnsuitableError) else 1)
