"""Reads files of torch.save, in zip (since torch 1.6) and legacy format, without torch and without executing them.

Both formats hold a pickle of the state dict, in which storages are persistent ids, followed by the bytes of the
storages. Tensors are views of storages (torch/serialization.py, torch/_utils.py, torch/_tensor.py).
"""

import functools
import io
import math
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from jft.utils import safe_pickle
from jft.weights.readers import zip_file

Reads = dict[str, Callable[[], np.ndarray]]

_MAX_DIMENSIONS = 64  # NumPy's limit
_SHARED = 16  # limit on bytes of tensors for each byte of the file: tied weights share their bytes

_STORAGES = {
    "Float": np.dtype("<f4"),
    "Double": np.dtype("<f8"),
    "Half": np.dtype("<f2"),
    "BFloat16": np.dtype(ml_dtypes.bfloat16),
    "Long": np.dtype("<i8"),
    "Int": np.dtype("<i4"),
    "Short": np.dtype("<i2"),
    "Char": np.dtype("i1"),
    "Byte": np.dtype("u1"),
    "Bool": np.dtype("?"),
}


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    numel: int

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize


class _Tensor:
    """Stands for a torch tensor or parameter: a view of a storage."""

    __slots__ = ("offset", "shape", "storage", "strides")

    def __init__(self, storage: Any = None, offset: Any = 0, shape: Any = (), strides: Any = (), *_: Any) -> None:
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Follows torch.Tensor.__setstate__: four entries describe the view; of five, the first is the data."""
        if len(state) == 5:
            self.adopt(state[0])
        elif len(state) == 4:
            self.storage, self.offset, self.shape, self.strides = state

    def adopt(self, other: "_Tensor") -> "_Tensor":
        """Becomes the same view as another tensor."""
        self.__setstate__((other.storage, other.offset, other.shape, other.strides))
        return self

    def check(self) -> None:
        """ValueError unless the view is within its storage and no larger: stride 0 could make terabytes of 4 bytes."""
        ok = isinstance(self.storage, _Storage) and len(self.shape) == len(self.strides) <= _MAX_DIMENSIONS
        ok = ok and all(type(n) is int and 0 <= n < 2**63 for n in (self.offset, *self.shape, *self.strides))
        if ok and 0 not in self.shape:
            ok = self.offset + self._reach() <= self.storage.numel and math.prod(self.shape) <= self.storage.numel
        if not ok:
            raise ValueError("a tensor reaches out of its storage")

    @property
    def nbytes(self) -> int:
        """Size of the array in bytes."""
        return math.prod(self.shape) * self.storage.dtype.itemsize

    def _reach(self) -> int:
        """Number of elements from the view's first to its last, inclusive."""
        return 1 + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))

    def read(self, part: Callable[[_Storage, int, int], bytes]) -> np.ndarray:
        """The array. It keeps only its own bytes in memory, because hundreds of tensors may share one storage.

        Args:
          part: function from a storage, a start and a stop to its bytes in between.
        """
        dtype = self.storage.dtype
        if 0 in self.shape:
            return np.empty(self.shape, dtype)
        start = self.offset * dtype.itemsize
        raw = part(self.storage, start, start + self._reach() * dtype.itemsize)
        array = np.ndarray(self.shape, dtype, raw, strides=[stride * dtype.itemsize for stride in self.strides])
        return array.copy() if array.nbytes < len(raw) else array


class _Dict(dict):
    """Stands for OrderedDict; drops the attribute _metadata that torch sets on a state dict."""

    __slots__ = ()

    def __init__(self, pairs: Any = ()) -> None:  # Python 2 pickles it with its pairs
        super().__init__()
        for key, value in pairs:
            if type(key) is not str:
                raise ValueError("an ordered dict has a key that is no text")
            safe_pickle.set_new(self, key, value)

    def __setstate__(self, state: Any) -> None:
        pass


def _parameter(data: _Tensor | None = None, *_: Any) -> _Tensor:
    return _Tensor() if data is None else _Tensor().adopt(data)


_TORCH = {
    ("collections", "OrderedDict"): _Dict,
    ("torch._utils", "_rebuild_tensor"): _Tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch.nn.parameter", "Parameter"): _parameter,  # before torch 0.4, its data in a state
    **{("torch", f"{name}Storage"): name for name in _STORAGES},
    **{("torch", f"{name}Tensor"): _Tensor for name in _STORAGES},  # before torch 0.2
}


