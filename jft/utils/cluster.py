"""Connects several processes to one run, and ends them together.

The engine is `jax.distributed`. Each process drives the devices of its host, and all run the same program.
"""

import argparse
import contextlib
import dataclasses
import ipaddress
import os
import re
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any

# Exit status, from sysexits.h, of a process that failed because another one did, or unexpectedly.
TRY_AGAIN = 75


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The processes of a run.

    Attributes:
      coordinator: 'host:port' of process 0, reachable from the others; empty: taken from the environment of SLURM,
        GKE, Cloud TPU or Open MPI.
      num_processes: number of processes; 0: taken from the environment.
      process_id: number of this process; -1: taken from the environment.
      one_machine: whether all processes run on this machine, so that a loopback address is valid.
      initialization_timeout: seconds to wait for the other processes at the start.
      heartbeat_timeout: seconds without a heartbeat after which a process counts as dead and the others end.
      preemptible: whether `Interrupt` handles SIGTERM; otherwise it ends the process.
    """

    coordinator: str = ""
    num_processes: int = 0
    process_id: int = -1
    one_machine: bool = False
    initialization_timeout: int = 300
    heartbeat_timeout: int = 100
    preemptible: bool = True


# {flag: (default, help)}; the values of the flags make a `Cluster`.
FLAGS: dict[str, tuple[Any, str]] = {
    "distributed": (False, "run as one of several processes, found from SLURM, GKE, Cloud TPU or Open MPI"),
    "coordinator": ("", "address of process 0, where none of these is found"),
    "num_processes": (0, "number of processes, with --coordinator"),
    "process_id": (-1, "index of this process from 0, with --coordinator"),
    "one_machine": (False, "all processes run on this machine: --coordinator may be a loopback address"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `FLAGS` to a parser."""
    group = parser.add_argument_group("several processes")
    for name, (default, told) in FLAGS.items():
        kind: dict[str, Any] = {"action": "store_true"}
        if default is not False:
            kind = {"type": type(default), "default": default, "metavar": "HOST:PORT" if default == "" else "N"}
        group.add_argument(f"--{name.replace('_', '-')}", **kind, help=told)


def join_as(args: Any, **others: Any) -> None:
    """Joins the other processes if the flags are set.

    Args:
      args: has the flags of `FLAGS` as attributes.
      **others: time-outs and what else a `Cluster` has.

    Raises:
      ValueError: see `join`; or flags about processes without --distributed or --coordinator.
      OSError: see `join`.
    """
    given = {name: getattr(args, name) for name in FLAGS}
    if not (given["distributed"] or given["coordinator"]):
        if lost := [name for name, (default, _) in FLAGS.items() if given[name] != default]:
            raise ValueError(f"--{lost[0].replace('_', '-')} has no effect without --distributed or --coordinator.")
        return
    join(Cluster(**{name: value for name, value in given.items() if name != "distributed"}, **others))


def join(cluster: Cluster) -> None:
    """Joins the other processes. Call it before JAX initializes its devices.

    Raises:
      ValueError: neither flags nor environment name the other processes; the address is a loopback although the
        processes run on several machines; or the processes have different numbers of devices.
      OSError: not all processes joined in time.
    """
    import jax  # here and below: help needs the flags alone

    given = (bool(cluster.coordinator), cluster.num_processes > 0, cluster.process_id >= 0)
    if any(given) and not all(given):
        raise ValueError(
            "--coordinator, --num-processes and --process-id go together: give all three, or none where the cluster's "
            "environment (SLURM, GKE, Cloud TPU, Open MPI) says them."
        )
    if all(given) and not 0 <= cluster.process_id < cluster.num_processes:
        raise ValueError(f"--process-id {cluster.process_id} is none of 0 .. {cluster.num_processes - 1}.")
    if problem := address_problem(cluster):
        raise ValueError(problem)
    waiting: dict[str, Any] = {
        "initialization_timeout": cluster.initialization_timeout,
        "heartbeat_timeout_seconds": cluster.heartbeat_timeout,
        # A finished process waits for the others for as long as for a heartbeat.
        "shutdown_timeout_seconds": cluster.heartbeat_timeout,
    }
    _answers(cluster)
    jax.config.update("jax_enable_preemption_service", cluster.preemptible)
    try:
        if all(given):
            jax.distributed.initialize(cluster.coordinator, cluster.num_processes, cluster.process_id, **waiting)
        else:
            jax.distributed.initialize(**waiting)
    except ValueError as error:  # nothing was detected
        raise ValueError(
            f"the environment names no cluster ({error}): start under SLURM, GKE, Cloud TPU or Open MPI, or give "
            "--coordinator HOST:PORT --num-processes N --process-id I."
        ) from error
    except jax.errors.JaxRuntimeError as error:
        where = cluster.coordinator or "the coordinator that the environment names"
        raise OSError(
            f"not all processes came to {where} within {cluster.initialization_timeout} s: see that all were started, "
            f"that the address is reached from every host and its port is free. JAX says: {_first_line(error)}"
        ) from error
    if problem := device_problem():
        raise ValueError(problem)


