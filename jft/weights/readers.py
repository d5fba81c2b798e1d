"""Weight files as `{name: array}`, read lazily and without running them, whoever wrote them.

Each format is recognised by its first bytes. Its reader checks the file's table of contents and returns, per tensor,
a function that reads it; nothing takes more memory than the file's size warrants.
"""

import contextlib
import functools
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 - registers bfloat16, which safetensors asks NumPy for by name
import numpy as np
import safetensors

from jft import safe_pickle
from jft.weights import h5_contents, torch_files


def read_tensors(path: str | os.PathLike) -> Mapping[str, np.ndarray]:
    """Opens a weight file.

    | format                             | names                                                        |
    |------------------------------------|--------------------------------------------------------------|
    | safetensors                        | as stored                                                    |
    | torch zip and legacy: .pth .pt .th | as in the state dict, without a 'module.' common to all      |
    | Keras legacy .h5                   | 'layer/position' in the layer's weight_names                 |
    | Caffe .npy                         | 'layer/position': 0 weights, 1 biases, then what else is there |

    Args:
      path: the file; its extension does not matter.

    Returns:
      The tensors, each read when it is asked for; possibly read-only.

    Raises:
      OSError: the file cannot be opened.
      ValueError: it is truncated, corrupt, none of these, holds what is no tensor, or would run code
        (`safe_pickle.UnsafePickleError`). Asking the result for a tensor may raise it too.
    """
    path = Path(path)
    with path.open("rb") as file:
        head = file.read(512)
    with _one_error(path):
        return _Tensors(path, _reader(head)(path))


class _Tensors(Mapping[str, np.ndarray]):
    def __init__(self, path: Path, reads: torch_files.Reads) -> None:
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
    except Exception as e:  # the libraries that parse it have no common base error
        raise ValueError(
            f"{path}: cannot be read as weights, it is truncated, corrupt or something else: {e}. Download it again."
        ) from e


def _reader(head: bytes) -> Callable[[Path], torch_files.Reads]:
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


def _read_safetensors(path: Path) -> torch_files.Reads:
    file = safetensors.safe_open(path, "np")
    with path.open("rb") as raw:  # the library lets the last of several tensors of one name win
        header = raw.read(int.from_bytes(raw.read(8), "little"))
    json.loads(header, object_pairs_hook=_without_duplicates)
    return {name: functools.partial(file.get_tensor, name) for name in file.keys()}  # noqa: SIM118 - no mapping


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it names a tensor twice")
    return found


def _read_caffe(path: Path) -> torch_files.Reads:
    with path.open("rb") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("an npy file of a version that no Caffe converter wrote")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if shape != () or dtype.kind != "O":
            raise ValueError(f"an npy file with one array {dtype}{list(shape)}, not with a dict of layers")
        layers = safe_pickle.load_arrays(file)[()]
    tensors: dict[str, np.ndarray] = {}
    for key, entries in layers.items():
        layer = _text(key)
        if isinstance(entries, dict):  # weights, biases, then the others as they come
            order = {"weights": 0, "biases": 1}
            entries = [entries[k] for k in sorted(entries, key=lambda k: order.get(_text(k), 2))]
        if f"{layer}/0" in tensors:  # once as bytes and once as text
            raise ValueError(f"it names layer {layer!r} twice")
        for i, array in enumerate(entries):
            if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
                raise ValueError(f"entry {i} of layer {layer!r} is no tensor but a {type(array).__name__}")
            tensors[f"{layer}/{i}"] = array
    return {name: functools.partial(np.asarray, array) for name, array in tensors.items()}


def _read_keras(path: Path) -> torch_files.Reads:
    size = path.stat().st_size
    reads: torch_files.Reads = {}
    for name, dtype, shape, offset in h5_contents.contents(str(path)):
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        if np.dtype(dtype).kind not in "fiub" or offset + nbytes > size:
            raise ValueError(f"{name!r} is no tensor, or reaches beyond the end of the file")
        if name in reads:
            raise ValueError(f"it names {name!r} twice")
        reads[name] = functools.partial(_read_plain, path, dtype, shape, offset)
    return reads


def _read_plain(path: Path, dtype: str, shape: list[int], offset: int) -> np.ndarray:
    return np.fromfile(path, dtype, math.prod(shape), offset=offset).reshape(shape)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


_FORMATS = {
    b"PK\x03\x04": torch_files.read_zip,
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.": torch_files.read_legacy,  # its magic number, pickled
    b"\x93NUMPY": _read_caffe,
    b"\x89HDF\r\n\x1a\n": _read_keras,
}
_MISTAKES = {
    b"version https://git-lfs": "a Git LFS pointer, not the file itself",
    b"<": "a web page, not the file itself",
    b"\x1f\x8b": "compressed with gzip: unpack it first",
}
