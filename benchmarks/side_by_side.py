"""jft beside other frameworks on this machine, in one run: images/s, ratios, FLOPs, memory.

    python benchmarks/side_by_side.py [--device gpu] [--quick] [--seconds 480] [--out results/NAME.json]

Each rival that is installed runs in its own process; they take turns, so that drift of the machine hits all alike.
Items are in order of their worth; what no time is left for is left out, and listed. jft, torch and Keras are measured
on a CPU, jft and torch on a GPU. It needs jax, flax, optax, orbax-checkpoint, ml_collections and tensorboardX, and on
a GPU torch; neither TensorFlow nor the network. Everything measured goes to a JSON file, which is written anew after
each item, and its tables (`tables.py`) to a Markdown file beside it.
"""

import argparse
import json
import os
import platform
import select
import subprocess
import sys
import time
from concurrent import futures
from pathlib import Path
from typing import Any

import rivals
import tables
from items import Item, items, keep

HERE = Path(__file__).parent
MEMORY = 3 << 30  # bytes that must be available before another network is built


class Process:
    """A process of `rivals.py`, and what it is asked."""

    def __init__(self, rival: str, device: str) -> None:
        """Starts it."""
        self._command = [sys.executable, str(HERE / "rivals.py"), rival, device]
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def ask(self, kind: str, value: Any = None, *, limit: float = 120) -> dict[str, Any]:
        """Its answer; `{'error'}` where it failed, died, or took more than `limit` seconds, which ends it.

        A process that has ended is started again for the next 'build'.
        """
        if kind == "build" and self._process.poll() is not None:
            self._start()
        try:
            self._process.stdin.write(json.dumps({kind: value}) + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            return {"error": "the process ended"}
        answered, _, _ = select.select([self._process.stdout], [], [], max(limit, 1))
        if not answered:
            self.end()
            return {"error": f"no answer in {limit:.0f} s"}
        if line := self._process.stdout.readline():
            return json.loads(line)
        self.end()
        return {"error": "the process ended"}

    def end(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()


def available() -> float:
    """Bytes of free memory; infinity where the system does not say."""
    meminfo = Path("/proc/meminfo")
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines()) if meminfo.exists() else {}
    return 1024 * int(lines["MemAvailable"].split()[0]) if "MemAvailable" in lines else float("inf")


def build(item: Item, processes: dict[str, Process], limit: float, at_once: int) -> dict[str, dict[str, Any]]:
    """Builds an item in each of its processes, `at_once` at a time; the answers by label, errors among them."""

    def one(label: str) -> dict[str, Any]:
        if available() < MEMORY:
            return {"error": f"less than {MEMORY >> 30} GiB of memory available"}
        return processes[label].ask("build", item.sides[label].build, limit=limit)

    with futures.ThreadPoolExecutor(at_once) as pool:
        return dict(zip(item.sides, pool.map(one, item.sides), strict=True))


def measure(item: Item, processes: dict[str, Process], flags: argparse.Namespace, left: float) -> dict[str, Any]:
    """Builds an item with each of its rivals, then lets them take turns.

    Args:
      item: one of `items.items`.
      processes: by label of a side.
      flags: rounds, seconds of a turn and of building, device.
      left: seconds until the whole should end; no build takes longer.

    Returns:
      By label: `{'build': seconds, 'rates': [images/s of each turn], 'processor_rates': [images a second of processor
      time], 'memory': {what counts: bytes}}` or `{'error'}`.
    """
    found: dict[str, Any] = {}
    counts: dict[str, int] = {}
    # On a GPU, autotuners measure while they build: others would disturb them.
    at_once = 1 if flags.device == "gpu" else os.cpu_count() or 1
    for label, built in build(item, processes, min(flags.limit, left), at_once).items():
        if "error" in built:
            found[label] = built
            continue
        found[label] = {"build": built["seconds"], "flops": built["flops"], "rates": [], "processor_rates": []}
        step = built["step"]
        if step < flags.turn:  # measured while others were built, so that it may be far shorter
            step = processes[label].ask("run", 1).get("seconds", step)
        counts[label] = max(1, min(1000, round(flags.turn / max(step, 1e-6))))
    for turn in range(min(flags.rounds, item.rounds)):
        for label in list(counts) if turn % 2 == 0 else reversed(counts):
            if "error" in found[label]:
                continue
            answer = processes[label].ask("run", counts[label], limit=600)
            if "error" in answer:
                found[label]["error"] = answer["error"]
            else:
                done = counts[label] * item.per_step
                found[label]["rates"].append(done / answer["seconds"])
                found[label]["processor_rates"].append(done / answer["processor"])
    for label in counts:
        found[label]["memory"] = processes[label].ask("memory", limit=180) if "error" not in found[label] else {}
        processes[label].ask("drop")
    return found


def machine() -> dict[str, Any]:
    """What the figures depend on beside the versions."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": model or platform.processor(),
        "cores": cores,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def about(processes: dict[str, Process]) -> dict[str, dict[str, Any]]:
    """Versions by label; all import at once."""
    with futures.ThreadPoolExecutor() as pool:
        return dict(zip(processes, pool.map(lambda process: process.ask("about"), processes.values()), strict=True))


def choose(flags: argparse.Namespace) -> tuple[list[Item], dict[str, str]]:
    """The items that can be measured here, and why rivals are left out, by name."""
    everything = items(flags.device, quick=flags.quick, models=flags.models, batch=flags.batch)
    chosen = [kept for item in everything if (kept := keep(item, flags.only, flags.rivals))]
    wanted = {side.rival for item in everything for side in item.sides.values()}
    return chosen, {name: why for name in sorted(wanted) if (why := rivals.missing(name))}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags, with defaults that depend on others."""
    words = {"type": lambda text: tuple(filter(None, text.split(","))), "default": ()}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="small shapes and two rounds, to see that all works")
    parser.add_argument("--models", metavar="NAME,...", help="only these models", **words)
    parser.add_argument("--rivals", metavar="NAME,...", help=f"only these of {', '.join(rivals.RIVALS)}", **words)
    parser.add_argument("--only", default="", help="items whose name holds this text")
    parser.add_argument("--batch", type=int, default=0, help="images a step; 0: 256 on a GPU, 8 on a CPU")
    parser.add_argument("--rounds", type=int, help="turns of each rival; 7, or 2 with --quick")
    parser.add_argument("--turn", type=float, help="aimed-at seconds of one turn; 0.5, or 0.05 with --quick")
    parser.add_argument("--seconds", type=float, help="begin no item after this time; 480 on a GPU, 2400 on a CPU")
    parser.add_argument("--limit", type=float, default=180, help="seconds in which a rival must have built an item")
    parser.add_argument("--out", type=Path, default=Path("results/side_by_side.json"))
    flags = parser.parse_args(arguments)
    if unknown := set(flags.rivals) - set(rivals.RIVALS):
        parser.error(f"--rivals: no {', '.join(sorted(unknown))}; there are {', '.join(rivals.RIVALS)}")
    flags.rounds = flags.rounds or (2 if flags.quick else 7)
    flags.turn = flags.turn or (0.05 if flags.quick else 0.5)
    flags.seconds = flags.seconds or (480 if flags.device == "gpu" else 2400)
    return flags


