"""Weight files of strangers: every format's tensors, and every way in which a file can be wrong."""

import functools
import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from jft.utils import safe_pickle
from jft.weights import readers
from jft.weights.readers import keras_h5

GOLDEN = Path(__file__).parents[1] / "golden"
BASE = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 8
COUNT = np.arange(-2, 2)
# What scripts/golden/make_torch_files.py saved.
TORCH = {
    "float": BASE,
    "transposed": BASE.transpose(2, 0, 1),
    "window": BASE[1, 1:, ::2],
    "shared": BASE,
    "parameter": BASE[0],
    "scalar": np.array(3),
    "empty": np.zeros((0, 3), np.float32),
    "half": BASE[0].astype(np.float16),
    "bfloat16": BASE[0].astype(ml_dtypes.bfloat16),
    "double": BASE[0].astype(np.float64),
    "long": COUNT,
    "int": COUNT.astype(np.int32),
    "short": COUNT.astype(np.int16),
    "char": COUNT.astype(np.int8),
    "byte": np.arange(4, dtype=np.uint8),
    "bool": np.arange(4) % 2 == 0,
}
LAYERS = {"conv1": [BASE, BASE[0, 0]], "fire2/squeeze": [BASE[1]]}
FLAT = {"conv1/0": BASE, "conv1/1": BASE[0, 0], "fire2/squeeze/0": BASE[1]}


def caffe(layers, **options) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(layers, object), allow_pickle=True, **options)
    return file.getvalue()


@functools.cache
def keras(text=bytes, group="/", compression=None) -> bytes:
    """Keras's legacy layout: names of fixed length (`bytes`), as up to h5py 2, or of any (`str`), as since."""
    file = io.BytesIO()
    with h5py.File(file, "w") as h5:
        root = h5.require_group(group)
        encode = (lambda names: np.array(names, "S")) if text is bytes else list
        root.attrs["layer_names"] = encode(["input", *LAYERS])
        root.create_group("input").attrs["weight_names"] = np.zeros(0)
        for layer, weights in LAYERS.items():
            inner = root.create_group(layer)
            names = [f"{layer}/{kind}:0" for kind in ("kernel", "bias")[: len(weights)]]
            inner.attrs["weight_names"] = encode(names)
            for name, weight in zip(names, weights, strict=True):
                inner.create_dataset(name, data=weight, compression=compression)
    return file.getvalue()


FILES = {
    "safetensors": (lambda: safetensors.numpy.save({k: v.copy() for k, v in TORCH.items()}), TORCH),
    "torch zip": ((GOLDEN / "torch_zip.pth").read_bytes, TORCH),
    "torch legacy": ((GOLDEN / "torch_legacy.pth").read_bytes, TORCH),
    "caffe": (lambda: caffe(LAYERS), FLAT),
    "caffe with names": (lambda: caffe({**LAYERS, "conv1": {"biases": BASE[0, 0], "weights": BASE}}), FLAT),
    "keras": (keras, FLAT),
    "keras with text": (lambda: keras(str), FLAT),
    "keras whole model": (lambda: keras(bytes, "model_weights"), FLAT),
}  # fmt: skip


@pytest.fixture
def write(tmp_path):
    """Writes bytes to a file whose extension says nothing."""

    def write(text: bytes) -> Path:
        path = tmp_path / "weights.bin"
        path.write_bytes(text)
        return path

    return write


def test_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "weights.bin")
    with pytest.raises(ValueError, match=r"weights\.bin is a FIFO, not a regular file"):
        readers.read_tensors(tmp_path / "weights.bin")


