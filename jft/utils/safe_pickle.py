"""Reads untrusted pickles without executing them: only listed names are allowed, sizes are checked before allocation.

A pickle is a program: it may call whatever it can name, and it says itself how much memory and work to take. Here it
can name only what the caller lists, call that and do nothing else to it, and take no more than the file's size
warrants. What it names twice it shares: forty tuples, each twice within the next, are 2^40 elements to whatever walks
them without remembering where it has been, as hashing, comparing and printing do. So keys are plain, calls are counted
by what they are given, and what comes out may still share: callers walk it no deeper than they check.
"""

import itertools
import pickle
import pickletools
import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, ClassVar, cast

# How an opcode's argument says its length (pickletools' codes), as struct formats.
_LENGTHS = {
    pickletools.TAKEN_FROM_ARGUMENT1: "<B",
    pickletools.TAKEN_FROM_ARGUMENT4: "<i",
    pickletools.TAKEN_FROM_ARGUMENT4U: "<I",
    pickletools.TAKEN_FROM_ARGUMENT8U: "<Q",
}
_OPCODES = {op.code.encode("latin1"): op for op in pickletools.opcodes if not op.name.startswith("EXT")}
_SETS = ("EMPTY_SET", "ADDITEMS", "FROZENSET")  # which hash what is put in; weights and batches have none
_PLAIN = (str, bytes, int, float, bool, type(None))
_MAX_KEY_BITS = 64  # of a whole number that is a key: the hash of a long one takes time, each time
_MAX_KEY_TUPLE = 8
_MAX_OTHER_KEYS = 10_000  # but for text and bytes, whose hashes are salted: others can be chosen to collide
_MAX_ARGUMENTS = 16
_MAX_OPCODES = 1_000_000  # a second or two; what torch saves of the largest models has some ten thousands
_WORK = 4  # bytes and elements that a pickle's calls may be given, for each of its own bytes


class UnsafePickleError(ValueError):
    """The pickle names something that may not be called."""


def load(
    file: BinaryIO,
    allowed: Mapping[tuple[str, str], Any],
    *,
    persistent_load: Callable[[Any], Any] | None = None,
    encoding: str = "ASCII",
) -> Any:
    """Reads one pickle, which may use only the names in `allowed`.

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
      ValueError: not a pickle, truncated, malformed; a dict that is given one key twice, or a key that is not text,
        bytes, a number, None or a short tuple of these; a set; calls that take more work than its size warrants.
    """
    try:
        size = _check_sizes(file)
        return _Unpickler(file, allowed, persistent_load, encoding, _WORK * size).load()
    except UnsafePickleError:
        raise
    except Exception as e:  # hostile bytes reach every error that the interpreter has
        raise ValueError(f"not a readable pickle, or truncated ({type(e).__name__}: {e})") from e


class _Unpickler(pickle._Unpickler):
    """Python's own, since C's lets the last of several equal keys win and cannot be told otherwise."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)
    # Declared here, as typeshed leaves them out.
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(
        self,
        file: BinaryIO,
        allowed: Mapping[tuple[str, str], Any],
        persistent_load: Callable[[Any], Any] | None,
        encoding: str,
        work: int,
    ) -> None:
        super().__init__(file, encoding=encoding)
        self._allowed = allowed
        self._persistent_load = persistent_load
        self._work = work
        self._other_keys = 0

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._allowed:
            named = f"{module}.{name}"[:80]
            raise UnsafePickleError(f"the pickle names {named!r}: it would run code and was refused")
        found = self._allowed[module, name]
        return Sealed(found) if callable(found) else found

    def persistent_load(self, pid: Any) -> Any:
        if self._persistent_load is None:
            raise pickle.UnpicklingError("it refers to objects outside of itself")
        return self._persistent_load(pid)

    def load_reduce(self) -> None:
        self._count_work(self.stack[-1])
        pickle._Unpickler.dispatch[pickle.REDUCE[0]](cast(Any, self))

    def _instantiate(self, klass: Any, args: list[Any]) -> None:  # of INST and OBJ
        self._count_work(args)
        self.append(klass(*args))

    def _count_work(self, arguments: Any) -> None:
        if type(arguments) not in (tuple, list) or len(arguments) > _MAX_ARGUMENTS:
            raise ValueError("it calls something, but not with a few arguments")
        self._work -= sum(len(argument) for argument in arguments if isinstance(argument, _SIZED))
        if self._work < 0:
            raise ValueError("it gives one thing to many calls: more work than its size warrants")

    def load_setitem(self) -> None:
        *_, mapping, key, value = self.stack[-3:]
        del self.stack[-2:]
        self._set_new(mapping, [key, value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._set_new(self.stack[-1], items)

    def load_dict(self) -> None:
        items = self.pop_mark()
        mapping = {}
        self._set_new(mapping, items)
        self.append(mapping)

    dispatch |= {
        pickle.REDUCE[0]: load_reduce,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
    }

    def _set_new(self, mapping: Any, items: list[Any]) -> None:
        """Puts keys and values that take turns into a dict that has none of the keys."""
        if not isinstance(mapping, dict):
            raise ValueError(f"it sets items of a {type(mapping).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._other_keys += type(key) not in (str, bytes)
            if self._other_keys > _MAX_OTHER_KEYS:
                raise ValueError(f"it has more than {_MAX_OTHER_KEYS} keys that are no text")
            set_new(mapping, key, value)


_SIZED = (str, bytes, bytearray, list, tuple, dict)


def set_new(mapping: dict[Any, Any], key: Any, value: Any) -> None:
    """Sets an item of a dict, by an untrusted key.

    Raises:
      ValueError: the dict has the key, or the key is not plain: hashing it could take for ever.
    """
    if not _is_plain(key) and not (type(key) is tuple and len(key) <= _MAX_KEY_TUPLE and all(map(_is_plain, key))):
        raise ValueError(f"a key is a {type(key).__name__} that is long, deep, or none of text, bytes and numbers")
    if key in mapping:
        raise ValueError(f"it names {str(key)[:80]!r} twice")
    mapping[key] = value


def _is_plain(key: Any) -> bool:
    return type(key) in _PLAIN and not (type(key) is int and key.bit_length() > _MAX_KEY_BITS)


class Sealed:
    """A callable with no attributes to set: the pickle's BUILD would else write into our functions and classes."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_call", call)

    def __call__(self, *args: Any) -> Any:
        """Calls it."""
        return self._call(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(name)


def _check_sizes(file: BinaryIO) -> int:
    """Walks the opcodes up to STOP without building anything, and back; the pickle's size, or an error.

    An unpickler trusts every length that it reads: a dozen bytes can ask it for terabytes.
    """
    start = file.tell()
    size = file.seek(0, 2)
    file.seek(start)
    for count in itertools.count():
        op = _OPCODES.get(file.read(1))
        if op is None:
            raise ValueError(f"no opcode at byte {file.tell()}")
        if op.name == "STOP":
            break
        value = _skip_argument(file, op, size)
        if op.name in ("PUT", "BINPUT", "LONG_BINPUT") and value > count:
            raise ValueError(f"memo index {value} after {count} opcodes")
        if op.name in _SETS:
            raise ValueError("it holds a set")
        if count > _MAX_OPCODES:
            raise ValueError(f"it has more than {_MAX_OPCODES} opcodes")
    size = file.tell() - start
    file.seek(start)
    return size


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
