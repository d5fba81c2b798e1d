"""Checks whether these processes can train together: versions, devices, communication, shared folder."""

import contextlib
import fcntl
import importlib.metadata
import os
import platform
import shlex
import shutil
import statistics
import time
import uuid
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from packaging.requirements import Requirement

from jft.utils import compile_cache, distributed, xla_flags
from jft.utils.findings import Finding, tried
from jft.utils.mesh import Parallel, make_parallel
from jft.utils.text import human_bytes
from jft.utils.version import __version__

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
_REDUCED = 4 * 2**20  # elements on each device, 16 MiB: about a layer's gradient
_TIMES = 5


def examine(workdir: Path) -> list[Finding]:
    """Runs all checks; every process calls it, once it has joined the others.

    Args:
      workdir: a folder for runs, which all hosts should see.

    Returns:
      What was found, in order. A check that breaks down is a finding too.
    """
    return [
        tried("versions", _versions),
        tried("devices", _devices),
        tried("all-reduce", _all_reduce),
        tried("xla flags", _xla_flags),
        tried("compiled", _compiled),
        tried("folder", _folder, workdir),
    ]


def _versions() -> Finding:
    own = {"jft": __version__, "python": platform.python_version()}
    own |= {name: importlib.metadata.version(name) for name in _PACKAGES}
    everyone = distributed.gather(own)
    different = [name for name in own if len({theirs[name] for theirs in everyone}) > 1]
    if different:
        lines = [distributed.differing(name, [theirs[name] for theirs in everyone]) for name in different]
        return Finding("versions", f"{'; '.join(lines)}: install the same on every host.", wrong=True)
    if unfit := _unfit():
        told = ", ".join(
            f"{one.name} is {importlib.metadata.version(one.name)}, and jft asks for {one.specifier}" for one in unfit
        )
        return Finding("versions", f"{told}: pip install {shlex.join(map(str, unfit))}", wrong=True)
    return Finding("versions", ", ".join(f"{name} {version}" for name, version in own.items()))


def _unfit() -> list[Requirement]:
    """What jft asks for and has in another version, as when pip has since taken it back for another package's sake."""
    try:
        asked = map(Requirement, importlib.metadata.requires("jft") or ())
    except importlib.metadata.PackageNotFoundError:  # run from its folder
        return []
    ours = [one for one in asked if one.name in _PACKAGES and not (one.marker and "extra" in str(one.marker))]
    return [one for one in ours if not one.specifier.contains(importlib.metadata.version(one.name), prereleases=True)]


def _xla_flags() -> Finding:
    return Finding("xla flags", f"those for CPU are {xla_flags.apply().told}")


def _compiled() -> Finding:
    found = compile_cache.use()
    return Finding("compiled", f"programs are kept in {found.told}" if found.folder else f"not kept: {found.told}")


def _devices() -> Finding:
    kinds = sorted({device.device_kind for device in jax.local_devices()})
    own = f"{jax.local_device_count()} x {', '.join(kinds)} ({jax.default_backend()})"
    everyone = distributed.gather([own, platform.node()])
    if len({kind for kind, _ in everyone}) > 1:
        told = distributed.differing("what a process has", [kind for kind, _ in everyone])
        return Finding("devices", f"{told}: a batch is spread evenly, so give each process the same.", wrong=True)
    hosts = sorted({host for _, host in everyone})
    if len(everyone) == 1:
        return Finding("devices", f"{own} on {hosts[0]}")
    return Finding("devices", f"{len(everyone)} processes with {own} each, on {len(hosts)} hosts: {', '.join(hosts)}")


def _all_reduce() -> Finding:
    parallel = make_parallel("jit")
    count = parallel.mesh.size
    if count == 1:
        return Finding("all-reduce", "single device, all-reduce skipped")
    seconds, right = _timed_sum(parallel)
    # Each device sends and receives 2 (n - 1) / n of the bytes in a ring (Patarasuk & Yuan, 2009).
    rate = 2 * (count - 1) / count * 4 * _REDUCED / seconds / 1e9
    told = f"{4 * _REDUCED / 2**20:.0f} MiB over {count} devices in {1e3 * seconds:.1f} ms ({rate:.2f} GB/s on each)"
    if not all(distributed.gather(right)):
        return Finding("all-reduce", f"{told}, and the sum is wrong: suspect a device or its link.", wrong=True)
    return Finding("all-reduce", told)


def _timed_sum(parallel: Parallel) -> tuple[float, bool]:
    """Median seconds of an all-reduce over the devices, and whether the sum is right."""
    count, (_, processes) = parallel.mesh.size, parallel.shard
    own = np.ones((count // processes, _REDUCED), np.float32)
    placed = parallel.place_batch({"x": own})["x"]
    add = jax.jit(lambda x: jnp.sum(x, axis=0), out_shardings=parallel.replicated).lower(placed).compile()
    total = np.asarray(add(placed))
    seconds = []
    for _ in range(_TIMES):
        start = time.perf_counter()
        jax.block_until_ready(add(placed))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), bool((total == count).all())


def _folder(workdir: Path) -> Finding:
    """Checks that every process can read the files of all others in the folder, and that it supports locks."""
    name = distributed.from_first(f".doctor-{uuid.uuid4().hex[:8]}")
    mine = workdir / f"{name}-{jax.process_index()}"
    problem = None
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        mine.write_text(name)
    except OSError as error:
        problem = str(error)
    try:
        distributed.wait_for_all("written")
        theirs = [workdir / f"{name}-{process}" for process in range(jax.process_count())]
        unseen = [process for process, path in enumerate(theirs) if not os.path.exists(path)]
        locks = problem is None and _has_locks(mine)
        everyone = distributed.gather([problem, unseen, locks])
    finally:
        with contextlib.suppress(OSError):
            mine.unlink()
    if broken := [f"process {i} cannot write it ({theirs[0]})" for i, theirs in enumerate(everyone) if theirs[0]]:
        return Finding("folder", f"{workdir}: {'; '.join(broken)}: give a --workdir that every host may write.", True)
    if blind := [f"process {i} does not see what {theirs[1]} wrote" for i, theirs in enumerate(everyone) if theirs[1]]:
        return Finding(
            "folder", f"{workdir}: {'; '.join(blind)}: give a --workdir on a file system that all hosts share.", True
        )
    free = shutil.disk_usage(workdir).free
    locked = "" if all(theirs[2] for theirs in everyone) else ", without locks: start no two runs in one folder"
    return Finding("folder", f"{workdir.absolute()} is seen and written by all, {human_bytes(free)} free{locked}")


def _has_locks(path: Path) -> bool:
    try:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
