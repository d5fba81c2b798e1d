"""Small sound files of every kind that jft reads, and how each is read: what tests/fuzz_files.py breaks."""

import functools
import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from PIL import Image

from jft.cli import config_file
from jft.config import as_json, default_config, validate
from jft.data import cifar, csv_file, csv_table, decode, imagenet
from jft.data.transforms import Preprocess
from jft.evaluation import open_model
from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.training import rollback
from jft.utils import checksum, json_file, logger
from jft.weights import hf_config, hf_files, metadata, readers

GOLDEN = Path(__file__).parent / "golden"
ARRAYS = {"conv1": [np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.zeros(4, np.float32)], "fc": [np.ones((2, 3))]}
NAMES = b"airplane automobile bird cat deer dog frog horse ship truck".split()
_FACTS = GOLDEN / "checkpoint_metadata.json"  # of a real run
_SKIPPED = {"steps": [{"step": 7, "fault": "the loss is nan", "images": ["a.png", "b.png"]}]}
ROWS = 4  # images of a batch


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
      name: what the table calls it.
      file: its name, whose extension some readers look at.
      seeds: makes sound files of it.
      read: reads one, given its path, and returns nothing.
      inner: what the bytes are packed in, where they are also broken beneath that; see `fuzz_files.PACKINGS`.
      share: of the mutations, against others; of what needs a process each, fewer.
    """

    name: str
    file: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], Any]
    inner: str = ""
    share: float = 1


def _written(write: Callable[[io.BytesIO], Any]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def _safetensors() -> list[bytes]:
    tensors = {f"{layer}.{i}": array for layer, arrays in ARRAYS.items() for i, array in enumerate(arrays)}
    return [_in_safetensors(tensors), *_own()]


def _own() -> list[bytes]:
    about = {"model": '"squeezenet1_1"', "options": '{"num_classes": 3}', "class_names": '["a", "b", "c"]'}
    about |= {"preprocess": json.dumps(Preprocess().to_dict()), "fit": '"crop"', "objective": '"softmax"'}
    own = {"params/head/head/kernel": np.ones((1, 1, 512, 3), "f4"), "params/head/head/bias": np.zeros(3, "f4")}
    return [_in_safetensors({"__metadata__": about} | own)]


def _in_safetensors(entries: dict[str, Any]) -> bytes:
    """As the library writes it, whose order changes from call to call."""
    header, body = {}, b""
    for name, entry in entries.items():
        header[name] = entry
        if isinstance(entry, np.ndarray):
            raw = np.asarray(entry, "<f4").tobytes()
            header[name] = {"dtype": "F32", "shape": entry.shape, "data_offsets": [len(body), len(body) + len(raw)]}
            body += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def zipped(members: dict[str, bytes]) -> bytes:
    """A zip archive that holds its members plainly, always the same."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()


def _caffe() -> list[bytes]:
    named = {"conv1": dict(zip(("weights", "biases"), ARRAYS["conv1"], strict=True))}
    return [
        _written(lambda file, layers=layers: np.save(file, np.array(layers, object), allow_pickle=True))
        for layers in (ARRAYS, named)
    ]


def _legacy_h5(file: io.BytesIO) -> None:
    with h5py.File(file, "w") as h5:
        h5.attrs["layer_names"] = list(ARRAYS)
        h5.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"layers": []}})
        for layer, arrays in ARRAYS.items():
            group = h5.create_group(layer)
            names = [f"{layer}/{kind}:0" for kind in ("kernel", "bias")[: len(arrays)]]
            group.attrs["weight_names"] = names
            for name, array in zip(names, arrays, strict=True):
                group[name] = array


def _new_h5(file: io.BytesIO) -> None:
    with h5py.File(file, "w") as h5:
        for i, (layer, arrays) in enumerate(ARRAYS.items()):
            variables = h5.create_group(f"layers/dense{f'_{i}' if i else ''}/vars")
            variables.attrs["name"] = layer
            for position, array in enumerate(arrays):
                variables[str(position)] = array


def _keras() -> bytes:
    layers = [{"class_name": "Dense", "config": {"name": name}} for name in ARRAYS]
    config = json.dumps({"class_name": "Sequential", "config": {"layers": layers}}).encode()
    return zipped({"config.json": config, "model.weights.h5": _written(_new_h5)})


def _batches() -> dict[str, bytes]:
    """The files of a CIFAR-10 of a few images."""
    rng = np.random.default_rng(0)
    files: dict[str, Any] = {"batches.meta": {b"num_cases_per_batch": ROWS, b"label_names": NAMES}}
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        images = rng.integers(0, 256, (ROWS, 3072), dtype=np.uint8)
        files[name] = {b"batch_label": b"", b"labels": [0, 3, 8, 9], b"data": images, b"filenames": [b"a.png"] * ROWS}
    return {name: pickle.dumps(content, 2) for name, content in files.items()}


