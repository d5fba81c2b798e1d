"""Kills writers, damages files, and counts what is found: python scripts/fault_injection.py [--kills 480] [--seed 0]

After the study of arXiv 2511.18323 (430 kills; 1,600 corruptions by truncation, zeroing and flipped bits), on what jft
writes: checkpoints, shards of the feature cache, converted weights, run logs.

A writer is killed (SIGKILL) at a random line of jft's code; one of checkpoints, which are written by threads, at a
random moment. Afterwards what was there before must be there, what was being written be whole or absent, nothing be
called damaged, and writing go on.

A copy of a good artifact is damaged and read. The damage is found where the artifact is refused by a ValueError or set
aside; harmless where all that is read is equal, bit for bit; cut, where a log ends between two lines, as it was once.
All else is a failure. Exit status: 0 without any, 1 otherwise.
"""

import argparse
import collections
import contextlib
import functools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if __name__ == "__main__":  # what the first process compiles the others need not
    FOLDER = tempfile.mkdtemp(prefix="jft-faults-")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{FOLDER}/compiled")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax
from absl import logging
from fault_artifacts import ARTIFACTS, THINGS, RunLogs, Saves

import jft

KILLS = {"checkpoints": 0.2, "shards": 0.3, "weights": 0.2, "logs": 0.3}  # shares
DAMAGES = {"checkpoints": 0.2, "shards": 0.3, "weights": 0.2, "logs": 0.3}
_BATCH = 25  # damaged copies that are read by one process


# Damage.


def truncated(data: bytes, rng: random.Random) -> bytes:
    """Cut off at a random place."""
    return data[: rng.randrange(len(data))]


def zeroed(data: bytes, rng: random.Random) -> bytes:
    """With up to 512 bytes of zero at a random place."""
    start, length = rng.randrange(len(data)), rng.randint(1, 512)
    return data[:start] + bytes(len(data[start : start + length])) + data[start + length :]


def flipped(data: bytes, rng: random.Random) -> bytes:
    """With one to three bits flipped."""
    changed = bytearray(data)
    for bit in rng.sample(range(8 * len(data)), rng.randint(1, 3)):
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


HOW = {"truncated": truncated, "zeroed": zeroed, "flipped": flipped}


def damage(artifact: Any, good: Path, folder: Path, how: str, rng: random.Random) -> tuple[str, str]:
    """Damages a copy of a good artifact, reads it, and judges: (verdict, the damaged file and what was read)."""
    shutil.copytree(good, folder)
    files = [path for path in artifact.files(folder) if path.stat().st_size]
    path = rng.choice(files) if rng.random() < 0.5 else rng.choices(files, [path.stat().st_size for path in files])[0]
    before = path.read_bytes()
    while (after := HOW[how](before, rng)) == before:
        pass  # zeros in place of zeros
    path.write_bytes(after)
    verdict, told = judged(artifact, folder, cut=after == before[: len(after)] and after[-1:] in (b"", b"\n"))
    return verdict, f"{path.relative_to(folder)}: {told}"


def damaged(name: str, folder: Path, plan: list[tuple[str, float]]) -> list[tuple[str, str]]:
    """`damage` for each (how, seed) of a plan."""
    told = []
    for how, seed in plan:
        with tempfile.TemporaryDirectory(dir=folder) as own:
            told.append(damage(ARTIFACTS[name], folder / name, Path(own) / "copy", how, random.Random(seed)))
    return told


def judged(artifact: Any, folder: Path, *, cut: bool = False) -> tuple[str, str]:
    """Reads an artifact of `THINGS` things of which one is damaged: (verdict, what was read)."""
    with warnings() as told:
        try:
            found = artifact.read(folder)
        except ValueError as error:
            return "found", str(error)
        except BaseException as error:
            return "failed", f"{type(error).__name__}: {error}"
    if wrong := [number for number, value in found.items() if value != artifact.truth(number)]:
        return "failed", f"{wrong} are not what was written"
    missing = set(range(THINGS)) - set(found) if not isinstance(artifact, Saves) else {THINGS - 1} - set(found)
    if missing and isinstance(artifact, RunLogs):
        # The last line is not believed; nothing else is missing.
        whole = sorted(missing) == list(range(min(missing), THINGS))
        return ("cut" if cut else "found") if whole else "failed", f"without {sorted(missing)}"
    if len(missing) > 1 or (isinstance(artifact, Saves) and not found):
        return "failed", f"without {sorted(missing)}"
    if missing and not told:
        return "failed", "nothing is said"
    return "found" if told else "harmless", "; ".join(told)


@contextlib.contextmanager
def warnings() -> Iterator[list[str]]:
    """What jft warns of, in place of printing it."""
    messages, warning = [], logging.warning
    logging.warning = lambda message, *args: messages.append(message % args)
    try:
        yield messages
    finally:
        logging.warning = warning


# Kills.


def in_child(work: Callable[[int], None]) -> tuple[int, int]:
    """Starts `work(pipe)` in a process of its own; (its number, the pipe's other end)."""
    sys.stdout.flush()
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        return child, read
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        work(write)
    except BaseException as error:
        os.write(write, json.dumps(["failed", f"{type(error).__name__}: {error}"]).encode() + b"\n")
    finally:
        os._exit(0)


def answered(work: Callable[[], Any]) -> Any:
    """What `work()` returns in a process of its own, JSON-able; None where that died."""
    child, pipe = in_child(lambda out: os.write(out, json.dumps(work()).encode() + b"\n"))
    with open(pipe, "rb") as file:
        told = file.read()
    os.waitpid(child, 0)
    return json.loads(told.splitlines()[-1]) if told else None


