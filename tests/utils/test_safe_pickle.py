"""Pickles that are only read: what NumPy writes comes back, what would run or take memory does not."""

import collections
import io
import os
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jft.utils import pickled_arrays, safe_pickle

ARRAYS = {
    "nested": [np.arange(6.0).reshape(2, 3), (np.float32(3), {"x": None})],
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "empty": np.zeros((0, 3)),
    "scalar": np.array(3, np.uint8),
    "swapped": np.arange(3, dtype=">i4"),
    "half": np.arange(3, dtype=np.float16),
    "bool": np.array([True, False]),
    "bytes": np.array([b"ab", b"c"]),
    "objects": np.array({"conv1": [np.ones((1, 2), np.float32)]}, object),
    b"key": b"value",
}


def same(got, wanted):
    """Equal in structure, type and value."""
    assert type(got) is type(wanted)
    if isinstance(wanted, dict):
        assert list(got) == list(wanted)
        same(list(got.values()), list(wanted.values()))
    elif isinstance(wanted, list | tuple):
        assert len(got) == len(wanted)
        for a, b in zip(got, wanted, strict=True):
            same(a, b)
    elif isinstance(wanted, np.ndarray) and wanted.dtype == object:
        assert got.shape == wanted.shape
        same(got.ravel().tolist(), wanted.ravel().tolist())
    elif isinstance(wanted, np.ndarray | np.generic):
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted, strict=True)
    else:
        assert got == wanted


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_come_back(protocol):
    same(pickled_arrays.load_arrays(io.BytesIO(pickle.dumps(ARRAYS, protocol))), ARRAYS)


def test_python_2():
    """Its strings are bytes without saying so: as CIFAR-10's files have them."""
    dtype = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    text = b"\x80\x02}U\x04data" + array + b"(K\x01(K\x01K\x03t" + dtype + b"\x89U\x03\x00\x80\xfftbs."
    same(pickled_arrays.load_arrays(io.BytesIO(text)), {b"data": np.array([[0, 128, 255]], np.uint8)})
    same(pickled_arrays.load_arrays(io.BytesIO(text), encoding="latin1"), {"data": np.array([[0, 128, 255]], np.uint8)})


def test_shared_arrays_stay_shared_and_are_views():
    array = np.zeros(1000)
    got = pickled_arrays.load_arrays(io.BytesIO(pickle.dumps([array, array])))
    assert got[0] is got[1] and not got[0].flags.writeable


def test_stops_behind_the_pickle():
    file = io.BytesIO(b"before" + pickle.dumps("first", 2) + pickle.dumps("second", 4) + b"raw")
    file.seek(6)
    assert [safe_pickle.load(file, {}), safe_pickle.load(file, {})] == ["first", "second"]
    assert file.read() == b"raw"


def test_allowed_and_persistent():
    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", 7) if value is collections.Counter else None

    file = io.BytesIO()
    Pickler(file, 2).dump([collections.OrderedDict(a=1), collections.Counter])
    for read, wanted in (
        (lambda: safe_pickle.load(file, {("collections", "OrderedDict"): dict}, persistent_load=list), [{"a": 1}]),
        (lambda: safe_pickle.load(file, {("collections", "OrderedDict"): dict}), None),
    ):
        file.seek(0)
        if wanted:
            assert read() == [*wanted, ["storage", 7]]
        else:
            with pytest.raises(ValueError, match="refers to objects outside"):
                read()


