"""Finds, downloads, verifies and converts weight files, with a local cache.

`<cache>/downloads` holds the published files, `<cache>/converted` the converted leaves. A file with its final name is
always complete: it is written under a temporary name, checked, and renamed.
"""

import contextlib
import hashlib
import http.client
import json
import os
import re
import urllib.error
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
from absl import logging

from jft.utils import waiting
from jft.utils.cache_dir import cache_dir, make_cache_dir
from jft.utils.files import written_whole
from jft.utils.option_names import option
from jft.utils.version import __version__
from jft.weights import download, licenses, provenance, readers
from jft.weights.catalog import CATALOG, WeightSet
from jft.weights.hashes import Hashes
from jft.weights.provenance import Provenance

if TYPE_CHECKING:
    import jax

_PACKAGED = Path(__file__).parent / "packaged"


def locate(row: WeightSet, weights_path: str | os.PathLike | None = None) -> Path | None:
    """Finds a weight set's file on this machine.

    Args:
      row: the weight set.
      weights_path: the file, under any name, or a folder that holds it under its published name.

    Returns:
      The path, or None if the file must be downloaded.

    Raises:
      ValueError: `weights_path` is given but the file is not there.
    """
    if weights_path:
        path = Path(weights_path).expanduser()
        if path.is_dir():
            held = sorted(entry.name for entry in path.iterdir())
            if row.filename not in held:
                raise ValueError(
                    f"{path} has no {row.filename} ({row.name}). It holds {', '.join(held[:10]) or 'nothing'}"
                    f"{', ...' if len(held) > 10 else ''}. {_of_the_same_model(row, held)}"
                )
            return path / row.filename
        if not path.exists():
            raise ValueError(
                f"weights_path {path} does not exist: give the file of {row.name} or a folder that holds it."
            )
        return path
    if row.path:
        return Path(row.path)
    for path in (_PACKAGED / row.filename, cache_dir() / "downloads" / row.filename):
        if path.exists():
            return path
    return None


def _of_the_same_model(row: WeightSet, held: Collection[str]) -> str:
    """The remedy where a folder lacks the file of a set: another set of the model that is there, or the file."""
    others = [other for other in CATALOG.values() if other.model == row.model and other.filename in held]
    if not others:
        return "Put it there, or give the file's own path."
    return f"Put it there, or use {others[0].filename}: {option('weights', others[0].tag)}."


def fetch(row: WeightSet, weights_path: str | os.PathLike | None = None) -> tuple[Path, str]:
    """Returns the path and SHA-256 of a weight set's file. Downloads it if needed, and verifies it.

    Raises:
      ValueError: the file is unavailable or not the published one; names file, address, hash, and where to put it.
    """
    path, hashes = _fetched(row, weights_path)
    return path, hashes.sha256


def _fetched(row: WeightSet, weights_path: str | os.PathLike | None) -> tuple[Path, Hashes]:
    """Returns the path and all hashes of a weight set's file; see `fetch`."""
    licenses.check(row)
    path = locate(row, weights_path)
    if path is not None:
        return path, verify(path, row)
    place = cache_dir() / "downloads" / row.filename
    if row.url is None:
        raise ValueError(_nowhere(row))
    try:
        make_cache_dir()
        with download.alone(place):
            if place.exists():  # another process was faster
                return place, verify(place, row)
            waiting.say(f"{row.name}: {row.size:.1f} MiB from {row.url}, license {row.license}")
            aside = download.download(row.url, place)
            _checked(aside, row, downloaded=True)
            os.replace(aside, place)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = error.reason if type(error) is urllib.error.URLError else error
        # The traceback of the network's libraries says nothing more.
        raise ValueError(f"{row.name} could not be downloaded: {reason}. {by_hand(row, place)}") from None
    return place, Hashes(place)