def at_line(number: int, work: Callable[[], None]) -> int:
    """Runs `work`, and kills this process at the number-th line of jft's code; how many lines it was."""
    home, count = str(Path(jft.__file__).parent), 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.startswith(home):
            return None
        if event == "line":
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
    return count


def kill(name: str, good: Path, folder: Path, length: float, rng: random.Random) -> tuple[str, str]:
    """Kills a writer that adds a thing to a copy, within `length` lines or seconds; (verdict, what was found)."""
    artifact = ARTIFACTS[name]
    shutil.copytree(good, folder)
    if name == "checkpoints":
        child, pipe = in_child(lambda out: (jax.devices(), os.write(out, b"!"), artifact.write(folder, THINGS)))
        os.read(pipe, 1)
        time.sleep(rng.uniform(0, length))
        os.kill(child, signal.SIGKILL)
    else:
        child, pipe = in_child(lambda out: at_line(rng.randint(1, int(length)), lambda: artifact.write(folder, THINGS)))
    _, status = os.waitpid(child, 0)
    os.close(pipe)
    found = answered(lambda: whole(name, folder)) or ["failed", "the reader died"]
    return found if os.WIFSIGNALED(status) or found[0] == "failed" else ["too late", found[1]]


def whole(name: str, folder: Path) -> tuple[str, str]:
    """Whether nothing was lost or half written, nothing is called damaged, and writing goes on."""
    artifact, told = ARTIFACTS[name], ""
    with warnings() as messages:
        found: dict[int, Any] = {}
        for go_on in (False, True):
            if go_on and (THINGS not in found or name == "logs"):
                artifact.write(folder, THINGS)
            found = artifact.read(folder)
            wanted = {THINGS if go_on else max(found)} if name == "checkpoints" else set(range(THINGS + go_on))
            lost = wanted - set(found)
            wrong = [number for number, value in found.items() if value != artifact.truth(number)]
            if lost or wrong or (name == "checkpoints" and max(found) < THINGS - 1):
                return "failed", f"lost {sorted(lost)}, wrong {wrong}"
            told = told or ("written" if THINGS in found else "absent")
    return ("failed", "; ".join(messages)) if messages else ("whole", told)


# All of it.


def prepared(folder: Path, name: str) -> float:
    """Makes a good artifact; the lines or seconds that adding a thing takes."""
    artifact, good = ARTIFACTS[name], folder / name

    def make() -> float:
        good.mkdir()
        for number in range(THINGS):
            artifact.write(good, number)
        again = folder / "rehearsal"
        shutil.copytree(good, again)
        start = time.perf_counter()
        lines = at_line(0, lambda: artifact.write(again, THINGS))
        seconds = time.perf_counter() - start
        shutil.rmtree(again)
        return seconds if name == "checkpoints" else lines

    return answered(make)


def study(folder: Path, kills: int, damages: int, seed: int) -> tuple[collections.Counter, list[str]]:
    """Counts of (what was done, artifact, verdict), and the failures, told."""
    counts: collections.Counter = collections.Counter()
    failures: list[str] = []

    def note(done: str, name: str, found: tuple[str, str]) -> None:
        counts[done, name, found[0]] += 1
        if found[0] == "failed":
            failures.append(f"{name} {done}: {found[1]}")

    for name in ARTIFACTS:
        rng, length = random.Random(f"{seed} {name}"), prepared(folder, name)
        done, place = 0, folder / "copy"
        while done < round(kills * KILLS[name]):
            found = kill(name, folder / name, place, length, random.Random(rng.random()))
            shutil.rmtree(place)
            note("killed", name, found)
            done += found[0] != "too late"
        plan = [(how, rng.random()) for how in HOW for _ in range(round(damages * DAMAGES[name] / len(HOW)))]
        for part in (plan[at : at + _BATCH] for at in range(0, len(plan), _BATCH)):
            told = answered(functools.partial(damaged, name, folder, part)) or [["failed", "the reader died"]] * len(
                part
            )
            for (how, _), found in zip(part, told, strict=True):
                note(how, name, found)
        print(f"{name}: {sum(n for (_, one, _), n in counts.items() if one == name)} done", flush=True)
    return counts, failures


def table(counts: collections.Counter) -> str:
    """As Markdown."""
    verdicts = ("whole", "too late", "found", "harmless", "cut", "failed")
    lines = ["| artifact | what was done | " + " | ".join(verdicts) + " |", "|---|---|" + "---:|" * len(verdicts)]
    for name in ARTIFACTS:
        for done in ("killed", *HOW):
            lines.append(
                f"| {name} | {done} | " + " | ".join(str(counts[done, name, v] or "") for v in verdicts) + " |"
            )
    return "\n".join(lines)


def main() -> int:
    """Runs it all; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=480, help="default: 480")
    parser.add_argument("--damages", type=int, default=2100, help="default: 2100")
    parser.add_argument("--seed", type=int, default=0, help="of when and where; default: 0")
    args = parser.parse_args()
    begin = time.monotonic()
    counts, failures = study(Path(FOLDER), args.kills, args.damages, args.seed)
    shutil.rmtree(FOLDER)
    print(table(counts))
    print("\n".join(failures), end="\n" if failures else "")
    print(f"{time.monotonic() - begin:.0f} s, {len(failures)} failures")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
