"""Pickles of strangers, read without running them: names are answered from a list, sizes are checked before memory.

A pickle is a program: it may call whatever it can name, and it says itself how much memory to take. Here it can name
only what the caller lists, call that and do nothing else to it, and take no more than the file's size warrants.
"""

import itertools
import pickle
import pickletools
import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, ClassVar

import numpy as np

# How an opcode's argument says its length (pickletools' codes), as struct formats.
_LENGTHS = {
    pickletools.TAKEN_FROM_ARGUMENT1: "<B",
    pickletools.TAKEN_FROM_ARGUMENT4: "<i",
    pickletools.TAKEN_FROM_ARGUMENT4U: "<I",
    pickletools.TAKEN_FROM_ARGUMENT8U: "<Q",
}
_OPCODES = {op.code.encode("latin1"): op for op in pickletools.opcodes if not op.name.startswith("EXT")}
_TUPLES = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3")
_MAX_TUPLES = 20_000  # hashing a tuple nested deeper than this would overflow the C stack
_NUMERIC = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"}


class UnsafePickleError(ValueError):
    """The pickle names something that may not be called."""


def load(
    file: BinaryIO,
    allowed: Mapping[tuple[str, str], Any],
    *,
    persistent_load: Callable[[Any], Any] | None = None,
    encoding: str = "ASCII",
) -> Any:
    """Reads one pickle, letting it name only what `allowed` holds.

    Args:
      file: seekable, at the pickle's first byte; afterwards behind its last.
      allowed: (module, name) -> what stands for it. A callable can be called by the pickle, with any arguments, and
        nothing else: the pickle cannot set its attributes or make instances round it. It must check its arguments.
      persistent_load: answers the pickle's persistent ids, as `pickle.Unpickler.persistent_load`.
      encoding: of strings written by Python 2; 'bytes' leaves them as bytes.

    Returns:
      The object.

    Raises:
      UnsafePickleError: it names anything else; nothing was run.
      ValueError: not a pickle, truncated, malformed, or a dict that is given one key twice.
    """
    try:
        _check_sizes(file)
        return _Unpickler(file, allowed, persistent_load, encoding).load()
    except UnsafePickleError:
        raise
    except Exception as e:  # hostile bytes reach every error that the interpreter has
        raise ValueError(f"not a readable pickle, or truncated ({type(e).__name__}: {e})") from e


def load_arrays(file: BinaryIO, *, encoding: str = "bytes") -> Any:
    """Reads a pickle of NumPy arrays and scalars in dicts, lists and tuples, and of nothing else.

    Args:
      file: as in `load`.
      encoding: as in `load`. 'bytes' suits what Python 2 wrote.

    Returns:
      The object; its arrays are read-only views of the bytes that were read.

    Raises:
      UnsafePickleError, ValueError: as `load`.
    """
    tree = load(file, _NUMPY, encoding=encoding)
    try:
        return _build(tree, {})
    except Exception as e:
        raise ValueError(f"not a readable pickle of arrays ({type(e).__name__}: {e})") from e