class Runs:
    """Pickles to a call."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("function", [os.system, eval, open], ids=lambda f: f.__name__)
def test_code_is_named_and_not_run(function, protocol, tmp_path):
    marker = tmp_path / "marker"
    argument = {os.system: f"touch {marker}", eval: f"open({str(marker)!r}, 'w')"}.get(function, str(marker))
    arguments = (argument, "w") if function is open else (argument,)
    text = pickle.dumps([np.ones(2), Runs(function, arguments)], protocol)
    with pytest.raises(safe_pickle.UnsafePickleError, match=rf"'\w[\w.]*\.{function.__name__}'.*was refused"):
        pickled_arrays.load_arrays(io.BytesIO(text))
    assert not marker.exists()
    pickle.loads(text)
    assert marker.exists()  # so it would have run


def test_what_is_allowed_is_not_written_to():
    """BUILD sets attributes of whatever lies on the stack, also of a function."""

    def function():
        return "as it was"

    state = pickle.dumps((None, {"__defaults__": (1,), "x": 1}), 2)[2:-1]
    with pytest.raises(ValueError, match="AttributeError"):
        safe_pickle.load(io.BytesIO(b"\x80\x02cm\nf\n" + state + b"b."), {("m", "f"): function})
    assert not hasattr(function, "x") and function.__defaults__ is None
    assert safe_pickle.load(io.BytesIO(b"\x80\x02cm\nf\n)R."), {("m", "f"): function}) == "as it was"


LONG = (2**28).to_bytes(8, "little")  # 256 MB: more would fail of itself, and show nothing
DTYPE = b"cnumpy\ndtype\n(X\x02\x00\x00\x00f8\x89\x88tR"
# Forty tuples, each twice within the next: 2^40 elements to whatever walks them, in 200 bytes.
NESTED = b"\x80\x04%b)" + b"2\x86" * 40 + b"%b"
# An array of two objects, whose list is the memo's first entry.
OBJECTS = (
    b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01K\x02\x85cnumpy\ndtype\n(X\x02\x00\x00\x00O8\x89\x88tR\x89h\x00tb"
)
BROKEN = {
    "nothing": b"",
    "no stop": b"\x80\x02}",
    "no opcode": b"\x80\x02\xff.",
    "nothing on the stack": b"\x80\x020.",
    "text": b"hello",
    "short argument": b"\x80\x02X\x05\x00\x00\x00ab.",
    "negative length": b"\x80\x02T\xff\xff\xff\xff.",
    "megabytes of bytes": b"\x80\x04\x8e" + LONG + b"x.",
    "megabytes of text": b"\x80\x04\x8d" + LONG + b"x.",
    "megabytes of bytearray": b"\x80\x05\x96" + LONG + b"x.",
    "frame of megabytes": b"\x80\x04\x95" + LONG + b"N.",
    "far memo": b"\x80\x02Nr\x00\x00\x00\x01.",
    "far memo as text": b"Np16777216\n.",
    "memo that is not there": b"\x80\x02h\x07.",
    "deep tuples as a key": b"}(" + b")" + b"\x85" * 300_000 + b"Nu.",
    "deep lists": b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".",
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
    "bytes that are to be made": b"c__builtin__\nbytes\n(J\xff\xff\xff\x7ftR.",
    "text to another encoding": b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00utf-8tR.",
    "terabyte dtype": b"cnumpy\ndtype\n(X\x0e\x00\x00\x00V1000000000000\x89\x88tR.",
    "dtype that is structured": DTYPE + pickle.dumps((3, "<", None, ("a",), {"a": 1}, 8, 8, 0), 2)[2:-1] + b"b.",
    "array larger than its bytes": b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01(J\xff\xff\xff\x7ft"
    + DTYPE + b"\x89C\x08\x00\x00\x00\x00\x00\x00\x00\x00tb.",
    "a key twice": b"\x80\x02}(K\x01NK\x01Nu.",
    "items of a list": b"\x80\x02]NaK\x00K\x01s.",
    "a function for data": b"\x80\x02]cnumpy\ndtype\na.",
    "a set": b"\x80\x04\x8f(K\x00\x90.",
    "a frozen set": b"\x80\x04(K\x00\x91.",
    "nested tuples as a key": NESTED % (b"}", b"Ns."),
    "nested tuples as a key, from marks": NESTED % (b"(", b"Nd."),
    "nested tuples in a set": NESTED % (b"\x8f(", b"\x90."),
    "a long tuple as a key": b"\x80\x02}(" + b"K\x01" * 9 + b"tNs.",
    "a long number as a key": b"\x80\x02}\x8a\x09" + b"\x01" * 9 + b"Ns.",
    "many keys that can be chosen to collide": pickle.dumps(dict.fromkeys(range(10_001)), 2),
    "a text for many calls": b"X\x00\x10\x00\x00" + b"a" * 2**12 + b"q\x00c_codecs\nencode\nq\x01h\x00\x85q\x02"
    + b"h\x01h\x02R" * 100 + b".",
    "a text for many objects": b"X\x00\x10\x00\x00" + b"a" * 2**12 + b"q\x00c_codecs\nencode\nq\x010"
    + b"(h\x01h\x00o" * 100 + b".",
    "many arguments": b"c_codecs\nencode\n(" + b"N" * 17 + b"tR.",
    "a list for two arrays": b"](NNeq\x000" + OBJECTS + b"q\x010" + OBJECTS + b"h\x01\x86.",
}  # fmt: skip


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_broken(text, tmp_path):
    (tmp_path / "file").write_bytes(text)
    tracemalloc.start()
    try:
        with (tmp_path / "file").open("rb") as file, pytest.raises(ValueError, match="not a readable pickle"):
            pickled_arrays.load_arrays(file)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_keys_of_state_dicts_and_of_what_lies_beside_them():
    plain = {"conv.weight": 1, b"labels": 2, 3: 4, None: 5, 0.5: 6, True: 7, ("a", 0): 8}
    assert pickled_arrays.load_arrays(io.BytesIO(pickle.dumps(plain, 2))) == plain


def test_what_is_shared_is_built_once():
    """A list twice within the next, forty times: built in forty steps, and shared still."""
    tree = []
    for _ in range(40):
        tree = [tree, tree]
    got = pickled_arrays.load_arrays(io.BytesIO(pickle.dumps(tree, 2)))
    assert got[0] is got[1] and got[0][0] is got[0][1]


def test_opcodes_are_counted(monkeypatch):
    """Each byte of a pickle can be an empty dict, of sixty-four."""
    monkeypatch.setattr(safe_pickle, "_MAX_OPCODES", 1000)
    assert len(pickled_arrays.load_arrays(io.BytesIO(b"\x80\x02(" + b"}" * 900 + b"l."))) == 900
    with pytest.raises(ValueError, match="more than 1000 opcodes"):
        pickled_arrays.load_arrays(io.BytesIO(b"\x80\x02(" + b"}" * 1001 + b"l."))


def test_many_tuples_are_no_fault():
    """Five for each tensor of a state dict: some models have thousands."""
    assert len(pickled_arrays.load_arrays(io.BytesIO(pickle.dumps([(i,) for i in range(30_000)], 2)))) == 30_000


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_truncated_anywhere(protocol):
    text = pickle.dumps(ARRAYS, protocol)
    for end in range(0, len(text), 7):
        with pytest.raises(ValueError):
            pickled_arrays.load_arrays(io.BytesIO(text[:end]))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=4)), min_size=1, max_size=3), st.sampled_from([2, 4])
)
@example([(0, b"")], 2)
def test_mutated(changes, protocol):
    text = pickle.dumps(ARRAYS, protocol)
    for at, new in changes:
        text = text[: at % len(text)] + new + text[at % len(text) + len(new) :]
    try:
        pickled_arrays.load_arrays(io.BytesIO(text))
    except ValueError:
        return
