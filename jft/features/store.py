"""The activation cache: features on disk, by recipe and image, so that each is computed only once.

    <folder>/<key of the recipe>/recipe.json
    <folder>/<key of the recipe>/shard-<number>/features.npy, pictures.npy, manifest.json

A shard never changes. It is written aside and renamed when it is whole, so a process that is killed leaves the shards
that it finished and a folder `.writing-*` that nobody reads; several processes can write at once. A process holds a
lock on the folder it writes, which the system releases when it dies: the next writer deletes folders that nobody locks.
"""

import contextlib
import fcntl
import os
import shutil
import uuid
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict

import jax.numpy as jnp
import numpy as np
from absl import logging

from jft.features import cache_key as recipes
from jft.utils import distributed, json_file
from jft.utils.files import folder_problem, nearest
from jft.utils.logger import write_json

SHARD_IMAGES = 1024
SHARD_BYTES = 256 * 10**6

_FEATURES, _IMAGES, _MANIFEST = "features.npy", "pictures.npy", "manifest.json"  # names of caches since 0.1.0
_OVERHEAD = 4096  # generous limit on the bytes of a shard other than features and digests


class _Written(TypedDict):
    """Size and checksum of a shard's file when it was written."""

    bytes: int
    crc32: int


class _Manifest(TypedDict):
    files: dict[str, _Written]


class Features:
    """Features of n images, read from disk on access.

    Attributes:
      shape: shape of one image's features, [variants, ...].
      dtype: dtype of the features.
      recipe: everything that they depend on, see `cache_key.recipe`.
    """

    def __init__(self, store: "FeatureStore", shards: list[np.ndarray], where: np.ndarray) -> None:
        """`shards` are arrays [r, size]; `where`, int64 [n, 2], holds the shard and row of each image."""
        self._shards, self._where = shards, where
        self.shape, self.dtype, self.recipe = store.shape, store.dtype, store.recipe

    def __len__(self) -> int:
        return len(self._where)

    @property
    def nbytes(self) -> int:
        """Bytes of all features in memory."""
        return len(self) * int(np.prod(self.shape)) * self.dtype.itemsize

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """Copies the features of some images.

        Args:
          rows: int [b], indices of images in the order given to `FeatureStore.open`.

        Returns:
          [b, *shape], in the stored dtype.
        """
        gathered = np.empty((len(rows), int(np.prod(self.shape))), self.dtype)
        # Row by row: as fast as NumPy's indexing of each shard, and twice as fast for large rows.
        for row, (shard, place) in enumerate(self._where[rows].tolist()):
            gathered[row] = self._shards[shard][place]
        return gathered.reshape(-1, *self.shape)