def check_obtainable(row: WeightSet, weights_path: str | os.PathLike | None = None) -> None:
    """Raises the ValueError of `load` if a set is nowhere, or its license needs a yes. Reads no file."""
    licenses.check(row)
    if not (locate(row, weights_path) or row.url or converted(row)):
        raise ValueError(_nowhere(row))


def _nowhere(row: WeightSet) -> str:
    return f"{row.name} has no official download. {by_hand(row, cache_dir() / 'downloads' / row.filename)}"


def by_hand(row: WeightSet, place: Path) -> str:
    """Instructions to download the file by hand: its address, its hash, and where to put it."""
    hashes = [f"SHA-256 {row.sha256}{'...' if len(row.sha256) < 64 else ''}"] if row.sha256 else []
    hashes += [f"MD5 {row.md5}"] if row.md5 else []
    return (
        f"Get {row.filename} ({row.size:.0f} MiB, {' and '.join(hashes) or 'no published hash'})"
        f"{f' from {row.url}' if row.url else ''} and put it at {place}; "
        f"or give its path as {option('weights_path')} to what needs it."
    )


def verify(path: Path, row: WeightSet) -> Hashes:
    """Checks a file against the published hash, if it has the published name or is that of a repository.

    Returns:
      The file's hashes.

    Raises:
      ValueError: the hashes differ; names both.
    """
    if path.name != row.filename and str(path) != row.path:
        return Hashes(path)
    try:
        return _checked(path, row)
    except ValueError as error:
        cached = row.url and path.parent == cache_dir() / "downloads"
        remedy = "Delete it to download it again." if cached else by_hand(row, path)
        raise ValueError(f"{path} is not {row.filename} as published: {error}. {remedy}") from error


def _checked(path: Path, row: WeightSet, downloaded: bool = False) -> Hashes:
    """The file's hashes; ValueError if it is not the published file, which is deleted if it was downloaded."""
    hashes = Hashes(path)
    agree, trouble = hashes.judge(row)
    size = path.stat().st_size / 2**20
    slack = max(0.1, row.size / 100)
    # HDF5 leaves room between its tensors, as much as the file's writer liked: a row tells what Keras writes today.
    more = max(slack, 2 * row.size) if row.filename.endswith(".h5") else slack
    # A checkpoint of training is half as large without its momentum.
    less = row.size / 2 + slack if row.filename.endswith(".ckpt") else slack
    if agree is None and downloaded and not row.size - less <= size <= row.size + more:  # a log-in page, perhaps
        agree, trouble = False, f"it has {size:.1f} MiB, the published file has {row.size:.1f}"
    if agree is not False:
        return hashes
    if downloaded:
        path.unlink()
    raise ValueError(trouble)


def load(
    row: WeightSet,
    target: Mapping[str, "jax.ShapeDtypeStruct"],
    *,
    weights_path: str | os.PathLike | None = None,
    fresh: Collection[str] = frozenset(),
) -> tuple[Mapping[str, np.ndarray], dict[str, str]]:
    """Loads the leaves of a weight set. Converts its file at most once; the cached leaves do not need the file.

    Args:
      row: the weight set.
      target: {leaf: shape} of `create_model(row.model, **row.file_options)`, with the weights' own head, so that the
        cache depends only on the file.
      weights_path: see `locate`.
      fresh: leaves that start from initialization and may be missing.

    Returns:
      {leaf: float32 array}, possibly without some of `fresh`; and the manifest: that of `provenance.Provenance`, plus
      converter_version and jft.

    Raises:
      ValueError: see `fetch`, `readers.read_tensors` and `convert.Conversion.check`.
    """
    licenses.check(row)
    for known in [] if weights_path or locate(row) else converted(row):
        leaves = _read_converted(_converted_path(row, known.sha256), target, known)
        if leaves is not None:
            return leaves, _manifest(known)
    path, hashes = _fetched(row, weights_path)
    known = provenance.of_file(path.name, hashes, row)
    manifest, cached = _manifest(known), _converted_path(row, known.sha256)
    leaves = _read_converted(cached, target, known)
    if leaves is not None:
        return leaves, manifest
    from jft.weights import convert  # here, as it loads JAX, which a list of what is here does not need

    conversion = convert.convert(readers.read_tensors(path), row, target)
    conversion.check(path, fresh)
    if len(conversion.leaves) == len(target) and not (conversion.unexpected or conversion.nonfinite):
        _write_converted(cached, conversion.leaves, manifest)
    return conversion.leaves, manifest