def _tar(file: io.BytesIO) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in _batches().items():
            header = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            header.size, header.mtime = len(content), 1234.5
            archive.addfile(header, io.BytesIO(content))


def _image(format: str, mode: str = "RGB", **options: Any) -> bytes:
    x = np.linspace(0, 255, 40 * 30 * 3).reshape(30, 40, 3).astype(np.uint8)
    image = Image.fromarray(x)
    image = Image.fromarray(x[..., 0].astype(np.uint16) * 256) if mode == "I;16" else image.convert(mode)
    return _written(lambda file: image.save(file, format, **options))


_FRAMES = {"save_all": True, "append_images": [Image.new("RGB", (40, 30), color) for color in ("red", "blue")]}
_EXIF = Image.Exif()
_EXIF[0x0112] = 6
_IMAGES = {
    "JPEG": [("RGB", {"exif": _EXIF}), ("L", {}), ("CMYK", {}), ("RGB", {"progressive": True, "quality": 30})],
    "PNG": [("RGB", {}), ("RGBA", {}), ("P", {}), ("I;16", {}), ("1", {}), ("LA", {})],
    "PPM": [("RGB", {}), ("L", {}), ("1", {})],
    "BMP": [("RGB", {}), ("P", {}), ("1", {})],
    "GIF": [("P", {}), ("RGB", _FRAMES)],
    "WEBP": [("RGB", {}), ("RGBA", {"lossless": True}), ("RGB", _FRAMES)],
    "TIFF": [
        ("RGB", {}), ("RGB", {"compression": "tiff_lzw"}), ("L", {"compression": "packbits"}),
        ("RGB", {"compression": "tiff_deflate"}), ("CMYK", {}), ("I;16", {}), ("RGB", _FRAMES),
        ("RGB", {"compression": "jpeg"}),
    ],
}  # fmt: skip


def _images(format: str) -> list[bytes]:
    return [_image(format, mode, **options) for mode, options in _IMAGES[format]]


def _csvs() -> list[bytes]:
    rows = [f"{i}.png,{'abc'[i % 3]}" for i in range(12)]
    several = [f"{row}|d,{('train', 'val', 'test')[i // 3 % 3]}" for i, row in enumerate(rows)]
    files = ["path,label", *rows], ["filename,labels,split", *several], ["x,image,class", *(f"7,{row}" for row in rows)]
    return ["\n".join(lines).encode() for lines in files]


def _rows() -> list[bytes]:
    return [_csvs()[2].replace(b",", b";")]


def _json(value: Any) -> list[bytes]:
    return [json.dumps(value, indent=1).encode()]


def _index() -> list[bytes]:
    ids = imagenet.class_ids()
    return _json({str(i): [wnid, "name"] for i, wnid in enumerate(ids)})


def read_weights(path: Path) -> None:
    """All tensors, and what the file says of itself."""
    metadata.read(path)
    dict(readers.read_tensors(path))


def _open_own(path: Path) -> None:
    """What a file of jft's own says of itself builds a model."""
    open_model.open_source(str(path))


def _read_batch(path: Path) -> None:
    """One file of a CIFAR-10 whose others are sound."""
    for name, content in _batches().items():
        if name != path.name:
            (path.parent / name).write_bytes(content)
    _read_cifar(path.parent)


def _read_cifar(place: Path) -> None:
    found = cifar.find(str(place))
    for read in found[1].values():
        read()


def _read_csv(path: Path) -> None:
    for i in range(12):
        (path.parent / f"{i}.png").touch()
    _, splits = csv_file.find(str(path))
    for read in splits.values():
        read()


def _read_image(path: Path) -> None:
    for fit in ("crop", "whole"):
        decode.decode(path, Preprocess(size=16, resize=20), fit=fit)


def _with_and_without_checksum(value: dict[str, Any]) -> list[bytes]:
    """An object of JSON; without a checksum, as earlier versions wrote it, what is broken in it is read as it is."""
    return [json.dumps(checksum.added(value)).encode(), json.dumps(value).encode()]


def _configs() -> list[bytes]:
    changed = default_config()
    changed.update({"phases": ({"epochs": 2, "freeze": "fc7"}, {"epochs": 5}), "class_weights": (1.0, 2.0)})
    changed.arms = (("small", {"batch_size": 8}), ("large", {"batch_size": 64}))
    return [json.dumps(as_json(config)).encode() for config in (default_config(), changed)]