class FeatureStore:
    """The stored features of one recipe. Only `write` creates files or folders."""

    def __init__(
        self, folder: str | os.PathLike, recipe: Mapping[str, Any], shape: tuple[int, ...], dtype: str = "float32"
    ) -> None:
        """Finds the stored shards.

        Args:
          folder: folder of the stores of all recipes.
          recipe: from `cache_key.recipe`.
          shape: shape of one image's features, [variants, ...].
          dtype: dtype on disk, 'float32' or 'bfloat16'.
        """
        self.recipe = {**recipe, "shape": list(shape), "stored_as": dtype}
        self.folder = Path(folder).expanduser() / recipes.key(self.recipe)
        self.shape, self.dtype = tuple(shape), jnp.dtype(dtype)
        self._shards: list[np.ndarray] = []  # [images, size] each
        self._known: set[str] = set()  # names of shards that were checked
        self._index: dict[bytes, tuple[int, int]] = {}  # {digest of an image: (shard, row)}

    @property
    def shard_images(self) -> int:
        """Limit on the number of images in a shard."""
        return max(1, min(SHARD_IMAGES, SHARD_BYTES // self._image_bytes))

    @property
    def _image_bytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def missing(self, digests: np.ndarray) -> np.ndarray:
        """The images without stored features.

        Every shard is checked once. A damaged shard is renamed with a warning, and its images count as missing.

        Args:
          digests: uint8 [n, 16], from `cache_key.image_digests`.

        Returns:
          int64, ascending: rows of `digests`; of images that occur several times, only the first.
        """
        self._look()
        seen: set[bytes] = set()
        rows = []
        for row, digest in enumerate(_as_bytes(digests)):
            if digest not in self._index and digest not in seen:
                seen.add(digest)
                rows.append(row)
        return np.array(rows, np.int64)

    def bytes_needed(self, count: int) -> int:
        """Size on disk of the features of `count` more images, in bytes."""
        shards = -(-count // self.shard_images)
        return count * (self._image_bytes + recipes.DIGEST_BYTES) + shards * _OVERHEAD

    def shortage(self, count: int, *, beside: int = 0) -> str | None:
        """Why the features of `count` more images cannot be stored, such as too little disk space; None if they can.

        Args:
          count: number of images.
          beside: bytes of the free space that other files will take.
        """
        if problem := folder_problem(self.folder):
            return problem
        needed, free = self.bytes_needed(count), shutil.disk_usage(nearest(self.folder)).free - beside
        if needed <= free:
            return None
        return f"the features of {count:,} images take {needed:,} bytes and {self.folder.parent} has {free:,} left"

    def write(self, digests: np.ndarray, features: np.ndarray) -> None:
        """Stores a shard atomically.

        Args:
          digests: uint8 [r, 16], digests of the images.
          features: [r, *shape], their features.

        Raises:
          ValueError: the features have another shape.
          OSError: the shard cannot be written.
        """
        if features.shape != (len(digests), *self.shape):
            raise ValueError(
                f"features are {list(features.shape)}, but the store holds {list(self.shape)} for each of "
                f"{len(digests)} images."
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "recipe.json").exists():
            write_json(self.folder / "recipe.json", self.recipe)
        self._sweep()
        name = f"shard-{uuid.uuid4().hex}"
        with _own_folder(self.folder) as aside:
            arrays = {_FEATURES: _storable(features.astype(self.dtype, copy=False)), _IMAGES: digests}
            manifest = {file: _save(aside / file, array) for file, array in arrays.items()}
            write_json(aside / _MANIFEST, {"files": manifest, "pictures": len(digests)})
            _sync(aside)
            os.rename(aside, self.folder / name)
        _sync(self.folder)
        self._add(name)

    def open(self, digests: np.ndarray) -> Features:
        """The features of images, in the order of `digests`.

        Args:
          digests: uint8 [n, 16], from `cache_key.image_digests`.

        Raises:
          ValueError: some images have no stored features; says how many.
        """
        if len(self.missing(digests)):
            raise ValueError(
                f"{self.folder} lacks the features of {len(self.missing(digests)):,} of {len(digests):,} images: "
                "extract them first."
            )
        where = np.array([self._index[digest] for digest in _as_bytes(digests)], np.int64).reshape(-1, 2)
        return Features(self, list(self._shards), where)

    def _look(self) -> None:
        """Adds shards written since the last call, and renames damaged ones."""
        for path in sorted(self.folder.glob("shard-*")):
            if path.name in self._known:
                continue
            if damage := _damage(path):
                logging.warning("features in %s are damaged (%s) and are computed anew.", path, damage)
                self._known.add(path.name)
                # In a read-only folder the shard is only skipped; of several processes, the first one renames it.
                with contextlib.suppress(OSError):
                    if distributed.is_first():
                        path.rename(path.with_name(f"damaged-{path.name}"))
                continue
            self._add(path.name)

    def _add(self, name: str) -> None:
        self._known.add(name)
        features = np.load(self.folder / name / _FEATURES, mmap_mode="r", allow_pickle=False)
        # A plain array over the mapped memory, because indexing np.memmap takes microseconds a row.
        self._shards.append(features.view(np.ndarray).view(self.dtype).reshape(len(features), -1))
        images = np.load(self.folder / name / _IMAGES, allow_pickle=False)
        for place, digest in enumerate(_as_bytes(images)):
            self._index.setdefault(digest, (len(self._shards) - 1, place))

    def _sweep(self) -> None:
        """Deletes unfinished shards of processes that have ended."""
        for path in self.folder.glob(".writing-*"):
            with contextlib.suppress(OSError), _locked(path):
                shutil.rmtree(path)


def _as_bytes(digests: np.ndarray) -> Iterator[bytes]:
    whole, size = np.ascontiguousarray(digests, np.uint8).tobytes(), digests.shape[1]
    return (whole[i : i + size] for i in range(0, len(whole), size))


def _storable(features: np.ndarray) -> np.ndarray:
    """The array in a dtype that .npy supports: bfloat16 as uint16."""
    return features.view(np.uint16) if features.dtype == jnp.bfloat16 else features


def _save(path: Path, array: np.ndarray) -> dict[str, int]:
    """Writes an array as .npy; returns size and CRC-32 of the file."""
    with path.open("wb") as file:
        np.save(file, np.ascontiguousarray(array), allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    return {"bytes": path.stat().st_size, "crc32": _crc32(path)}


def _crc32(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            crc = zlib.crc32(block, crc)
    return crc


def _damage(shard: Path) -> str | None:
    """Why a shard is damaged; None if it is intact."""
    try:
        files = json_file.read(shard / _MANIFEST, _Manifest, "its images are computed anew")["files"]
        for name in (_FEATURES, _IMAGES):
            if name not in files:
                return f"{_MANIFEST} lacks {name}"
            size = (shard / name).stat().st_size
            if size != files[name]["bytes"]:
                return f"{name} has {size:,} bytes, it was written with {files[name]['bytes']:,}"
            if _crc32(shard / name) != files[name]["crc32"]:
                return f"{name} has changed since it was written"
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None


@contextlib.contextmanager
def _own_folder(parent: Path) -> Iterator[Path]:
    """Creates a folder that is locked while it is written, and deletes it at the end unless it was renamed."""
    while True:
        path = parent / f".writing-{uuid.uuid4().hex}"
        path.mkdir()
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(_locked(path))
            except BlockingIOError:  # `_sweep` of another process has locked it first
                continue
            except OSError as error:  # without locks `_sweep` deletes nothing
                logging.info("%s does not support locks (%s)", parent, error)
            if not path.exists():
                continue
            try:
                yield path
            finally:
                shutil.rmtree(path, ignore_errors=True)
            return


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder; OSError if another process holds it, or locks are not supported."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _sync(folder: Path) -> None:
    """Syncs a folder to disk, so that its file names survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