def main() -> None:
    """Measures, prints, writes."""
    start = time.perf_counter()
    flags = parse()
    chosen, not_installed = choose(flags)
    if not chosen:
        there = "\n  ".join(map(str, items(flags.device, quick=flags.quick, models=flags.models, batch=flags.batch)))
        lacking = "; ".join(f"{name} {why}" for name, why in not_installed.items())
        sys.exit(f"No item holds {flags.only!r} for these rivals ({lacking or 'all are installed'}). Items:\n  {there}")
    sides = {label: side.rival for item in chosen for label, side in item.sides.items()}
    processes = {label: Process(rival, flags.device) for label, rival in sides.items()}
    result: dict[str, Any] = {
        "machine": machine(),
        "device": flags.device,
        "quick": flags.quick,
        "rounds": flags.rounds,
        "rivals": about(processes),
        "not_installed": not_installed,
        "items": [],
        "left_out": [],
    }
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    for item in chosen:
        left = flags.seconds - (time.perf_counter() - start)
        if left <= 0:
            result["left_out"].append(item.about)
        else:
            found = measure(item, processes, flags, left)
            result["items"].append({**item.about, "found": found})
            print(f"[{time.perf_counter() - start:5.0f} s] {item}: {tables.line(found)}", flush=True)
        result["seconds"] = time.perf_counter() - start
        flags.out.write_text(json.dumps(result, indent=1) + "\n")
    for process in processes.values():
        process.end()
    text = tables.markdown(result)
    flags.out.with_suffix(".md").write_text(text)
    print(f"\n{text}\nWritten: {flags.out}, {flags.out.with_suffix('.md')}")


if __name__ == "__main__":
    main()
