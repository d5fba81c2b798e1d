"""Reads untrusted weight files as `{name: array}`, lazily and without executing them.

Each format is recognized by its first bytes. Its reader checks the file's table of contents and returns, per tensor,
a function that reads it; nothing takes more memory than the file's size warrants.
"""

import contextlib
import functools
import itertools
import json
import math
import os
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes  # also registers bfloat16, which safetensors and Keras name
import numpy as np
import safetensors

from jft.utils import pickled_arrays, safe_pickle
from jft.utils.files import open_regular
from jft.weights.readers import keras_config, keras_h5, torch_file, zip_file


def read_tensors(path: str | os.PathLike) -> Mapping[str, np.ndarray]:
    """Opens a weight file.

    | format                             | names                                                        |
    |------------------------------------|--------------------------------------------------------------|
    | safetensors                        | as stored                                                    |
    | torch zip and legacy: .pth .pt .th | as in the state dict, without a 'module.' common to all      |
    | Keras legacy .h5                   | 'layer/position' in the layer's weight_names                 |
    | Keras .weights.h5 and .keras       | 'layer/position' among the layer's variables                 |
    | Caffe .npy                         | 'layer/position': 0 weights, 1 biases, then what else is there |

    Args:
      path: the file; its extension does not matter.

    Returns:
      The tensors, each read on access; possibly read-only.

    Raises:
      OSError: the file cannot be opened.
      ValueError: it is no regular file, truncated, corrupt, none of these, holds what is no tensor, or would run code
        (`safe_pickle.UnsafePickleError`). Asking the result for a tensor may raise it too.
    """
    path = Path(path)
    with open_regular(path) as file:
        head = file.read(512)
    with _one_error(path):
        reads = _reader(head)(path)
        if strange := next((name for name in reads if not name.isprintable()), None):  # they go into messages
            raise ValueError(f"it names a tensor {strange[:80]!r}")
        return _Tensors(path, reads)


class _Tensors(Mapping[str, np.ndarray]):
    def __init__(self, path: Path, reads: torch_file.Reads) -> None:
        self._path, self._reads = path, reads

    def __getitem__(self, name: str) -> np.ndarray:
        read = self._reads[name]
        with _one_error(self._path):
            return read()

    def __iter__(self) -> Iterator[str]:
        return iter(self._reads)

    def __len__(self) -> int:
        return len(self._reads)


@contextlib.contextmanager
def _one_error(path: Path) -> Iterator[None]:
    try:
        yield
    except safe_pickle.UnsafePickleError as e:
        raise safe_pickle.UnsafePickleError(
            f"{path}: {e}. Do not use this file: download the weights again from a source you trust."
        ) from e
    except keras_h5.UnsuitableError as e:
        raise ValueError(f"{path}: {e}.") from e
    except Exception as e:  # the libraries that parse it have no common base error
        raise ValueError(
            f"{path}: cannot be read as weights, it is truncated, corrupt or something else: {e}. Download it again."
        ) from e


_MAX_HEADER = 2**24  # bytes of JSON, of a safetensors file or of a Keras model
_MAX_ENTRIES = 16  # tensors of one layer


def _reader(head: bytes) -> Callable[[Path], torch_file.Reads]:
    if not head:
        raise ValueError("it is empty")
    for magic, reader in _FORMATS.items():
        if head.startswith(magic):
            return reader
    if head[8:9] == b"{":
        return _read_safetensors
    for magic, what in _MISTAKES.items():
        if head.startswith(magic):
            raise ValueError(what)
    if head[257:262] == b"ustar":
        raise ValueError(
            "a tar archive; weights that torch 0.1.9 and older saved so must be saved anew by a later torch"
        )
    raise ValueError(f"it starts with {head[:8]!r}, as none of safetensors, torch, Keras h5 and Caffe npy does")


def _read_safetensors(path: Path) -> torch_file.Reads:
    with path.open("rb") as raw:  # the library lets the last of several tensors of one name win
        length = int.from_bytes(raw.read(8), "little")
        if length > min(_MAX_HEADER, path.stat().st_size):
            raise ValueError(f"its header claims {length} bytes; those of weights have some thousands")
        header = raw.read(length)
    json.loads(header, object_pairs_hook=_without_duplicates)
    file = safetensors.safe_open(path, "np")  # checks that the tensors fill the file, one behind the other
    return {name: functools.partial(file.get_tensor, name) for name in file.keys()}  # noqa: SIM118 - no mapping


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it names a tensor twice")
    return found


