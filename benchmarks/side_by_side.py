"""jft beside other frameworks on this machine, in one run: images/s, ratios and their spread.

    python benchmarks/side_by_side.py [--device gpu] [--seconds 480] [--limit 180] [--out results/NAME.json]

Each rival runs in its own process; they take turns, so that drift of the machine hits all alike. Items are in order of
their worth and what no time is left for is left out, and listed. It needs jax, flax, optax, orbax-checkpoint,
ml_collections, and torch with torchvision for the rivals; neither TensorFlow nor the network. The table goes to
standard output, everything measured to a JSON file, which is written anew after each item.
"""

import argparse
import json
import os
import platform
import select
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class Rival:
    """A process of `rivals.py`, and what it is asked."""

    def __init__(self, name: str, device: str) -> None:
        """Starts it."""
        self.name, self._device = name, device
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "rivals.py"), self.name, self._device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, limit: float = 120, **request: Any) -> dict[str, Any]:
        """Its answer; `{'error'}` where it failed, died, or took more than `limit` seconds, which ends it.

        A process that has ended is started again for the next `build`.
        """
        if "build" in request and self._process.poll() is not None:
            self._start()
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return {"error": "the process ended"}
        answered, _, _ = select.select([self._process.stdout], [], [], limit)
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


def items(device: str, batch: int = 0) -> list[dict[str, Any]]:
    """What is measured, the most telling first: the rivals, what they build, images (or fits) a step."""
    eager = ["jft", "torch"]
    large, dtype, side = (256, "bfloat16", 8192) if device == "gpu" else (8, "float32", 2048)
    large = batch or large

    def item(rivals: list[str], what: str, batch: int = large, model: str = "resnet50", **more: Any) -> dict[str, Any]:
        options = {"what": what, "model": model, "batch": batch, "dtype": dtype, **more}
        return {"rivals": rivals, "build": options, "per_step": batch}

    def kernel(name: str, form: str) -> dict[str, Any]:
        options = {"what": "kernel", "name": name, "variant": form, "batch": large // 4 or 1, "dtype": dtype}
        return {"rivals": ["jft"], "build": options, "per_step": options["batch"]}

    forms = {
        **{f"max_pool_{size}": ("xla", "jft", "split") for size in ("3x3_2", "2x2_2", "3x3_1")},
        "batch_norm": ("xla", "jft"),
        "conv_1x1": ("xla", "jft"),
    }
    listed = [
        {"rivals": eager, "build": {"what": "matmul", "side": side, "dtype": dtype}, "per_step": 1},
        item([*eager, "torch-compile"], "train"),
        item([*eager, "torch-compile"], "infer"),
        item(eager, "train", model="vgg16"),
        item(eager, "infer", model="vgg16"),
        item(eager, "frozen"),
        item(eager, "frozen", model="vgg16"),
        item(eager, "infer", size=32),  # CIFAR-10 images resized on the device, as features are extracted
        *(kernel(name, form) for name, variants in forms.items() for form in variants),
    ]
    if device == "gpu":
        listed += [item(eager, what, batch) for batch in (64, 512) for what in ("train", "infer")]
    fits = {"what": "probe", "rows": 50_000, "columns": 2048}
    tuned = [item(["jft", "torch-autotune"], what) for what in ("infer", "train")]  # the longest to build
    return [*listed, {"rivals": ["jft", "scikit-learn"], "build": fits, "per_step": 1, "rounds": 2}, *tuned]


def measure(
    item: dict[str, Any], rivals: dict[str, Rival], rounds: int, seconds: float, limit: float
) -> dict[str, Any]:
    """Builds an item with each of its rivals, then lets them take turns.

    Args:
      item: one of `items`.
      rivals: processes by name.
      rounds: turns that each rival takes.
      seconds: aimed-at length of one turn.
      limit: seconds that building with one rival may take; compilers that tune themselves can take many minutes.

    Returns:
      By rival: `{'build': seconds, 'rates': [images/s of each turn]}` or `{'error'}`.
    """
    found: dict[str, Any] = {}
    steps: dict[str, int] = {}
    for name in item["rivals"]:
        built = rivals[name].ask(build=item["build"], limit=limit)
        once = built if "error" in built else rivals[name].ask(steps=2)
        if "error" in once:
            found[name] = once
            continue
        steps[name] = max(1, min(1000, round(2 * seconds / max(once["seconds"], 1e-6))))
        found[name] = {"build": built["seconds"], "bytes": built["bytes"], "rates": []}
    for _ in range(min(rounds, item.get("rounds", rounds))):
        for name, count in steps.items():
            answer = rivals[name].ask(steps=count)
            if "seconds" in answer:
                found[name]["rates"].append(count * item["per_step"] / answer["seconds"])
    return found


def line(item: dict[str, Any], found: dict[str, Any]) -> str:
    """One row for people: medians, and the median ratio of jft to each rival with its range."""
    options = item["build"]
    words = [str(v) for k, v in options.items() if k != "dtype"]
    cells = []
    for name, result in found.items():
        if not result.get("rates"):
            cells.append(f"{name}: {result.get('error', 'nothing')}")
            continue
        size = f" in {result['bytes'] / 2**30:.2f} GiB" if result["bytes"] else ""
        cells.append(f"{name} {statistics.median(result['rates']):.4g}/s{size}")
        ours = found.get("jft", {}).get("rates")
        if name != "jft" and ours:
            ratios = sorted(a / b for a, b in zip(ours, result["rates"], strict=False))
            cells.append(f"(jft / it {statistics.median(ratios):.3f}, {ratios[0]:.3f} to {ratios[-1]:.3f})")
    return f"{' '.join(words)}: {'  '.join(cells)}"


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--seconds", type=float, default=480, help="begin no item after this time")
    parser.add_argument("--limit", type=float, default=180, help="seconds in which a rival must have built an item")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each rival")
    parser.add_argument("--turn", type=float, default=0.5, help="aimed-at seconds of one turn")
    parser.add_argument("--batch", type=int, default=0, help="images a step; 0: 256 on a GPU, 8 on a CPU")
    parser.add_argument("--only", default="", help="items whose row holds this text")
    parser.add_argument("--out", type=Path, default=Path("results/side_by_side.json"))
    flags = parser.parse_args()
    start = time.perf_counter()
    chosen = [item for item in items(flags.device, flags.batch) if flags.only in line(item, {})]
    names = list(dict.fromkeys(name for item in chosen for name in item["rivals"]))
    rivals = {name: Rival(name, flags.device) for name in names}
    result: dict[str, Any] = {
        "machine": {"platform": platform.platform(), "cpus": os.cpu_count(), "python": platform.python_version()},
        "rivals": {name: rival.ask(about=None) for name, rival in rivals.items()},
        "rounds": flags.rounds,
        "items": [],
        "left_out": [],
    }
    print(json.dumps({**result["machine"], **result["rivals"]}), flush=True)
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    for item in chosen:
        if time.perf_counter() - start > flags.seconds:
            result["left_out"].append(item["build"])
        else:
            found = measure(item, rivals, flags.rounds, flags.turn, flags.limit)
            result["items"].append({**item["build"], "found": found})
            print(f"[{time.perf_counter() - start:5.0f} s] {line(item, found)}", flush=True)
        flags.out.write_text(json.dumps(result, indent=1))
    for rival in rivals.values():
        rival.end()
    for left in result["left_out"]:
        print("left out:", left)


if __name__ == "__main__":
    main()
