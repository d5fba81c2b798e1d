"""Where in a Keras h5 file each weight lies, told by a process of its own.

The HDF5 library loops for ever, or crashes, on some damaged files (a changed byte in the heap of strings is enough),
and nothing in Python can interrupt it. So it parses in a child process, which may die, whose memory and time are
limited, and which prints where the numbers are; they are then read without the library. Run as a script, this file is
that child: it imports h5py only.

Two layouts: the legacy one, whose attributes `layer_names` and `weight_names` list what there is, and that of
`.weights.h5` and `.keras` (keras/src/saving/saving_lib.py), where `layers/<class>_<n>/vars/<i>` is variable i of the
n-th layer of a class, and the attribute `name` of `vars`, since Keras 3.6 or so, is the layer's own name.
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

LIMIT = 60  # seconds on the clock, which a slow disk may take
CPU_LIMIT = 2  # seconds of computing; a sound file of a thousand weights takes a quarter of one
MEMORY_LIMIT = 2**30  # bytes beyond what Python and the library take to start; a sound file takes some millions

_UNSUITABLE = 3  # the child's exit status
_NEW_ROOTS = ("layers", "_layer_checkpoint_dependencies")  # the second up to Keras 2.12
_NO_WEIGHTS = "seed_generator"  # the state of a layer that draws, such as Dropout


class UnsuitableError(ValueError):
    """The file may be sound, and is not one that can be read; says what to do."""


class Weight(NamedTuple):
    """A weight of the file.

    Attributes:
      layer: name of the layer; empty where the file has none for it.
      group: path in the file of what belongs to the layer.
      position: among the layer's weights.
      dtype: NumPy's, as text.
      shape: of the array.
      offset: byte of the HDF5 file at which it starts.
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
      path: the file, or one that holds it in one piece.
      start: byte at which it begins.
      size: its length; None: all of the file.

    Returns:
      Its weights, in the order of its layers; in the new layout in that of each class of layers.

    Raises:
      UnsuitableError: it holds a Lambda layer, or variables outside of its layers.
      ValueError: the file is damaged, of another layout, its weights do not lie plainly in it, or the library takes
        more memory or time for it than a sound file needs.
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
    """Parses the config of a model, as data; nothing in it is made or run.

    Raises:
      UnsuitableError: it has a Lambda layer: Python code.
      ValueError: it is no JSON.
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
    """All `vars` below the root, layers of one class in their order; links of all kinds lead to a group once."""
    if "vars" in file and len(_group(file, "vars")):
        raise UnsuitableError("its model has variables of its own, outside of its layers: jft has no such model")
    seen, left = set(), [(root, _group(file, root))]
    while left:
        path, group = left.pop()
        address = h5py.h5o.get_info(group.id).addr
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
    base, number = re.fullmatch(r"(.*?)_?(\d{0,9})", name, re.DOTALL).groups()
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


def _group(parent: h5py.Group, path: str) -> h5py.Group:
    group = _walk(parent, path)
    if not isinstance(group, h5py.Group):
        raise ValueError(f"{group.name!r} is no group of layers or variables")
    return group


def _weight(layer: str, group: str, position: int, dataset: Any) -> Weight:
    """Where a dataset lies, if it lies in the file in one piece, uncompressed."""
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{dataset.name!r} is no tensor")
    offset = dataset.id.get_offset()
    if offset is None and dataset.size:
        raise ValueError(f"{dataset.name!r} is compressed, in pieces, or in another file: Keras stores it plainly")
    dtype = dataset.dtype.str
    if dataset.dtype.itemsize == 2 and "dtype" in dataset.attrs:  # HDF5 has no such type
        dtype = {"bfloat16": "bfloat16"}.get(_text(_attribute(dataset, "dtype")), dtype)
    return Weight(layer, group, position, dtype, dataset.shape, offset or 0)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


class _Part(io.RawIOBase):
    """A part of a file, as a file: the h5 within an archive."""

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
    """Lowers what this process may take; where the system knows no such limit, the parent's clock is left."""
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
    options = {"name": _Part(path, int(start), int(size))} if size else {"name": path, "locking": False}
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
