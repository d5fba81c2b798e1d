"""Breaks files of every kind that jft reads and reads them: python tests/fuzz_files.py [--count 10000] [--seed 0]

Each mutation comes of the seed and its number alone. It is read in a worker process whose address space is limited to
8 GB, and which an audit hook watches. A mutation is accepted, or refused by a ValueError or OSError that names the
file; anything else is a fault: another error, a crash, a hang over 5 s, a process started, a file written, a socket
opened. What was faulty is kept in a folder. Prints a table by kind of file. Exit status: 0 no fault, 1 faults.

With --only KIND mutations of one kind alone; with --again NUMBER one alone, in this process, with its traceback.
"""

import argparse
import collections
import contextlib
import gzip
import io
import multiprocessing
import os
import platform
import random
import resource
import struct
import sys
import tempfile
import time
import traceback
import zipfile
import zlib
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import fuzz_seeds
from absl import logging
from fuzz_seeds import KINDS, Kind

SECONDS = 5.0  # that one file may take
MEMORY = 8 * 2**30  # bytes of a worker's address space
_FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.spawn", "socket.connect")


class Result(NamedTuple):
    """What became of a mutation: 'accepted', 'refused' or a fault; seconds; bytes beyond what the worker had."""

    number: int
    kind: str
    outcome: str
    seconds: float
    memory: int
    text: str


# Mutations: of bytes, given a generator of random numbers and other sound files of the kind.


def _flip(rng: random.Random, text: bytearray, others: list[bytes]) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        text[rng.randrange(len(text))] ^= 1 << rng.randrange(8)


