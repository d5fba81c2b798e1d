"""Device memory: how much a compiled program needs, and how much is available."""

from pathlib import Path

import jax

from jft.utils import distributed
from jft.utils.mesh import Parallel

# Share of the memory that a program may use; batches in transfer and fragmentation take the rest.
_SHARE = 0.9
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def program_bytes(compiled: jax.stages.Compiled) -> int:
    """Bytes on each device: arguments, outputs that do not alias them, and temporaries."""
    held = compiled.memory_analysis()
    assert held is not None  # every backend of JAX has one
    taken = held.argument_size_in_bytes + held.output_size_in_bytes + held.temp_size_in_bytes
    return taken - held.alias_size_in_bytes


def usable(parallel: Parallel) -> int | None:
    """Bytes available to a program on each device, the minimum over all processes; None if unknown."""
    limits = [limit for limit in distributed.gather(device_limit(parallel)) if limit is not None]
    return int(_SHARE * min(limits)) if limits else None


def device_limit(parallel: Parallel) -> int | None:
    """Bytes of memory of each of this process's devices; None if the device does not report it.

    CPU devices share what the host has left, so that it depends on what else is running.
    """
    local = [device for device in parallel.mesh.devices.flat if device.process_index == jax.process_index()]
    stats = local[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"]
    free = host_available() if local[0].platform == "cpu" else None
    return None if free is None else free // len(local)


def free(parallel: Parallel) -> int | None:
    """Bytes of memory on each device that nothing holds, the minimum over all processes; None if unknown."""
    device = next(device for device in parallel.mesh.devices.flat if device.process_index == jax.process_index())
    stats = device.memory_stats() or {}
    limit = device_limit(parallel)
    own = None if limit is None else limit - stats.get("bytes_in_use", 0)
    everyone = [bytes_ for bytes_ in distributed.gather(own) if bytes_ is not None]
    return min(everyone) if everyone else None


def host_available() -> int | None:
    """Bytes of free memory on the host, or in the container of this process; None if unknown."""
    found = []
    if _MEMINFO.exists():
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    if (most := _CGROUP / "memory.max").exists() and (limit := most.read_text().strip()) != "max":
        found.append(max(0, int(limit) - int((_CGROUP / "memory.current").read_text())))
    return min(found) if found else None