def _read_config(path: Path) -> None:
    config = config_file.of_json(str(path))
    try:
        validate(config)
    except ValueError as error:  # names the fields, wherever they come from
        raise ValueError(f"{path}: {error}") from error


def _hub_configs() -> list[bytes]:
    cfg = {"input_size": [3, 32, 32], "crop_pct": 0.95, "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.5] * 3}
    config = {"architecture": "resnet18", "num_classes": 3, "label_names": ["a", "b", "c"], "pretrained_cfg": cfg}
    args = {"model_args": {"img_size": 32}, "global_pool": "avg", "license": "mit"}
    return [json.dumps(found).encode() for found in (config, {**config, **args}, {**cfg, "architecture": "resnet18"})]


def _read_hub_config(path: Path) -> None:
    facts = {"license": "", "path": str(path), "sha256": None, "size": 1}
    hf_config.row_of(hf_files.Found("hf:a/b", "a/b", path.read_bytes(), str(path), **facts))


def _logs() -> list[bytes]:
    lines = [
        {"step": 2, "kind": "train", "loss": 0.5, "accuracy": 0.75, "seconds": 2.5, "waiting": 0.1}
        | {"phase": "head", "boundary": "fire9", "learning": 2565, "batch_norm": "none"},
        {"step": 2, "kind": "validation", "time": "2026-11-28T01:33:33.673+00:00", "loss": 0.6, "count": 88},
    ]
    forms = zip(*map(_with_and_without_checksum, lines), strict=True)
    return [b"\n".join((*form, b"")) for form in forms]


def _read_checkpoint(path: Path) -> None:
    """What a checkpoint says of itself."""
    found = json_file.read(path, dict[str, Any], "restore it")
    try:
        CheckpointInfo.from_json(found)
    except ValueError as error:  # the caller names the checkpoint
        raise ValueError(f"{path}: {error}") from error


_WEIGHTS = functools.partial(Kind, read=read_weights)
KINDS = [
    _WEIGHTS("safetensors", "a.safetensors", _safetensors, inner="safetensors"),
    Kind("jft's own", "a.safetensors", _own, _open_own, inner="safetensors"),
    _WEIGHTS("torch zip", "a.pth", lambda: [(GOLDEN / "torch_zip.pth").read_bytes()], inner="zip"),
    _WEIGHTS("torch legacy", "a.pth", lambda: [(GOLDEN / "torch_legacy.pth").read_bytes()]),
    _WEIGHTS("Caffe npy", "a.npy", _caffe),
    _WEIGHTS("Keras legacy h5", "a.h5", lambda: [_written(_legacy_h5)], share=0.3),
    _WEIGHTS("Keras .weights.h5", "a.weights.h5", lambda: [_written(_new_h5)], share=0.3),
    _WEIGHTS("Keras .keras", "a.keras", lambda: [_keras()], inner="zip", share=0.3),
    Kind("CIFAR-10 batch", "data_batch_2", lambda: [_batches()["data_batch_2"]], _read_batch),
    Kind("CIFAR-10 names", "batches.meta", lambda: [_batches()["batches.meta"]], _read_batch),
    Kind("CIFAR-10 tar", "a.tar", lambda: [_written(_tar)], _read_cifar, inner="tar"),
    Kind("CIFAR-10 tar.gz", "a.tar.gz", lambda: [gzip.compress(_written(_tar), 1, mtime=0)], _read_cifar, inner="gzip"),
    *(Kind(name, f"a.{name.lower()}", functools.partial(_images, name), _read_image,
           inner="png" if name == "PNG" else "") for name in _IMAGES),
    Kind("CSV", "a.csv", _csvs, _read_csv),
    Kind("GTSRB csv", "GT-00000.csv", _rows, lambda path: csv_table.read(path, ";")),
    Kind("ImageNet index", imagenet.CLASS_INDEX, _index, lambda path: imagenet.class_ids(path.parent), share=0.3),
    Kind("run config", "config.json", _configs, _read_config),
    Kind("hub config", "config.json", _hub_configs, _read_hub_config),
    Kind("run log", "metrics.jsonl", _logs, lambda path: logger.read_metrics(path.parent)),
    Kind("skipped steps", rollback.FILE, lambda: _with_and_without_checksum(_SKIPPED),
         lambda path: rollback.read(path.parent)),
    Kind("checkpoint facts", "metadata", lambda: _with_and_without_checksum(json.loads(_FACTS.read_text())),
         _read_checkpoint),
]  # fmt: skip