class _Unpickler(pickle._Unpickler):
    """Python's own, since C's lets the last of several equal keys win and cannot be told otherwise."""

    dispatch: ClassVar = dict(pickle._Unpickler.dispatch)

    def __init__(
        self,
        file: BinaryIO,
        allowed: Mapping[tuple[str, str], Any],
        persistent_load: Callable[[Any], Any] | None,
        encoding: str,
    ) -> None:
        super().__init__(file, encoding=encoding)
        self._allowed = allowed
        self._persistent_load = persistent_load

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._allowed:
            raise UnsafePickleError(f"the pickle names '{module}.{name}': it would run code and was refused")
        found = self._allowed[module, name]
        return _Sealed(found) if callable(found) else found

    def persistent_load(self, pid: Any) -> Any:
        if self._persistent_load is None:
            raise pickle.UnpicklingError("it refers to objects outside of itself")
        return self._persistent_load(pid)

    def load_setitem(self) -> None:
        *_, mapping, key, value = self.stack
        del self.stack[-2:]
        _set_new(mapping, [key, value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        _set_new(self.stack[-1], items)

    def load_dict(self) -> None:
        items = self.pop_mark()
        mapping = {}
        _set_new(mapping, items)
        self.append(mapping)

    dispatch |= {pickle.SETITEM[0]: load_setitem, pickle.SETITEMS[0]: load_setitems, pickle.DICT[0]: load_dict}


def _set_new(mapping: Any, items: list[Any]) -> None:
    """Puts keys and values that take turns into a dict that has none of the keys."""
    if not isinstance(mapping, dict):
        raise ValueError(f"it sets items of a {type(mapping).__name__}")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if key in mapping:
            raise ValueError(f"it names {str(key)[:80]!r} twice")
        mapping[key] = value


class _Sealed:
    """A callable with no attributes to set: the pickle's BUILD would else write into our functions and classes."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_call", call)

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(name)


def _check_sizes(file: BinaryIO) -> None:
    """Walks the opcodes up to STOP without building anything; back at the start, or an error.

    An unpickler trusts every length that it reads: a dozen bytes can ask it for terabytes.
    """
    start = file.tell()
    size = file.seek(0, 2)
    file.seek(start)
    tuples = 0
    for count in itertools.count():
        op = _OPCODES.get(file.read(1))
        if op is None:
            raise ValueError(f"no opcode at byte {file.tell()}")
        if op.name == "STOP":
            break
        value = _skip_argument(file, op, size)
        if op.name in ("PUT", "BINPUT", "LONG_BINPUT") and value > count:
            raise ValueError(f"memo index {value} after {count} opcodes")
        tuples += op.name in _TUPLES
        if tuples > _MAX_TUPLES:
            raise ValueError("too many tuples")
    file.seek(start)


def _skip_argument(file: BinaryIO, op: pickletools.OpcodeInfo, size: int) -> int:
    """Moves behind an opcode's argument, if the file holds it; its value where that is a memo index."""
    if op.arg is None:
        return 0
    if op.arg.n == pickletools.UP_TO_NEWLINE:
        lines = [file.readline() for _ in range(2 if op.name in ("GLOBAL", "INST") else 1)]
        return int(lines[0]) if op.name == "PUT" else 0
    length = op.arg.n
    if length in _LENGTHS:
        form = _LENGTHS[length]
        (length,) = struct.unpack(form, file.read(struct.calcsize(form)))
    elif op.name in ("BINPUT", "LONG_BINPUT"):
        return int.from_bytes(file.read(length), "little")
    elif op.name == "FRAME":  # announces what follows: it is there, but is not an argument to skip
        (frame,) = struct.unpack("<Q", file.read(8))
        length, here = 0, file.tell()
        if frame > size - here:
            raise ValueError(f"a frame of {frame} bytes where {size - here} are left")
    if not 0 <= length <= size - file.tell():
        raise ValueError(f"an item of {length} bytes where {size - file.tell()} are left")
    file.seek(length, 1)
    return 0


# NumPy's own classes are not handed to the pickle: their __setstate__ believes what it is told about sizes and
# offsets. These stand for them, and become arrays, checked, when all is read.


class _DType:
    """Stands for numpy.dtype(spec); numbers, bytes and objects only."""

    __slots__ = ("dtype",)

    def __init__(self, spec: Any, *_: Any) -> None:
        spec = _text(spec).lstrip("|<>=")
        if spec not in _NUMERIC and spec not in ("O", "O8") and not (spec[:1] == "S" and spec[1:].isdecimal()):
            raise ValueError(f"arrays of dtype {spec!r} are not read")
        self.dtype = np.dtype("O" if spec == "O8" else spec)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order, *structure = state[1:5]
        if any(part is not None for part in structure):
            raise ValueError("structured arrays are not read")
        self.dtype = self.dtype.newbyteorder(_text(order))


class _Array:
    """Stands for an array that `numpy.ndarray.__setstate__` would fill."""

    __slots__ = ("order", "raw", "shape", "spec")

    def __init__(self, *_: Any) -> None:
        self.shape, self.spec, self.order, self.raw = (0,), _DType("u1"), "C", b""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        *_, self.shape, self.spec, fortran, self.raw = state
        self.order = "F" if fortran else "C"

    def build(self, built: dict[int, Any]) -> np.ndarray:
        """The array, after checking that its shape and its data agree."""
        if self.spec.dtype != object:
            raw = self.raw.encode("latin1") if isinstance(self.raw, str) else self.raw
            array = np.frombuffer(raw, self.spec.dtype) if len(raw) else np.empty(0, self.spec.dtype)
            array = array.reshape(self.shape, order=self.order)
            array.flags.writeable = False
            return array
        if not isinstance(self.raw, list):
            raise ValueError("an object array without its list")
        array = np.empty(len(self.raw), object)
        for i, item in enumerate(self.raw):
            array[i] = _build(item, built)
        return array.reshape(self.shape, order=self.order)


def _from_buffer(raw: Any, spec: _DType, shape: tuple[int, ...], order: str) -> _Array:
    """Stands for numpy's _frombuffer, with which protocol 5 writes arrays."""
    array = _Array()
    array.__setstate__((shape, spec, order == "F", raw))
    return array


def _scalar(spec: _DType, raw: Any = b"") -> _Array:
    """Stands for numpy's scalar: an array of one element, of which `_build` takes the element."""
    array = _Scalar()
    array.__setstate__(((), spec, False, raw))
    return array


class _Scalar(_Array):
    __slots__ = ()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Stands for _codecs.encode, with which Python 3 writes bytes in protocol 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("an encoding other than latin1")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Stands for bytes(), with which Python 3 writes empty bytes in protocol 2."""
    return b""


def _text(value: str | bytes) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else value


def _build(tree: Any, built: dict[int, Any]) -> Any:
    """The tree with real arrays in place of stand-ins; what is shared stays shared."""
    if id(tree) in built:
        return built[id(tree)]
    if isinstance(tree, dict):
        new = {key: _build(value, built) for key, value in tree.items()}
    elif isinstance(tree, list | tuple):
        new = type(tree)(_build(value, built) for value in tree)
    elif isinstance(tree, _Scalar):
        new = tree.build(built)[()]
    elif isinstance(tree, _Array):
        new = tree.build(built)
    elif isinstance(tree, _DType):
        new = tree.dtype
    elif isinstance(tree, _Sealed):
        raise ValueError("a function where data should be")
    else:
        return tree
    built[id(tree)] = new
    return new


_NUMPY = {
    ("numpy", "ndarray"): "numpy.ndarray",
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encode,
    ("builtins", "bytes"): _no_bytes,
    ("__builtin__", "bytes"): _no_bytes,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}
