"""The store: finds a weight file, fetches and verifies it, converts it once.

`<cache>/downloads` holds files as their publishers made them, `<cache>/converted` what they became. Whatever has its
final name there is whole: it was written aside, checked, and renamed.
"""

import contextlib
import hashlib
import http.client
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from absl import logging

from jft.utils.files import other_writers, written_whole
from jft.utils.version import __version__
from jft.weights import convert, download, provenance, readers
from jft.weights.catalog import WeightSet
from jft.weights.hashes import Hashes
from jft.weights.provenance import Provenance

_PACKAGED = Path(__file__).parent / "packaged"


def cache_dir() -> Path:
    """`$JFT_CACHE`, or ~/.cache/jft; ValueError where others may write there: what is in it is trusted."""
    path = Path(os.environ.get("JFT_CACHE") or Path.home() / ".cache" / "jft")
    if problem := other_writers(path):
        raise ValueError(
            f"the cache {path} {problem}, and could change what jft computes or runs. Mend it with `chown -R $(id -u) "
            f"{path} && chmod -R go-w {path}` if you trust what is in it, or set JFT_CACHE to a folder of your own."
        )
    return path


def make_cache_dir() -> Path:
    """`cache_dir`, made if it is not there: whatever the umask, so that only its owner writes in it."""
    path = cache_dir()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o755, exist_ok=True)
    return path


def locate(row: WeightSet, weights_path: str | os.PathLike | None = None) -> Path | None:
    """Where a weight set's file lies on this machine.

    Args:
      row: the weight set.
      weights_path: the file, whatever its name, or a folder that holds it under its published name.

    Returns:
      The path, or None if it must be fetched.

    Raises:
      ValueError: there is a weights_path and the file is not there.
    """
    if weights_path:
        path = Path(weights_path).expanduser()
        if path.is_dir():
            held = sorted(entry.name for entry in path.iterdir())
            if row.filename not in held:
                raise ValueError(
                    f"{path} has no {row.filename} ({row.name}). It holds {', '.join(held[:10]) or 'nothing'}"
                    f"{', ...' if len(held) > 10 else ''}. Put it there, or give the file's own path."
                )
            return path / row.filename
        if not path.exists():
            raise ValueError(
                f"weights_path {path} does not exist: give the file of {row.name} or a folder that holds it."
            )
        return path
    for path in (_PACKAGED / row.filename, cache_dir() / "downloads" / row.filename):
        if path.exists():
            return path
    return None


def fetch(row: WeightSet, weights_path: str | os.PathLike | None = None) -> tuple[Path, str]:
    """The path of a weight set's file and its SHA-256; downloads it where it is not on this machine, and verifies it.

    Raises:
      ValueError: it cannot be had, or is not what was published; names file, address, hash, and where to put it.
    """
    path, hashes = _fetched(row, weights_path)
    return path, hashes.sha256


def _fetched(row: WeightSet, weights_path: str | os.PathLike | None) -> tuple[Path, Hashes]:
    """As `fetch`, with all hashes of the file."""
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
            aside = download.download(row.url, place)
            _checked(aside, row, downloaded=True)
            os.replace(aside, place)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ValueError(f"{row.name} could not be downloaded: {error}. {by_hand(row, place)}") from error
    return place, Hashes(place)


def check_obtainable(row: WeightSet, weights_path: str | os.PathLike | None = None) -> None:
    """Raises a ValueError, as `load` would, where a set is neither here nor has an address; reads no file."""
    if not (locate(row, weights_path) or row.url or converted(row)):
        raise ValueError(_nowhere(row))


def _nowhere(row: WeightSet) -> str:
    return f"{row.name} has no official download. {by_hand(row, cache_dir() / 'downloads' / row.filename)}"


def by_hand(row: WeightSet, place: Path) -> str:
    """What to do without a network: the file, its address, its hash, and where to put it."""
    hashes = [f"SHA-256 {row.sha256}{'...' if len(row.sha256) < 64 else ''}"] if row.sha256 else []
    hashes += [f"MD5 {row.md5}"] if row.md5 else []
    return (
        f"Get {row.filename} ({row.size:.0f} MiB, {' and '.join(hashes) or 'no published hash'})"
        f"{f' from {row.url}' if row.url else ''} and put it at {place}; "
        "a run also takes it as weights_path."
    )


def verify(path: Path, row: WeightSet) -> Hashes:
    """Checks a file that has the published name against the published hash.

    Returns:
      Its hashes.

    Raises:
      ValueError: another hash; names both.
    """
    if path.name != row.filename:
        return Hashes(path)
    try:
        return _checked(path, row)
    except ValueError as error:
        cached = row.url and path.parent == cache_dir() / "downloads"
        remedy = "Delete it, and it is fetched again." if cached else by_hand(row, path)
        raise ValueError(f"{path} is not {row.filename} as published: {error}. {remedy}") from error