def is_here(row: WeightSet) -> bool:
    """Whether a set is on this machine, as a file or converted. Does not read or verify the whole file."""
    return locate(row) is not None or bool(converted(row))


def conversions(row: WeightSet, sha256: str = "") -> list[Path]:
    """Cached conversions of a set by this version of the converter; with `sha256`, only those of that file."""
    pattern = _converted_path(row, sha256 or "*").name
    return sorted((cache_dir() / "converted").glob(pattern))


def converted(row: WeightSet) -> list[Provenance]:
    """Provenance of the cached conversions of the published file; empty if no hash is published."""
    found = []
    for path in conversions(row):
        with contextlib.suppress(Exception):  # safetensors has its own error type; it will be made again
            with safetensors.safe_open(path, "np") as file:
                written = file.metadata()
            known = provenance.of_hashes(
                written["source"], written["source_sha256"], written.get("source_md5", ""), row
            )
            # Older conversions record no MD5; it was compared if the file had the published name.
            compared = not row.sha256 and row.md5 and "source_md5" not in written and known.source == row.filename
            found += [known] if known.row or compared else []
    return found


def _converted_path(row: WeightSet, sha256: str) -> Path:
    name = re.sub(r"[^\w.@-]+", "--", row.name)  # a repository's has slashes
    return cache_dir() / "converted" / f"{name}-{sha256[:16]}-v{provenance.CONVERTER_VERSION}.safetensors"


def _manifest(known: Provenance) -> dict[str, str]:
    return {**known.manifest(), "converter_version": str(provenance.CONVERTER_VERSION), "jft": __version__}


def _read_converted(
    path: Path, target: Mapping[str, "jax.ShapeDtypeStruct"], known: Provenance
) -> dict[str, np.ndarray] | None:
    """The cached leaves, or None if there are none or they are damaged."""
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, "np") as file:
            written = file.metadata() or {}
            leaves = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except Exception as error:  # safetensors has its own error type; in any case the file can be converted again
        logging.warning("%s cannot be read (%s); converting again.", path, error)
        return None
    same_source = written.get("source_sha256") == known.sha256
    shapes = {name: tuple(leaf.shape) for name, leaf in target.items()}
    if not same_source or {name: leaf.shape for name, leaf in leaves.items()} != shapes:
        logging.warning("%s does not match its name; converting again.", path)
        return None
    if written.get("digest") != _digest(leaves):
        logging.warning("%s is damaged; converting again.", path)
        return None
    return leaves


def _write_converted(path: Path, leaves: Mapping[str, np.ndarray], manifest: Mapping[str, str]) -> None:
    """Caches the leaves. Warns if the cache cannot be written: the next run then converts again."""
    try:
        make_cache_dir()
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as aside:
            safetensors.numpy.save_file(dict(leaves), aside, {**manifest, "digest": _digest(leaves)})
    except (OSError, safetensors.SafetensorError) as error:
        logging.warning("the converted weights are not cached, %s cannot be written: %s", path, error)


def _digest(leaves: Mapping[str, Any]) -> str:
    """SHA-256 over names and bytes: safetensors does not notice a changed number."""
    digest = hashlib.sha256()
    for name in sorted(leaves):
        digest.update(json.dumps([name, list(leaves[name].shape)]).encode())
        digest.update(np.ascontiguousarray(leaves[name]))
    return digest.hexdigest()