@pytest.mark.parametrize(("make", "wanted"), FILES.values(), ids=FILES)
def test_formats(make, wanted, write):
    tensors = readers.read_tensors(write(make()))
    assert sorted(tensors) == sorted(wanted) and len(tensors) == len(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(tensors[name], array, strict=True)
    with pytest.raises(KeyError):
        tensors["no such tensor"]


def test_keras_splits_long_attributes(write, tmp_path):
    with h5py.File(tmp_path / "long.h5", "w") as h5:
        h5.attrs["layer_names0"], h5.attrs["layer_names1"] = np.array(["a"], "S"), np.array(["b"], "S")
        for layer in "ab":
            h5.create_group(layer).attrs["weight_names"] = np.array([f"{layer}:0"], "S")
            h5[layer][f"{layer}:0"] = BASE
    assert list(readers.read_tensors(tmp_path / "long.h5")) == ["a/0", "b/0"]


# Torch files by hand, for what torch no longer writes.


def value(data) -> bytes:
    """The opcodes that put `data` on the stack."""
    return pickle.dumps(data, 2)[2:-1]


def call(name: str, *arguments: bytes) -> bytes:
    module, _, name = name.rpartition(".")
    return b"c%b\n%b\n(%btR" % (module.encode(), name.encode(), b"".join(arguments))


def storage(numel=6, kind="FloatStorage", key="0", view=None) -> bytes:
    entries = value("storage") + b"ctorch\n%b\n" % kind.encode() + value(key) + value("cpu") + value(numel)
    return b"(" + entries + value(view) + b"tQ"


def legacy(pickled: bytes, numel=6, keys=("0",), end=b"") -> bytes:
    """A legacy file: magic number, version, system, the object, keys of the storages, the storages."""
    header = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    parts = [*(pickle.dumps(part, 2) for part in header), b"\x80\x02" + pickled + b".", pickle.dumps(list(keys), 2)]
    return b"".join(parts) + struct.pack("<q", numel) + np.arange(6, dtype="<f4").tobytes() + end


def zipped(pickled: bytes, members=(), **options) -> bytes:
    """A zip file with the object and a storage '0' of six float32."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + pickled + b".")
        for name, text in {"archive/data/0": np.arange(6, dtype="<f4").tobytes(), **dict(members)}.items():
            archive.writestr(name, text)
    return file.getvalue()


def tensor(rebuild="_rebuild_tensor_v2", offset=0, shape=(2, 3), stride=(3, 1), of=None) -> bytes:
    window = (of or storage()) + value(offset) + value(shape) + value(stride)
    return call(f"torch._utils.{rebuild}", window, value(False), call("collections.OrderedDict"))


def state_dict(entry: bytes) -> bytes:
    return b"}" + value("weight") + entry + b"s"


WINDOW = b"(" + storage() + value(0) + value((2, 3)) + value((3, 1)) + b"t"
OLD = {
    "tensor": call("torch._utils._rebuild_tensor", WINDOW[1:-1]),
    "tensor with state": call("torch.FloatTensor") + WINDOW + b"b",
    "parameter": call("torch.nn.parameter.Parameter", tensor()) + value((True, False, None)) + b"b",
    "parameter with state": call("torch.nn.parameter.Parameter") + b"(" + tensor() + b"NN\x88\x89tb",
    "ordered, python 2": tensor(),
}


@pytest.mark.parametrize("entry", OLD.values(), ids=OLD)
def test_old_torch(entry, write):
    tensors = readers.read_tensors(write(legacy(state_dict(entry))))
    np.testing.assert_array_equal(tensors["weight"], np.arange(6, dtype=np.float32).reshape(2, 3), strict=True)


def test_big_endian_zip(write):
    swapped = {"archive/byteorder": b"big", "archive/data/0": np.arange(6, dtype=">f4").tobytes()}
    tensors = readers.read_tensors(write(zipped(state_dict(tensor()), swapped.items())))
    np.testing.assert_array_equal(tensors["weight"], np.arange(6, dtype=np.float32).reshape(2, 3), strict=True)


SHARED = np.arange(250_000, dtype="<f4")


def shared_legacy(pickled: bytes) -> bytes:
    return legacy(pickled, SHARED.size, end=SHARED[6:].tobytes())


def shared_zip(pickled: bytes) -> bytes:
    return zipped(pickled, {"archive/data/0": SHARED.tobytes()}.items())


@pytest.mark.parametrize(("make", "most"), [(shared_legacy, 0), (shared_zip, 2 * SHARED.nbytes)])
def test_a_window_keeps_its_own_bytes_alive_and_not_its_storage(make, most, write):
    """Sixty vectors that share a megabyte, all held at once, and `most`: what reading one may take for a moment."""
    whole = storage(SHARED.size)
    entries = {str(i): tensor(of=whole, offset=4000 * i, shape=(100,), stride=(1,)) for i in range(60)}
    entries["from end to end"] = tensor(of=whole, offset=0, shape=(250,), stride=(1000,))
    pickled = b"}(" + b"".join(value(name) + entry for name, entry in entries.items()) + b"u"
    path = write(make(pickled))
    tensors = readers.read_tensors(path)
    tracemalloc.start()
    try:
        held = {str(i): tensors[str(i)] for i in range(60)}
        current, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 60 * 400 <= current < 60 * 400 + 40_000
    assert peak < most + 100_000
    for i in range(60):
        np.testing.assert_array_equal(held[str(i)], SHARED[4000 * i : 4000 * i + 100], strict=True)
    wide = tensors["from end to end"]
    np.testing.assert_array_equal(wide, SHARED[::1000], strict=True)
    assert wide.flags.owndata


def test_module_is_stripped_only_if_common(write):
    both = b"}(" + value("module.a") + tensor() + value("b") + tensor() + b"u"
    assert list(readers.read_tensors(write(legacy(both)))) == ["module.a", "b"]


class Runs:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


HOSTILE = {
    "torch zip": lambda command: zipped(value({"weight": Runs(command)})),
    "torch legacy": lambda command: legacy(value({"weight": Runs(command)})),
    "torch legacy, version": lambda command: legacy(b"").replace(value(1001), value(Runs(command))),
    "torch legacy, keys": lambda command: legacy(state_dict(tensor()), keys=[Runs(command)]),
    "caffe": lambda command: caffe({"conv1": [BASE, Runs(command)]}),
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_code_is_named_and_not_run(make, write, tmp_path):
    path = write(make(f"touch {tmp_path / 'marker'}"))
    with pytest.raises(
        safe_pickle.UnsafePickleError, match=r"weights.bin: .*'posix.system': it would run code.*source"
    ):
        readers.read_tensors(path)
    assert not (tmp_path / "marker").exists()


def huge_header() -> bytes:
    return struct.pack("<Q", 2**40) + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'


def safetensors_of(header: str, body=bytes(8)) -> bytes:
    return struct.pack("<Q", len(header)) + header.encode() + body


def plain_h5(fill) -> bytes:
    """A file with one layer, 'conv1', whose group `fill` fills with 'kernel'."""
    file = io.BytesIO()
    with h5py.File(file, "w") as h5:
        h5.attrs["layer_names"] = np.array(["conv1"], "S")
        h5.create_group("conv1").attrs["weight_names"] = np.array(["kernel"], "S")
        fill(h5["conv1"])
    return file.getvalue()


def claims_more(text: bytes, claim=2**40) -> bytes:
    """A zip whose directory claims that its storage is larger than the file."""
    at = text.rindex(b"archive/data/0") - 46 + 20
    return text[:at] + struct.pack("<II", claim % 2**32, claim % 2**32) + text[at + 8 :]


def twice(archive=b"a/data/1", other=b"a/data/2") -> bytes:
    """A zip with two members of one name, which `zipfile` would warn of."""
    return zipped(state_dict(tensor()), [(archive.decode(), b""), (other.decode(), b"")]).replace(other, archive)


def layers_twice() -> bytes:
    """A Caffe file with one layer twice: last wins, for whoever unpickles it."""
    return caffe({"conv1": [BASE], "conv2": [BASE]}).replace(b"conv2", b"conv1")


def terabytes_of_names() -> bytes:
    """An h5 file whose list of layers claims to be a terabyte long."""
    text = keras()
    at = text.index(b"layer_names")
    at = text.index(struct.pack("<QQ", 3, 3), at)  # its length, and the length that it may grow to
    return text[:at] + struct.pack("<QQ", 2**40, 2**40) + text[at + 16 :]


def external(group):
    group["kernel"] = h5py.ExternalLink("/etc/passwd", "kernel")


def soft(group):
    group["kernel"] = h5py.SoftLink("/elsewhere")


def external_storage(group):
    group.create_dataset("kernel", (8,), "u1", external=[("/etc/passwd", 0, 8)])


def virtual(group):
    layout = h5py.VirtualLayout((8,), "u1")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (8,))
    group.create_virtual_dataset("kernel", layout)


def soft_in_the_middle(group):
    """The kernel is there, by a path whose folder is a link."""
    group.create_dataset("kernel", data=BASE)
    group.file["real"] = group
    del group.file["conv1"]
    group.file["conv1"] = h5py.SoftLink("/real")


def one_dataset_twice(group):
    """Two weights that are the same bytes, as a thousand could be."""
    group.create_dataset("kernel", data=BASE)
    group["again"] = group["kernel"]
    group.attrs["weight_names"] = np.array(["kernel", "again"], "S")


def new_h5(fill, name="conv1") -> bytes:
    """A file in the layout of .weights.h5 with one layer, whose variables `fill` makes."""
    file = io.BytesIO()
    with h5py.File(file, "w") as h5:
        variables = h5.create_group("layers/conv2d/vars")
        variables.attrs["name"] = name
        fill(variables)
    return file.getvalue()


def as_first(fill):
    """What `fill` makes of 'kernel', as variable 0."""

    def moved(variables):
        fill(variables)
        variables.move("kernel", "0")

    return moved


def circle(variables):
    """Hard links from a layer to the group above it: no end of layers."""
    variables.parent["conv2d"] = variables.file["layers"]


def doubled(variables):
    """Each of thirty groups twice within the next: 2^30 layers to whatever walks them all."""
    group = variables.parent
    for _ in range(30):
        group["a"] = group["b"] = inner = variables.file.create_group(None)
        group = inner


def variable_by_soft_link(variables):
    variables["0"] = h5py.SoftLink("/etc")


def layers_by_soft_link(variables):
    variables.file.move("layers", "real")
    variables.file["layers"] = h5py.SoftLink("/real")


def no_number(variables):
    variables["kernel"] = BASE


def overlapping_members() -> bytes:
    """A zip whose directory lists the same bytes under two names."""
    text = zipped(state_dict(tensor()), [("archive/data/1", b"")])
    first, second = (text.rindex(b"archive/data/" + digit) - 4 for digit in (b"0", b"1"))
    return text[:second] + text[first : first + 4] + text[second + 4 :]


def encrypted_members() -> bytes:
    text = zipped(state_dict(tensor()))
    at = text.rindex(b"archive/data/0") - 46 + 8
    return text[:at] + b"\1" + text[at + 1 :]


def many_windows(count=3000) -> bytes:
    """Tensors by the thousand, all of one storage of a megabyte: gigabytes, if all are read."""
    whole = b"}(" + value("0") + tensor(of=storage(SHARED.size), shape=(SHARED.size,), stride=(1,)) + b"q\x01"
    return shared_legacy(whole + b"".join(value(str(i)) + b"h\x01" for i in range(1, count)) + b"u")


NESTED = b")" + b"2\x86" * 40  # forty tuples, each twice within the next: 2^40 elements to whatever hashes them


def unwritten(group):
    group.create_dataset("kernel", (2**40,), "f4", chunks=(2**20,))


FOUR = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
NO_STEP = tensor(shape=(2**40,), stride=(0,))
WRONG = {
    "empty": (b"", "it is empty"),
    "text": (b"hello, I am a readme of some length", "starts with"),
    "web page": (b"<!DOCTYPE html><html></html>", "a web page"),
    "lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
    "gzip": (b"\x1f\x8b" + bytes(20), "unpack it"),
    "tar": (bytes(257) + b"ustar", "tar archive"),
    "magic alone": (b"PK\x03\x04", "zip"),
    "zip of something else": (zipped(b"N").replace(b"data.pkl", b"data.pkx"), "0 members data.pkl"),
    "two pickles": (zipped(b"N", [("other/data.pkl", b"")]), "2 members data.pkl"),
    "parent folder": (zipped(b"N", [("archive/../../x", b"")]), "outside of the archive"),
    "absolute path": (zipped(b"N", [("/etc/x", b"")]), "outside of the archive"),
    "windows path": (zipped(b"N", [("c:x", b"")]), "outside of the archive"),
    "compressed": (zipped(state_dict(tensor()), compression=zipfile.ZIP_DEFLATED), "is compressed"),
    "two members of one name": (twice(), "two members 'a/data/1'"),
    "absolute path of a storage": (zipped(state_dict(tensor(of=storage(key="/etc/passwd")))), "has None bytes"),
    "claims more than the file": (claims_more(zipped(state_dict(tensor())), 2**31), "claims"),
    "storage is missing": (zipped(state_dict(tensor(of=storage(key="1")))), "storage 1 has None bytes, not 24"),
    "storage is a path": (zipped(state_dict(tensor(of=storage(key="../../etc")))), "has None bytes"),
    "storage too short": (zipped(state_dict(tensor(of=storage(7)))), "has 24 bytes, not 28"),
    "storage of two kinds": (
        zipped(b"](" + tensor() + tensor(of=storage(kind="IntStorage")) + b"e"), "in two ways"),
    "storage of terabytes": (legacy(state_dict(tensor(of=storage(2**40))), 2**40), "ends after"),
    "storage of negative size": (legacy(state_dict(tensor(of=storage(-6))), -6), "other than a storage"),
    "storage sizes differ": (legacy(state_dict(tensor()), 5), "5 elements"),
    "storage missing, legacy": (legacy(state_dict(tensor()), keys=()), "1 of 1 storages are missing"),
    "storage of another file": (legacy(state_dict(tensor()), keys=("1",)), "storage 1"),
    "view of a storage": (legacy(state_dict(tensor(of=storage(view=("1", 0, 6))))), "other than a storage"),
    "window too long": (legacy(state_dict(tensor(offset=1))), "out of its storage"),
    "window of terabytes": (legacy(state_dict(NO_STEP)), "out of its storage"),
    "window backwards": (legacy(state_dict(tensor(stride=(-3, 1)))), "out of its storage"),
    "window of no numbers": (legacy(state_dict(tensor(shape="ab"))), "out of its storage"),
    "tensor without storage": (legacy(state_dict(call("torch.FloatTensor"))), "out of its storage"),
    "tensor of numbers": (legacy(state_dict(tensor(of=value("0")))), "out of its storage"),
    "tensor of complex numbers": (
        legacy(state_dict(tensor(of=storage(kind="ComplexFloatStorage")))), "ComplexFloatStorage"),
    "one name twice": (legacy(b"}(" + (value("weight") + tensor()) * 2 + b"u"), "names 'weight' twice"),
    "one name twice, one by one": (legacy(b"}" + (value("weight") + tensor() + b"s") * 2), "names 'weight' twice"),
    "one name twice, from marks": (legacy(b"(" + (value("weight") + tensor()) * 2 + b"d"), "names 'weight' twice"),
    "one name twice, zip": (zipped(b"}(" + (value("weight") + tensor()) * 2 + b"u"), "names 'weight' twice"),
    "one name twice, ordered": (
        legacy(call("collections.OrderedDict") + b"(" + (value("weight") + tensor()) * 2 + b"u"),
        "names 'weight' twice"),
    "one name twice, in pairs": (
        legacy(call("collections.OrderedDict", b"]((" + value("w") + tensor() + b"l(" + value("w") + tensor() + b"le")),
        "names 'w' twice"),
    "nested tuples as a name": (legacy(b"}" + NESTED + tensor() + b"s"), "a key is a tuple"),
    "nested tuples as a name, zip": (zipped(b"}" + NESTED + tensor() + b"s"), "a key is a tuple"),
    "nested tuples as a name, in pairs": (
        legacy(call("collections.OrderedDict", b"]((" + NESTED + tensor() + b"le")), "key that is no text"),
    "nested tuples as a storage's key": (
        legacy(state_dict(tensor(of=storage().replace(value("0"), NESTED)))), "other than a storage"),
    "nested tuples as a storage's kind": (
        legacy(state_dict(tensor(of=b"(" + value("storage") + NESTED + value("0") + value("cpu") + value(6) + b"tQ"))),
        "other than a storage"),
    "nested tuples as keys of storages": (
        legacy(state_dict(tensor()), keys=("0",)).replace(pickle.dumps(["0"], 2), b"\x80\x02](" + NESTED + b"e."),
        "no list of names"),
    "many dimensions": (legacy(state_dict(tensor(shape=(1,) * 65, stride=(1,) * 65))), "out of its storage"),
    "many windows": (many_windows(), "its tensors are 3000000000 bytes"),
    "members overlap": (overlapping_members(), "overlaps another"),
    "members elsewhere": (
        b"PK\x03\x05".join(zipped(state_dict(tensor())).rsplit(b"PK\x03\x04", 1)), "is not where the directory says"),
    "members are encrypted": (encrypted_members(), "is encrypted"),
    "a name that would clear the terminal": (
        legacy(state_dict(tensor()).replace(value("weight"), value("\x1b[2J\nweight"))), r"'\x1b[2J\nweight'"),
    "no tensor": (legacy(value({"weight": 3})), "'weight' is no tensor but a int"),
    "no names": (legacy(b"}" + value(1) + tensor() + b"s"), "'1' is no tensor"),
    "no state dict": (legacy(value([1, 2])), "no state dict but a list"),
    "nothing": (legacy(value({})), "no state dict"),
    "npy of numbers": (caffe({})[:10] + b"x" * 20, "cannot be read"),
    "npy with one array": (caffe(0).replace(b"'|O'", b"'u1'"), "not with a dict of layers"),
    "npy with a list": (caffe([1, 2]), "not with a dict of layers"),
    "npy with text": (caffe({"conv1": ["weights"]}), "entry 0 of layer 'conv1' is no tensor but a str"),
    "npy with a number": (caffe({"conv1": 3}), "cannot be read"),
    "npy with many tensors of a layer": (caffe({"conv1": [BASE] * 17}), "layer 'conv1' has 17 tensors"),
    "npy of complex numbers": (caffe({"conv1": [BASE.astype("c8")]}), "entry 0 of layer 'conv1' is no tensor"),
    "npy of dates": (caffe({"conv1": [BASE.astype("M8[s]")]}), "dtype 'M8'"),
    "npy, one layer twice": (layers_twice(), "names 'conv1' twice"),
    "npy, one layer as bytes and as text": (caffe({"conv1": [BASE], b"conv1": [BASE]}), "names layer 'conv1' twice"),
    "npy, megabytes": (caffe({"conv1": [BASE]}).replace(b"K\x02K\x03K\x04", b"K\xffK\xffK\xff"), "cannot reshape"),
    "safetensors, terabytes of header": (huge_header(), "header"),
    "safetensors, terabytes of tensor": (
        safetensors_of('{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'), "read"),
    "safetensors, one name twice": (
        safetensors_of(f'{{"a":{FOUR},"a":{FOUR}}}', bytes(4)), "names a tensor twice"),
    "safetensors of an unknown type": (safetensors_of(f'{{"a":{FOUR}}}'.replace("F32", "F7"), bytes(4)), "F7"),
    "safetensors, offsets repeated": (safetensors_of(f'{{"a":{FOUR},"b":{FOUR}}}', bytes(4)), "offset"),
    "safetensors, overlapping in part": (
        safetensors_of(f'{{"a":{FOUR},"b":{FOUR.replace("[0,4]", "[2,6]")}}}', bytes(6)), "offset"),
    "safetensors, a gap": (
        safetensors_of(f'{{"a":{FOUR},"b":{FOUR.replace("[0,4]", "[6,10]")}}}', bytes(10)), "offset"),
    "safetensors, backwards": (safetensors_of(f'{{"a":{FOUR.replace("[0,4]", "[4,0]")}}}', bytes(4)), "cannot be read"),
    "safetensors, one note twice": (
        safetensors_of(f'{{"__metadata__":{{"a":"1","a":"2"}},"a":{FOUR}}}', bytes(4)), "names a tensor twice"),
    "safetensors, a header of megabytes": (
        safetensors_of("{" + " " * 2**24 + f'"a":{FOUR}}}', bytes(4)), "header claims 16777270 bytes"),
    "safetensors, a deep header": (safetensors_of('{"a":' + "[" * 100_000), "recursion"),
    "h5 of another layout": (keras().replace(b"layer_names", b"layer_nameS"), "no attribute layer_names"),
    "h5, layer is missing": (keras().replace(b"conv1\x00", b"convX\x00", 1), "missing"),
    "h5, one layer twice": (keras().replace(b"fire2/squeeze", b"conv1" + bytes(8), 1), "names 'conv1/0' twice"),
    "h5, terabytes of names": (terabytes_of_names(), "cannot be read"),
    "h5 of complex numbers": (plain_h5(lambda group: group.create_dataset("kernel", data=BASE + 1j)), "is no tensor"),
    "h5, compressed": (keras(compression="gzip"), "is compressed"),
    "h5, a group for a tensor": (plain_h5(lambda group: group.create_group("kernel")), "is no tensor"),
    "h5, text for a tensor": (plain_h5(lambda group: group.create_dataset("kernel", data=b"x")), "is no tensor"),
    "h5, terabytes": (plain_h5(unwritten), "in pieces"),
    "h5, external link": (plain_h5(external), "a link that leads elsewhere"),
    "h5, soft link": (plain_h5(soft), "a link that leads elsewhere"),
    "h5, external storage": (plain_h5(external_storage), "in another file"),
    "h5, virtual": (plain_h5(virtual), "in another file"),
    "h5, soft link in the middle of a path": (plain_h5(soft_in_the_middle), "a link that leads elsewhere"),
    "h5, one dataset twice": (plain_h5(one_dataset_twice), "lie on the same bytes"),
    "h5, new layout, external link": (new_h5(as_first(external)), "a link that leads elsewhere"),
    "h5, new layout, external storage": (new_h5(as_first(external_storage)), "in another file"),
    "h5, new layout, virtual": (new_h5(as_first(virtual)), "in another file"),
    "h5, new layout, terabytes": (new_h5(as_first(unwritten)), "in pieces"),
    "h5, new layout, soft link": (new_h5(variable_by_soft_link), "a link that leads elsewhere"),
    "h5, new layout, soft link in the middle of a path": (new_h5(layers_by_soft_link), "a link that leads elsewhere"),
    "h5, new layout, circle": (new_h5(circle), "that another path leads to"),
    "h5, new layout, doubled": (new_h5(doubled), "that another path leads to"),
    "h5, new layout, no number": (new_h5(no_number), "invalid literal"),
    "h5, new layout, a tensor for a layer": (
        new_h5(lambda variables: variables.file.create_dataset("layers/x", data=BASE)), "is no group"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_wrong_files(text, message, write):
    path = write(text)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as error:
            dict(readers.read_tensors(path))
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()
    name, _, text = str(error.value).partition(": ")
    assert name == str(path) and message in text and "ownload" in text and "\n" not in text


def test_storage_is_checked_when_it_is_read(write):
    text = zipped(state_dict(tensor()))
    at = text.index(np.float32(5).tobytes())
    tensors = readers.read_tensors(write(text[:at] + np.float32(6).tobytes() + text[at + 4 :]))
    with pytest.raises(ValueError, match=r"weights.bin.*CRC"):
        tensors["weight"]


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        readers.read_tensors(tmp_path / "nothing.pth")


@pytest.mark.parametrize("name", ["safetensors", "torch zip", "torch legacy", "caffe", "keras"])
def test_truncated(name, write):
    text = FILES[name][0]()
    tenths = (1, 5, 9) if name == "keras" else range(10)  # each is a process
    for end in (9, *(60 + (len(text) - 60) * tenth // 10 for tenth in tenths), len(text) - 1):
        with pytest.raises(ValueError, match=r"weights\.bin"):
            dict(readers.read_tensors(write(text[:end])))


CHANGES = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8)), min_size=1, max_size=3
)


def read_mutated(path: Path, text: bytes, changes) -> None:
    for where, new in changes:
        at = int(where * len(text))
        text = text[:at] + new + text[at + len(new) :]
    path.write_bytes(text)
    tracemalloc.start()
    try:
        dict(readers.read_tensors(path))
    except ValueError as error:
        assert str(path) in str(error)
    finally:
        assert tracemalloc.get_traced_memory()[1] < 10e6  # of a file of a few kilobytes
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["safetensors", "torch zip", "torch legacy", "caffe"])
def test_mutated(name, tmp_path):
    @settings(max_examples=200, deadline=None)
    @given(CHANGES)
    def check(changes):
        read_mutated(tmp_path / "weights.bin", FILES[name][0](), changes)

    check()


def test_mutated_h5(tmp_path, monkeypatch):
    monkeypatch.setattr(keras_h5, "LIMIT", 5)

    @settings(max_examples=8, deadline=None, derandomize=True)  # each is a process
    @given(CHANGES)
    def check(changes):
        read_mutated(tmp_path / "weights.bin", keras(str), changes)

    check()


def test_h5_that_is_slow_to_come(write, monkeypatch):
    monkeypatch.setattr(keras_h5, "LIMIT", 0.01)
    with pytest.raises(ValueError, match=r"weights\.bin.*did not understand it within 0.01 s\."):
        readers.read_tensors(write(keras()))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not say what a process takes")
def test_h5_that_takes_memory(tmp_path, monkeypatch):
    """A list of names as long as its file: read, if there is memory for it."""
    with h5py.File(tmp_path / "long.h5", "w", libver="latest") as file:
        file.attrs["layer_names"] = np.zeros(2**23, "S1")
    with pytest.raises(ValueError, match=r"names '.*' twice"):
        readers.read_tensors(tmp_path / "long.h5")
    monkeypatch.setattr(keras_h5, "MEMORY_LIMIT", 2**24)
    with pytest.raises(ValueError, match=r"long\.h5.*the HDF5 library wanted more than 16 MiB of memory"):
        readers.read_tensors(tmp_path / "long.h5")


def test_h5_that_hangs_the_library(write, monkeypatch):
    """A length beyond the end of its heap of strings, on which HDF5 1.14.6 loops for ever."""
    monkeypatch.setattr(keras_h5, "CPU_LIMIT", 1)
    text = keras(str)
    length = text.index(b"conv1", text.index(b"GCOL")) - 8
    with pytest.raises(
        ValueError, match=r"weights\.bin.*(within 1 s of computing|synchronously read)"
    ):  # a later HDF5 may notice
        readers.read_tensors(write(text[:length] + b"\x80" + text[length + 1 :]))


REAL = {
    "resnet20-12fca82f.th": (97, {"conv1.weight": (16, 3, 3, 3), "linear.weight": (10, 64)}),
    "squeezenet_v1.1.npy": (52, {"conv1/0": (3, 3, 3, 64), "conv1/1": (64,), "conv10/0": (1, 1, 512, 1000)}),
    "resnet18_without_layer4_convs.safetensors": (98, {"conv1.weight": (64, 3, 7, 7), "fc.bias": (1000,)}),
    "mobilenet_2_5_224_tf_no_top.h5": (135, {"conv1/0": (3, 3, 3, 8), "conv_pw_13_bn/3": (256,)}),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files(name, real_data):
    count, shapes = REAL[name]
    tensors = readers.read_tensors(real_data / "weights" / name)
    assert len(tensors) == count
    assert {key: tensors[key].shape for key in shapes} == shapes
    assert all(np.isfinite(array).all() for array in tensors.values())


def test_real_torch_file_is_as_torch_reads_it(real_data):
    """Every tensor's type, shape and CRC-32, as scripts/golden/make_torch_crc.py wrote them with torch."""
    wanted = json.loads((GOLDEN / "resnet20-12fca82f.json").read_text())
    tensors = readers.read_tensors(real_data / "weights" / "resnet20-12fca82f.th")
    assert list(tensors) == list(wanted) and len(wanted) == 97
    for name, facts in wanted.items():
        array = tensors[name]
        assert [str(array.dtype), list(array.shape), zlib.crc32(np.ascontiguousarray(array))] == facts, name


def test_real_h5_is_as_h5py_reads_it(real_data):
    path = real_data / "weights" / "mobilenet_2_5_224_tf_no_top.h5"
    wanted = {}
    with h5py.File(path) as file:
        for layer in file.attrs["layer_names"]:
            for i, name in enumerate(file[layer].attrs["weight_names"]):
                wanted[f"{layer.decode()}/{i}"] = file[layer][name][()]
    tensors = readers.read_tensors(path)
    assert list(tensors) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(tensors[name], array, strict=True)


def test_reading_is_lazy(tmp_path):
    """Opening 40 MB, then one tensor of it, takes the memory of that tensor."""
    arrays = {f"layer{i}": np.full((1000, 1000), i, np.float32) for i in range(10)}
    safetensors.numpy.save_file(arrays, tmp_path / "a")
    with zipfile.ZipFile(tmp_path / "b", "w") as archive:
        entries = b"".join(
            value(name) + tensor(of=storage(10**6, key=name), shape=(1000, 1000), stride=(1000, 1)) for name in arrays
        )
        archive.writestr("archive/data.pkl", b"\x80\x02}(" + entries + b"u.")
        for name, array in arrays.items():
            archive.writestr(f"archive/data/{name}", array.tobytes())
    for path in (tmp_path / "a", tmp_path / "b"):
        tracemalloc.start()
        assert readers.read_tensors(path)["layer7"][3, 4] == 7
        assert tracemalloc.get_traced_memory()[1] < 2.5 * 4e6
        tracemalloc.stop()