def _checked(path: Path, row: WeightSet, downloaded: bool = False) -> Hashes:
    """The file's hashes; what is not the published file is deleted if it was downloaded, and refused."""
    hashes = Hashes(path)
    agree, trouble = hashes.judge(row)
    size = path.stat().st_size / 2**20
    if agree is None and downloaded and abs(size - row.size) > max(0.1, row.size / 100):
        agree, trouble = (
            False,
            f"it has {size:.1f} MiB, the published file has {row.size:.1f}",
        )  # a log-in page, perhaps
    if agree is not False:
        return hashes
    if downloaded:
        path.unlink()
    raise ValueError(trouble)


def load(
    row: WeightSet,
    target: Mapping[str, jax.ShapeDtypeStruct],
    *,
    weights_path: str | os.PathLike | None = None,
    fresh: Collection[str] = frozenset(),
) -> tuple[Mapping[str, np.ndarray], dict[str, str]]:
    """The leaves of a weight set, converted at most once; where its file is gone since, what it was converted to.

    Args:
      row: the weight set.
      target: leaf name -> shape, of the architecture that the weights are for, with their own head: of
        `create_model(row.model, **row.file_options)`, so that what is cached depends on the file alone.
      weights_path: see `locate`.
      fresh: leaves that start from initialization and so may be missing.

    Returns:
      Leaf name -> float32 array, possibly without some of `fresh`; and the manifest: that of `provenance.Provenance`,
      converter_version, jft.

    Raises:
      ValueError: see `fetch`, `readers.read_tensors` and `convert.Conversion.check`.
    """
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
    conversion = convert.convert(readers.read_tensors(path), row, target)
    conversion.check(path, fresh)
    if len(conversion.leaves) == len(target) and not (conversion.unexpected or conversion.nonfinite):
        _write_converted(cached, conversion.leaves, manifest)
    return conversion.leaves, manifest


def is_here(row: WeightSet) -> bool:
    """Whether a set is on this machine: its file, or what that was converted to; neither is read whole here."""
    return locate(row) is not None or bool(converted(row))


def conversions(row: WeightSet, sha256: str = "") -> list[Path]:
    """Cached conversions of a set by this version of the converter; only of the file with this hash if one is given."""
    pattern = _converted_path(row, sha256 or "*").name
    return sorted((cache_dir() / "converted").glob(pattern))


def converted(row: WeightSet) -> list[Provenance]:
    """The files that are converted and are the published one; none where nobody has published its hash."""
    found = []
    for path in conversions(row):
        with contextlib.suppress(Exception):  # safetensors has its own error type; it will be made again
            with safetensors.safe_open(path, "np") as file:
                written = file.metadata()
            known = provenance.of_hashes(
                written["source"], written["source_sha256"], written.get("source_md5", ""), row
            )
            # Conversions of before note no MD5: it was compared where the file had that name.
            compared = not row.sha256 and row.md5 and "source_md5" not in written and known.source == row.filename
            found += [known] if known.row or compared else []
    return found


def _converted_path(row: WeightSet, sha256: str) -> Path:
    return cache_dir() / "converted" / f"{row.name}-{sha256[:16]}-v{convert.CONVERTER_VERSION}.safetensors"


def _manifest(known: Provenance) -> dict[str, str]:
    return {**known.manifest(), "converter_version": str(convert.CONVERTER_VERSION), "jft": __version__}


def _read_converted(
    path: Path, target: Mapping[str, jax.ShapeDtypeStruct], known: Provenance
) -> dict[str, np.ndarray] | None:
    """The cached leaves, or None where there are none that can be trusted."""
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, "np") as file:
            written = file.metadata() or {}
            leaves = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except Exception as error:  # safetensors has its own error type; whatever is wrong, it can be made again
        logging.warning("%s cannot be read (%s) and is made anew.", path, error)
        return None
    same_source = written.get("source_sha256") == known.sha256
    shapes = {name: tuple(leaf.shape) for name, leaf in target.items()}
    if not same_source or {name: leaf.shape for name, leaf in leaves.items()} != shapes:
        logging.warning("%s does not hold what its name says and is made anew.", path)
        return None
    if written.get("digest") != _digest(leaves):
        logging.warning("%s is damaged and is made anew.", path)
        return None
    return leaves


def _write_converted(path: Path, leaves: Mapping[str, np.ndarray], manifest: Mapping[str, str]) -> None:
    """Caches the leaves; a cache that cannot be written costs the next run some seconds, and nothing else."""
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