def _read_caffe(path: Path) -> torch_file.Reads:
    with path.open("rb") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("an npy file of a version that no Caffe converter wrote")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if shape != () or dtype.kind != "O":
            raise ValueError(f"an npy file with one array {dtype}{list(shape)}, not with a dict of layers")
        layers = pickled_arrays.load_arrays(file)[()]
    tensors: dict[str, np.ndarray] = {}
    for key, entries in layers.items():
        layer = _text(key)
        if isinstance(entries, dict):  # weights, biases, then the others as they come
            order = {"weights": 0, "biases": 1}
            entries = [entries[k] for k in sorted(entries, key=lambda k: order.get(_text(k), 2))]
        if len(entries) > _MAX_ENTRIES:  # many layers may share one list
            raise ValueError(f"layer {layer[:80]!r} has {len(entries)} tensors")
        if f"{layer}/0" in tensors:  # once as bytes and once as text
            raise ValueError(f"it names layer {layer!r} twice")
        for i, array in enumerate(entries):
            if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
                raise ValueError(f"entry {i} of layer {layer!r} is no tensor but a {type(array).__name__}")
            tensors[f"{layer}/{i}"] = array
    return {name: functools.partial(np.asarray, array) for name, array in tensors.items()}


def _read_zip(path: Path) -> torch_file.Reads:
    members = zip_file.members(path)
    if "config.json" not in members:
        return torch_file.read_zip(path, members)
    weights = members.get("model.weights.h5")
    if weights is None:
        raise keras_h5.UnsuitableError(
            "a Keras model without model.weights.h5, in pieces perhaps: load it in Keras and save its weights in one "
            "file, by model.save_weights('x.weights.h5')"
        )
    if members["config.json"].size > _MAX_HEADER:
        raise ValueError(f"its config.json claims {members['config.json'].size} bytes")
    for member in (members["config.json"], weights):
        zip_file.check(path, member)
    config = keras_h5.check_config(zip_file.read(path, members["config.json"]))
    return _read_keras(path, weights.start, weights.size, keras_config.layer_names(config))


def _read_keras(
    path: Path, start: int = 0, size: int | None = None, names: Mapping[str, str] = types.MappingProxyType({})
) -> torch_file.Reads:
    """An h5 file, or the one that lies in `path` from `start`; `names` are those that its layers do not say."""
    size = path.stat().st_size if size is None else size
    reads: torch_file.Reads = {}
    taken = []
    for weight in keras_h5.contents(str(path), start, size):
        layer = weight.layer or names.get(weight.group)
        if layer is None:
            raise keras_h5.UnsuitableError(
                f"its layers are numbered by class, such as {weight.group!r}, and have no names, as Keras wrote "
                ".weights.h5 up to 3.5: load it in Keras and save the whole model, by model.save('x.keras')"
            )
        name, dtype = f"{layer}/{weight.position}", np.dtype(weight.dtype)
        nbytes = math.prod(weight.shape) * dtype.itemsize
        if (dtype.kind not in "fiub" and dtype != ml_dtypes.bfloat16) or weight.offset + nbytes > size:
            raise ValueError(f"{name!r} is no tensor, or reaches beyond the end of the file")
        if name in reads:
            raise ValueError(f"it names {name!r} twice")
        taken.append((weight.offset, weight.offset + nbytes, name))
        reads[name] = functools.partial(_read_plain, path, dtype, weight.shape, start + weight.offset)
    _check_apart(taken)
    return reads


def _check_apart(taken: list[tuple[int, int, str]]) -> None:
    """Refuses tensors (from, to, name) that share bytes: many could claim the same ones."""
    taken = sorted(entry for entry in taken if entry[0] < entry[1])
    for (_, end, one), (start, _, other) in itertools.pairwise(taken):
        if start < end:
            raise ValueError(f"{one!r} and {other!r} lie on the same bytes")


def _read_plain(path: Path, dtype: np.dtype, shape: Sequence[int], offset: int) -> np.ndarray:
    return np.fromfile(path, dtype, math.prod(shape), offset=offset).reshape(shape)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


_FORMATS = {
    b"PK\x03\x04": _read_zip,
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.": torch_file.read_legacy,  # its magic number, pickled
    b"\x93NUMPY": _read_caffe,
    b"\x89HDF\r\n\x1a\n": _read_keras,
}
_MISTAKES = {
    b"version https://git-lfs": "a Git LFS pointer, not the file itself",
    b"<": "a web page, not the file itself",
    b"\x1f\x8b": "compressed with gzip: unpack it first",
}
