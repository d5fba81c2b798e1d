"""How long a command takes until its first answer, or until the first training step, with and without kept programs.

    python scripts/benchmark_start.py predict runs/flowers photo.jpg
    python scripts/benchmark_start.py train my_config.py

Starts `jft COMMAND ...` again and again, with a cache of its own. The first start, which also converts weights and
hashes images, is left out. Then nothing is there that XLA compiled (cold), or all of it (warm). Of training, the time
is that at which the first step was handed to the device; the process is ended then. Prints medians and ranges: seconds
until the answer, seconds of work on all cores, and how many cores others had meanwhile.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_STARTED = "JFT_MEASURED_FROM"  # environment variable: when the process was started
_TOLD = "first step after "


def first_step(event: Any) -> None:
    """A callback: ends the process at the first step, and says when that was."""
    if event.kind == "step":
        print(f"{_TOLD}{time.time() - float(os.environ[_STARTED]):.2f}", file=sys.stderr, flush=True)
        os._exit(0)


def work() -> tuple[float, float]:
    """Seconds of work of all processes, where Linux tells them, and of those that this one has started."""
    own = os.times()
    try:
        user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().split()[1:9])
    except OSError:
        return 0.0, own.children_user + own.children_system
    every = (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")
    return every, own.children_user + own.children_system


def measured(arguments: list[str], cache: Path) -> tuple[float, float, float]:
    """Seconds of one start, of its work, and cores that others had."""
    shutil.rmtree(cache / "run", ignore_errors=True)
    train = arguments[0] == "train"
    ours = ["--workdir", str(cache / "run"), "--callbacks", "benchmark_start:first_step"] if train else []
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "JFT_CACHE": str(cache), "PYTHONPATH": path}
    before, start = work(), time.time()
    done = subprocess.run(
        [sys.executable, "-m", "jft", *arguments, *ours],
        env={**environment, _STARTED: str(start)},
        capture_output=True,
        text=True,
    )
    whole, after = time.time() - start, work()
    if done.returncode:
        sys.exit(done.stderr)
    told = [line.partition(_TOLD)[2] for line in done.stderr.replace("\r", "\n").splitlines() if _TOLD in line]
    own = after[1] - before[1]
    return float(told[0]) if told else whole, own, max(after[0] - before[0] - own, 0) / whole


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cold", type=int, default=2, metavar="N", help="starts without programs; default: 2")
    parser.add_argument("--warm", type=int, default=5, metavar="N", help="starts with all of them; default: 5")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND ...", help="of jft")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jft-start-") as folder:
        cache = Path(folder)
        measured(args.command, cache)
        for kind, count in (("cold", args.cold), ("warm", args.warm)):
            rows = []
            for _ in range(count):
                if kind == "cold":
                    shutil.rmtree(cache / "xla", ignore_errors=True)
                rows.append(measured(args.command, cache))
            if not rows:
                continue
            columns = [sorted(column) for column in zip(*rows, strict=True)]
            seconds, working, others = (
                f"{statistics.median(column):.2f} ({column[0]:.2f} to {column[-1]:.2f})" for column in columns
            )
            print(f"{kind}  {seconds} s, {working} s of work, {others} cores for others", flush=True)


if __name__ == "__main__":
    main()
