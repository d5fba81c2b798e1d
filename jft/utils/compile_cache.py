"""A cache on disk of the programs that XLA compiles, `$JFT_CACHE/xla`: whoever starts again need not compile again.

JAX reads and writes it, by a digest of the program, the compiler's options and its version; an entry that is damaged it
leaves, and compiles. jft chooses the folder, makes it private, since executables are code, and bounds
its size. A user's own setting of JAX's cache goes first.
"""

import contextlib
import dataclasses
import functools
import hashlib
import os
import platform
import stat
import warnings
import zlib
from pathlib import Path
from typing import Any

import jax
import jaxlib.version
from absl import logging

from jft.utils.cache_dir import make_cache_dir
from jft.utils.files import folder_problem
from jft.utils.text import human_bytes
from jft.utils.version import __version__

LIMIT = "JFT_XLA_CACHE_MIB"  # environment variable: the most that the folder holds; 0 switches the cache off
_DEFAULT_LIMIT = 1024
_KEPT = 0.8  # of the limit, after a trim, so that not every start trims
# JAX keeps what took a second to compile. A start compiles dozens of programs that take less, and seconds together.
_SHORTEST = 0.02

_FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE")


@dataclasses.dataclass(frozen=True)
class Decision:
    """Where the programs of this process are kept.

    Attributes:
      folder: None where jft keeps none.
      told: a phrase for people.
      wrong: whether something is to be mended.
    """

    folder: Path | None
    told: str
    wrong: bool = False


@functools.cache
def use() -> Decision:
    """Switches the cache on, once for this process; warns once where the folder cannot be used.

    Raises:
      ValueError: the variable `LIMIT` is no number.
    """
    found = decide()
    if found.wrong:
        logging.warning("compiled programs are not kept: %s", found.told)
    if found.folder is None:
        return found
    drop_cut_off(found.folder)
    trim(found.folder.parent, limit())
    jax.config.update("jax_compilation_cache_dir", str(found.folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _SHORTEST)
    # Where an entry is damaged or the disk is full, JAX compiles, and would say so for each program at each start.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry", module="jax")
    return found


def decide() -> Decision:
    """Where the programs are to be kept; makes the folder, and changes nothing else."""
    if not limit():
        return Decision(None, f"switched off by {LIMIT}=0")
    config: Any = jax.config  # which does not declare its fields
    if own := config.jax_compilation_cache_dir:
        return Decision(None, f"JAX's own setting, {own}")
    if not config.jax_enable_compilation_cache:
        return Decision(None, "switched off by JAX's own setting")
    if jax.process_count() > 1:
        # A process that finds a program does not help those that lack it to tune it, and they would wait for it.
        return Decision(None, "not for several processes; set JAX_COMPILATION_CACHE_DIR to a folder that all share")
    try:
        root = make_cache_dir().absolute() / "xla"
        for folder in (root, root / _key()):
            folder.mkdir(mode=0o700, exist_ok=True)
            if problem := not_private(folder) or folder_problem(folder):
                raise ValueError(problem)
    except (OSError, ValueError) as error:
        return Decision(None, f"{error} ({LIMIT}=0 switches this off)", wrong=True)
    return Decision(folder, f"{folder}, at most {human_bytes(limit())}")


def limit() -> int:
    """Bytes that the cache may hold; ValueError if the variable is no number."""
    text = os.environ.get(LIMIT, "")
    if text and not text.isdecimal():
        raise ValueError(f"{LIMIT} is {text!r}: give a whole number of MiB, or 0 to switch the cache off.")
    return int(text or _DEFAULT_LIMIT) * 2**20


def not_private(folder: Path) -> str | None:
    """Why a folder of executables is not to be trusted, with the remedy; None where only this user can write to it."""
    status = folder.stat()
    if status.st_uid != os.geteuid():
        return f"{folder} belongs to user {status.st_uid}, who could change what is run: set JFT_CACHE to your own"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{folder} may be written by others, who could change what is run: rm -r {folder}"
    return None


def _key() -> str:
    """The name of the folder of what this jft compiles with these packages and flags for this processor.

    JAX looks at packages and flags too, but not at the processor: a program for another one, as of a home that
    machines share, may end the process, and one that was split for other cores leaves cores idle.
    """
    versions = f"jft{__version__}-jax{jax.__version__}-jaxlib{jaxlib.version.__version__}"
    flags = [sorted(os.environ.get(name, "").split()) for name in _FLAGS]
    digest = hashlib.sha256(repr((flags, _processor(), _cores())).encode())
    return f"{versions}-{digest.hexdigest()[:12]}"


def _cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """What tells one kind of processor from another."""
    known = ("vendor_id", "cpu family", "model", "model name", "flags", "Features", "CPU implementer", "CPU part")
    lines: set[str] = set()
    with contextlib.suppress(OSError):  # there is none on macOS
        lines = {line for line in cpuinfo.read_text().splitlines() if line.split(":")[0].strip() in known}
    return [platform.machine(), platform.processor(), *sorted(lines)]


def drop_cut_off(folder: Path) -> None:
    """Deletes the entries, of those since the last start, that a killed process or a full disk has cut off.

    JAX does not replace what it finds and cannot read: it would compile such a program at every start.
    """
    checked = folder / "checked"
    with contextlib.suppress(OSError):
        since = checked.stat().st_mtime if checked.exists() else 0.0
        checked.touch()
        for path in folder.glob("*-cache"):
            if path.stat().st_mtime >= since and _is_cut_off(path.read_bytes()):
                path.unlink()


def _is_cut_off(entry: bytes) -> bool:
    """Whether an entry lacks its end; False of those that another package than zlib has compressed."""
    if entry and not entry.startswith(b"x"):
        return False
    stream = zlib.decompressobj()
    try:
        stream.decompress(entry)
    except zlib.error:
        return True
    return not stream.eof


def trim(root: Path, most: int) -> None:
    """Deletes the programs that were not used for longest, of all versions, where they are more than `most` bytes.

    Most file systems note once a day when a file was read, or when it is read for the first time.
    """
    files = []
    for path in root.rglob("*"):
        with contextlib.suppress(OSError):  # another process trims too
            status = path.stat()
            if stat.S_ISREG(status.st_mode):
                files.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    total = sum(size for _, size, _ in files)
    if total <= most:
        return
    for _, size, path in sorted(files):
        if total <= _KEPT * most:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            total -= size