def _number(rng: random.Random, text: bytearray, others: list[bytes]) -> None:
    """A length, an offset or a count becomes huge, small or negative."""
    form = rng.choice("BHIQ")
    size = struct.calcsize(form)
    most = 256**size
    value = rng.choice((0, 1, most - 1, most // 2, most // 2 - 1, most // 3, rng.randrange(most)))
    at = rng.randrange(max(1, len(text) - size))
    text[at : at + size] = struct.pack(rng.choice("<>") + form, value)


def _digits(rng: random.Random, text: bytearray, others: list[bytes]) -> None:
    """A number written in digits becomes another."""
    places = [i for i, byte in enumerate(text) if 48 <= byte <= 57]
    if places:
        at = rng.choice(places)
        text[at : at + 1] = rng.choice((b"-1", b"9" * 12, b"1e9", b"0", b"NaN", b"9" * 400, b"null", b'"x"', b"[]"))


def _cut(rng: random.Random, text: bytearray, others: list[bytes]) -> None:
    del text[rng.randrange(len(text)) :]


def _drop(rng: random.Random, text: bytearray, others: list[bytes]) -> None:
    at = rng.randrange(len(text))
    del text[at : at + rng.choice((1, 4, 64, 512))]


def _double(rng: random.Random, text: bytearray, others: list[bytes]) -> None:
    """A part of the file again, once or often."""
    at, size = rng.randrange(len(text)), rng.choice((1, 8, 64, 512))
    text[at:at] = text[at : at + size] * rng.choice((1, 1, 2, 1000))


def _splice(rng: random.Random, text: bytearray, others: list[bytes]) -> None:
    """A part of another sound file over, or in between, this one's."""
    other, size = rng.choice(others), rng.choice((2, 8, 64, 512))
    start, at = rng.randrange(len(other)), rng.randrange(len(text))
    text[at : at + rng.choice((0, size))] = other[start : start + size]


def _fill(rng: random.Random, text: bytearray, others: list[bytes]) -> None:
    at, size = rng.randrange(len(text)), rng.choice((2, 16, 128))
    text[at : at + size] = rng.choice((b"\0", b"\xff", b"[", b'"', b"(", b"\n")) * len(text[at : at + size])


MUTATIONS = (_flip, _flip, _number, _number, _digits, _cut, _drop, _double, _splice, _fill)


def mutated(rng: random.Random, text: bytes, others: list[bytes]) -> bytes:
    """The bytes, broken in one to four places."""
    broken = bytearray(text)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if broken:
            rng.choice(MUTATIONS)(rng, broken, others)
    return bytes(broken)


# Packings: what breaks a file beneath its checksums, so that readers see it at all.


def _in_zip(rng: random.Random, text: bytes, others: list[bytes]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(text)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice([name for name in members if members[name]])
    members[name] = mutated(rng, members[name], [*filter(None, members.values())])
    return fuzz_seeds.zipped(members)


def _in_gzip(rng: random.Random, text: bytes, others: list[bytes]) -> bytes:
    return gzip.compress(_in_tar(rng, gzip.decompress(text), []), 1, mtime=0)


def _in_tar(rng: random.Random, text: bytes, others: list[bytes]) -> bytes:
    """One block is broken; where it is a header its sum is right again."""
    block = 512 * rng.choice([i for i in range(len(text) // 512) if text[512 * i + 257 : 512 * i + 262] == b"ustar"])
    header = bytearray(mutated(rng, text[block : block + 512], [text])[:512].ljust(512, b"\0"))
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % (sum(header) % 8**6)
    return text[:block] + bytes(header) + text[block + 512 :]


def _in_safetensors(rng: random.Random, text: bytes, others: list[bytes]) -> bytes:
    """The header is broken, and its length right."""
    end = 8 + int.from_bytes(text[:8], "little")
    header = b"{" + mutated(rng, text[9:end], [text[8:end]])
    return struct.pack("<Q", len(header)) + header + text[end:]


def _in_png(rng: random.Random, text: bytes, others: list[bytes]) -> bytes:
    """One chunk is broken, or its pixels beneath their compression; sums and lengths are right."""
    chunks, at = [], 8
    while at < len(text):
        (size,) = struct.unpack(">I", text[at : at + 4])
        chunks.append((text[at + 4 : at + 8], text[at + 8 : at + 8 + size]))
        at += 12 + size
    i = rng.choice([i for i, (_, content) in enumerate(chunks) if content])
    kind, content = chunks[i]
    if kind == b"IDAT" and rng.random() < 0.5:
        content = zlib.compress(mutated(rng, zlib.decompress(content), [content]))
    else:
        content = mutated(rng, content, [content])
    chunks[i] = kind, content
    packed = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    return text[:8] + b"".join(packed)


PACKINGS: dict[str, Callable[[random.Random, bytes, list[bytes]], bytes]] = {
    "": mutated, "zip": _in_zip, "gzip": _in_gzip, "tar": _in_tar, "safetensors": _in_safetensors, "png": _in_png
}  # fmt: skip


def mutation(kind: Kind, number: int, seed: int, seeds: list[bytes]) -> bytes:
    """The broken file of a number."""
    rng = random.Random(f"{seed}/{kind.name}/{number}")
    within = kind.inner and rng.random() < 0.6
    return PACKINGS[kind.inner if within else ""](rng, rng.choice(seeds), seeds)


# Reading one, and watching it.

_seen: list[str] = []


def watch() -> None:
    """Notes what no reader may do, for as long as this process lives."""

    def hook(event: str, arguments: tuple) -> None:
        if event == "subprocess.Popen" and "h5_contents" not in str(arguments[1]):
            _seen.append(f"started {arguments[1]}")
        elif event in _FORBIDDEN:
            _seen.append(event)
        elif event == "open":
            path, _, flags = arguments
            if path != os.devnull and isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR):
                _seen.append(f"opened {path} to write")

    sys.addaudithook(hook)


def attempt(kind: Kind, number: int, seed: int, seeds: list[bytes], folder: Path) -> Result:
    """Reads one mutation."""
    path = folder / kind.name / kind.file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(mutation(kind, number, seed, seeds))
    _seen.clear()
    before = _resident("VmRSS")
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # what it takes at most is counted anew
        _seen.clear()
    start = time.monotonic()
    try:
        kind.read(path)
        outcome, text = "accepted", ""
    except (ValueError, OSError) as error:
        text = f"{type(error).__name__}: {error}"
        outcome = "refused" if str(path) in text or str(path.parent) in text else "names no file"
    except MemoryError:
        outcome, text = "out of memory", traceback.format_exc()
    except Exception:
        outcome, text = "raw error", traceback.format_exc()
    seconds = time.monotonic() - start
    if seen := [entry for entry in _seen if str(folder) not in entry]:
        outcome, text = "did more than read", "; ".join(seen)
    return Result(number, kind.name, outcome, seconds, max(0, _resident("VmHWM") - before), text)


def _resident(field: str) -> int:
    """Bytes of memory that this process has, VmRSS, or had at most, VmHWM; 0 where the system does not say."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return 0


def work(connection: Connection, seed: int, folder: str) -> None:
    """A worker: reads the mutations whose (index of their kind, number) it is sent, until None comes."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - warnings by the thousand
    logging.set_verbosity(logging.ERROR)
    seeds = [kind.seeds() for kind in KINDS]
    watch()
    connection.send(None)
    while (job := connection.recv()) is not None:
        index, number = job
        connection.send(attempt(KINDS[index], number, seed, seeds[index], Path(folder)))


class Worker:
    """A worker process and what it is at."""

    def __init__(self, seed: int) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="jft-fuzz-")
        self.seed, self.job, self.since = seed, None, 0.0
        self.start()

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, self.seed, self.folder.name), daemon=True)
        self.process.start()
        theirs.close()
        self.connection.recv()  # it has imported all

    def give(self, job: tuple[int, int] | None) -> None:
        self.job, self.since = job, time.monotonic()
        self.connection.send(job)

    def fault(self) -> str:
        """Why there is no result of its job: empty where it still works."""
        if not self.process.is_alive():
            return f"crash ({self.process.exitcode})"
        return "hang" if time.monotonic() - self.since > 2 * SECONDS else ""

    def lost(self, fault: str) -> Result:
        """Ends the process, starts another; the result of what it was at."""
        seconds = time.monotonic() - self.since
        self.process.kill()
        self.process.join()
        index, number = self.job
        self.start()
        return Result(number, KINDS[index].name, fault, seconds, 0, "")


def fuzz(jobs: list[tuple[int, int]], seed: int, workers: int, keep: Path) -> list[Result]:
    """All results, in the order in which they came; what is faulty is kept as '<kind>-<number>'."""
    results, left = [], collections.deque(jobs)
    pool = [Worker(seed) for _ in range(workers)]
    for worker in pool:
        worker.give(left.popleft() if left else None)
    while busy := [worker for worker in pool if worker.job is not None]:
        wait([worker.connection for worker in busy], timeout=0.5)
        for worker in busy:
            result = None
            with contextlib.suppress(EOFError, ConnectionError):
                result = worker.connection.recv() if worker.connection.poll() else None
            if result is None and (fault := worker.fault()):
                result = worker.lost(fault)
            if result is None:
                continue
            if result.seconds > SECONDS and result.outcome in ("accepted", "refused"):
                result = result._replace(outcome="hang")
            results.append(result)
            if result.outcome not in ("accepted", "refused"):
                _keep(result, seed, keep)
            if len(results) % 1000 == 0:
                print(f"{len(results)} of {len(jobs)}", file=sys.stderr, flush=True)
            worker.give(left.popleft() if left else None)
    return results


def _keep(result: Result, seed: int, keep: Path) -> None:
    kind = next(kind for kind in KINDS if kind.name == result.kind)
    keep.mkdir(parents=True, exist_ok=True)
    path = keep / f"{kind.name.replace(' ', '_')}-{result.number}"
    path.write_bytes(mutation(kind, result.number, seed, kind.seeds()))
    print(f"{result.outcome}: {path}\n{result.text}", file=sys.stderr, flush=True)


def table(results: list[Result]) -> str:
    """In Markdown, by kind of file."""
    head = ("file", "mutations", "accepted", "refused", "faults", "slowest, ms", "peak, MB")
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    names = [kind.name for kind in KINDS if any(result.kind == kind.name for result in results)]
    for name in [*names, ""]:
        own = [result for result in results if name in ("", result.kind)]
        count = collections.Counter(result.outcome for result in own)
        faults = len(own) - count["accepted"] - count["refused"]
        slowest, peak = max(result.seconds for result in own), max(result.memory for result in own)
        cells = (name or "all", len(own), count["accepted"], count["refused"], faults)
        lines.append(f"| {' | '.join(map(str, cells))} | {1000 * slowest:.0f} | {peak / 1e6:.0f} |")
    return "\n".join(lines)


def main() -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--only", choices=[kind.name for kind in KINDS])
    parser.add_argument("--again", type=int)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir(), "jft-fuzz-faults"))
    options = parser.parse_args()
    kinds = [kind for kind in KINDS if options.only in (None, kind.name)]
    if options.again is not None:
        (kind,) = kinds
        path = Path(tempfile.mkdtemp(prefix="jft-fuzz-"), kind.file)
        path.write_bytes(mutation(kind, options.again, options.seed, kind.seeds()))
        print(path)
        kind.read(path)
        return 0
    whole = sum(kind.share for kind in kinds)
    counts = {kind.name: -int(-options.count * kind.share // whole) for kind in kinds}
    jobs = [(KINDS.index(kind), number) for kind in kinds for number in range(counts[kind.name])]
    random.Random(options.seed).shuffle(jobs)
    start = time.monotonic()
    results = fuzz(jobs, options.seed, options.workers, options.keep)
    print(table(results))
    machine = f"{os.cpu_count()} processors, {platform.system()}, Python {platform.python_version()}"
    print(f"\n{len(results)} files in {time.monotonic() - start:.0f} s; seed {options.seed}; {machine}")
    return int(any(result.outcome not in ("accepted", "refused") for result in results))


if __name__ == "__main__":
    sys.exit(main())