def device_problem() -> str | None:
    """What is wrong with the devices of the processes; None if all have equally many."""
    import jax

    counts = [0] * jax.process_count()
    for device in jax.devices():
        counts[device.process_index] += 1
    if len(set(counts)) == 1:
        return None
    told = ", ".join(f"{count} on process {process}" for process, count in enumerate(counts))
    return f"the processes have {told} devices: a batch is spread evenly, so give each of them as many."


def address_problem(cluster: Cluster) -> str | None:
    """What is wrong with the coordinator's address, as far as this process can tell; None if nothing is."""
    if not cluster.coordinator:
        return None
    host, colon, port = cluster.coordinator.rpartition(":")
    if not (colon and host and port.isdigit()):
        return f"the coordinator's address {cluster.coordinator!r} is not HOST:PORT, such as 10.0.0.2:8476."
    host = host.strip("[]")
    try:
        found = sorted({str(entry[4][0]) for entry in socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)})
    except OSError as error:
        return f"the coordinator's host {host!r} cannot be resolved ({error}): give its IP address."
    if cluster.one_machine or cluster.num_processes == 1:
        return None
    # Process 0's own name may stand for a loopback in its /etc/hosts, and all the same be right elsewhere.
    literal = host == "localhost" or _is_address(host)
    if all(ipaddress.ip_address(address.split("%")[0]).is_loopback for address in found) and (
        literal or cluster.process_id
    ):
        return (
            f"the coordinator's address {cluster.coordinator} is a loopback ({', '.join(found)}), which processes on "
            "other hosts cannot reach: give an address of process 0's host, or --one-machine if all are on this one."
        )
    return None


def _answers(cluster: Cluster) -> None:
    """Waits until the coordinator answers, with a message; JAX would end the process without naming the address."""
    if not cluster.coordinator:
        return
    host, _, port = cluster.coordinator.rpartition(":")
    patience = f"up to {cluster.initialization_timeout} s"
    if cluster.process_id == 0:
        others = cluster.num_processes - 1
        print(f"process 0 waits {patience} for {others} others to come to {cluster.coordinator}", file=sys.stderr)
        return
    print(f"process {cluster.process_id} waits {patience} for process 0 at {cluster.coordinator}", file=sys.stderr)
    end = time.monotonic() + cluster.initialization_timeout
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise OSError(
                    f"nobody answers at {cluster.coordinator} within {cluster.initialization_timeout} s ({error}): see "
                    "that process 0 was started there, and that its port is free and open to this host."
                ) from error
            time.sleep(0.2)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@contextlib.contextmanager
def failing_at_once() -> Iterator[None]:
    """Context around a script: with several processes, a failing one exits at once, so that the others notice."""
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, SystemExit) and error.code in (None, 0, 128 + signal.SIGTERM)
        if not _joined() or stopped or isinstance(error, KeyboardInterrupt):  # the latter ends at once by itself
            raise
        if not isinstance(error, SystemExit):
            import jax

            traceback.print_exc()
            print(
                f"error: process {jax.process_index()} of {jax.process_count()} failed, as above. If another one ended "
                "before, its log says why; start all of them again to go on.",
                file=sys.stderr,
            )
        sys.stdout.flush()
        sys.stderr.flush()
        # A normal exit would wait for processes that wait for this one.
        os._exit(error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else TRY_AGAIN)


def lost_a_peer(error: BaseException) -> bool:
    """Whether an error is of a connection to another process, of whatever type the library has made it."""
    signs = "Gloo|closed by peer|reset by peer|UNAVAILABLE|DEADLINE_EXCEEDED|heartbeat"
    return _joined() and re.search(signs, str(error)) is not None


def _joined() -> bool:
    if "jax" not in sys.modules:
        return False
    import jax

    return jax.distributed.is_initialized() and jax.process_count() > 1


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
