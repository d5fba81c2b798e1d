"""Reads untrusted pickles of NumPy arrays: stand-ins become arrays once all is read, and their sizes agree."""

from typing import Any, BinaryIO, Literal, cast

import numpy as np

from jft.utils.safe_pickle import Sealed, load

_NUMERIC = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"}


def load_arrays(file: BinaryIO, *, encoding: str = "bytes") -> Any:
    """Reads a pickle that holds only NumPy arrays and scalars in dicts, lists and tuples.

    Args:
      file: as in `safe_pickle.load`.
      encoding: as in `safe_pickle.load`. 'bytes' suits what Python 2 wrote.

    Returns:
      The object; its arrays are read-only views of the bytes that were read.

    Raises:
      UnsafePickleError, ValueError: as `safe_pickle.load`.
    """
    tree = load(file, _NUMPY, encoding=encoding)
    try:
        return _build(tree, {})
    except Exception as e:
        raise ValueError(f"not a readable pickle of arrays ({type(e).__name__}: {e})") from e


# NumPy's own classes are not handed to the pickle: their __setstate__ believes what it is told about sizes and
# offsets. These stand for them, and become arrays, checked, when all is read.


class _DType:
    """Stands for numpy.dtype(spec); numbers, bytes and objects only."""

    __slots__ = ("dtype",)

    def __init__(self, spec: Any, *_: Any) -> None:
        spec = _text(spec).lstrip("|<>=")[:20]
        if spec not in _NUMERIC and spec not in ("O", "O8") and not (spec[:1] == "S" and spec[1:].isdecimal()):
            raise ValueError(f"arrays of dtype {spec!r} are not read")
        self.dtype = np.dtype("O" if spec == "O8" else spec)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order, *structure = state[1:5]
        if any(part is not None for part in structure):
            raise ValueError("structured arrays are not read")
        self.dtype = self.dtype.newbyteorder(cast(Any, _text(order[:1])))


class _Array:
    """Stands for an array that `numpy.ndarray.__setstate__` would fill."""

    __slots__ = ("order", "raw", "shape", "spec")
    order: Literal["C", "F"]
    raw: Any

    def __init__(self, *_: Any) -> None:
        self.shape, self.spec, self.order, self.raw = (0,), _DType("u1"), "C", b""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        *_, self.shape, self.spec, fortran, self.raw = state[-5:]
        self.order = "F" if fortran else "C"

    def build(self, built: dict[Any, Any]) -> np.ndarray:
        """The array, after checking that its shape and its data agree."""
        if self.spec.dtype != object:
            raw = self.raw
            if isinstance(raw, str):  # once, however many arrays share it
                key = "latin1", id(raw)
                raw = built[key] = built[key] if key in built else raw.encode("latin1")
            array = np.frombuffer(raw, self.spec.dtype) if len(raw) else np.empty(0, self.spec.dtype)
            array = array.reshape(self.shape, order=self.order)
            array.flags.writeable = False
            return array
        if not isinstance(self.raw, list) or id(self.raw) in built:
            raise ValueError("an object array without a list of its own")
        array = built[id(self.raw)] = np.empty(len(self.raw), object)
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


def _build(tree: Any, built: dict[Any, Any]) -> Any:
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
    elif isinstance(tree, Sealed):
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