def read_zip(path: Path, members: Mapping[str, zip_file.Member]) -> Reads:
    """Opens a torch file in zip format.

    Args:
      path: the file.
      members: from `zip_file.members`.

    Returns:
      {name in the state dict: function that reads the tensor}.

    Raises:
      Exception: various types; nothing was executed.
    """
    pickles = [name for name in members if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError(f"a zip archive with {len(pickles)} members data.pkl, not 1: torch did not save it")
    folder = pickles[0].removesuffix("data.pkl")
    storages: dict[str, _Storage] = {}
    zip_file.check(path, members[pickles[0]])
    pickled = zip_file.read(path, members[pickles[0]])
    tensors = _state_dict(_load_torch(io.BytesIO(pickled), storages), path)
    order = members.get(f"{folder}byteorder")
    swap = order is not None and zip_file.read(path, order, 0, 4) == b"big"
    for storage in storages.values():
        member = members.get(f"{folder}data/{storage.key}")
        if member is None or member.size != storage.nbytes:
            raise ValueError(f"storage {storage.key} has {member and member.size} bytes, not {storage.nbytes}")

    @functools.cache  # once, however many tensors lie in it
    def checked(key: str) -> zip_file.Member:
        member = members[f"{folder}data/{key}"]
        zip_file.check(path, member)
        return member

    def part(storage: _Storage, start: int, stop: int) -> bytes:
        raw = zip_file.read(path, checked(storage.key), start, stop)
        return np.frombuffer(raw, f"u{storage.dtype.itemsize}").byteswap().tobytes() if swap else raw

    return {name: functools.partial(tensor.read, part) for name, tensor in tensors.items()}


def read_legacy(path: Path) -> Reads:
    """Opens a torch file in legacy format, which starts with a magic number; see `read_zip` for result and errors."""
    size = path.stat().st_size
    storages: dict[str, _Storage] = {}
    offsets: dict[str, int] = {}
    with path.open("rb") as file:
        for _ in ("magic number", "protocol version", "system"):
            safe_pickle.load(file, {})
        tensors = _state_dict(_load_torch(file, storages), path)
        for key in _texts(safe_pickle.load(file, {})):
            (numel,) = struct.unpack("<q", file.read(8))
            if key not in storages or numel != storages[key].numel:
                raise ValueError(f"storage {key} has {numel} elements, its tensors expect {storages.get(key)}")
            offsets[key] = file.tell()
            if file.seek(storages[key].nbytes, 1) > size:
                raise ValueError(f"it ends after {size} bytes in storage {key}, which needs {file.tell()}")
    if missing := storages.keys() - offsets.keys():
        raise ValueError(f"{len(missing)} of {len(storages)} storages are missing")

    def part(storage: _Storage, start: int, stop: int) -> bytes:
        with path.open("rb") as file:
            file.seek(offsets[storage.key] + start)
            return file.read(stop - start)

    return {name: functools.partial(tensor.read, part) for name, tensor in tensors.items()}


def _texts(keys: Any) -> list[str]:
    """Returns `keys`; ValueError unless it is a list of str."""
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise ValueError("its storages have no list of names")
    return keys


def _load_torch(file: BinaryIO, storages: dict[str, _Storage]) -> Any:
    """The pickled object, with its tensors as `_Tensor`; fills `storages` by key."""

    def persistent_load(pid: tuple[Any, ...]) -> _Storage:
        if type(pid) is not tuple or len(pid) not in (5, 6):
            raise ValueError("it refers to something other than a storage")
        kind, name, key, _, numel, *view = pid
        named = type(name) is type(key) is str and type(numel) is int and 0 <= numel < 2**63
        if kind != "storage" or view not in ([], [None]) or not named:
            raise ValueError("it refers to something other than a storage")
        storage = _Storage(key, _STORAGES[name], numel)
        if storages.setdefault(key, storage) != storage:
            raise ValueError(f"storage {key} is described in two ways")
        return storage

    return safe_pickle.load(file, _TORCH, persistent_load=persistent_load, encoding="utf-8")


def _state_dict(tree: Any, path: Path) -> dict[str, _Tensor]:
    """The state dict of a checkpoint, which may be wrapped under 'state_dict' or 'model'."""
    for wrapper in ("state_dict", "model"):
        if isinstance(tree, dict) and isinstance(tree.get(wrapper), dict):
            tree = tree[wrapper]
    if not isinstance(tree, dict) or not tree:
        raise ValueError(f"it holds no state dict but a {type(tree).__name__}")
    for name, value in tree.items():
        if type(name) is not str or not isinstance(value, _Tensor):
            raise ValueError(f"its entry {str(name)[:80]!r} is no tensor but a {type(value).__name__}")
        value.check()
    claimed, size = sum(tensor.nbytes for tensor in tree.values()), path.stat().st_size
    if claimed > _SHARED * size:  # a thousand tensors may be windows onto the same bytes
        raise ValueError(f"its tensors are {claimed} bytes, the file has {size}")
    prefix = "module." if all(name.startswith("module.") for name in tree) else ""
    return {name.removeprefix(prefix): tensor for name, tensor in tree.items()}
