"""Kills a short run at random, again and again: python tests/torture.py [--kills 30] [--seed 0]

Training in two phases, the first from cached features, is killed (SIGKILL) while it extracts, trains, evaluates and
saves, in turn, and started again. In the end, parameters, optimizer and log must equal those of a run that was never
killed, bit for bit, and no checkpoint may have been unreadable. A run that ends before all kills are done is followed
by another. Exit status: 0 all equal, 1 not.
"""

import argparse
import collections
import mmap
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":
    FOLDER = Path(tempfile.mkdtemp(prefix="jft-torture-"))
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    # What the first life compiles the others need not.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(FOLDER / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import forks
from small_vgg import records, saved_meta, write_config

import jft.evaluation.evaluator
import jft.features.extract
from jft.training.progress import Window

KINDS = ("extracting", "training", "evaluating", "saving")
PHASES = (
    {"name": "top", "steps": 40, "freeze": "block2", "batch_norm": "frozen"},
    {"name": "all", "steps": 40, "freeze": "", "learning_rate": 1e-3},
)
PATIENCE = 120  # seconds for one life, generously


class Watched:
    """What a run is doing, in memory that its parent sees."""

    def __init__(self):
        self._memory = mmap.mmap(-1, 1)

    @property
    def doing(self):
        return KINDS[self._memory[0] - 1] if self._memory[0] else "starting"

    def note(self, kind):
        self._memory[0] = KINDS.index(kind) + 1 if kind in KINDS else 0

    def around(self, holder, name, kind):
        """Has a function note what it does while it runs."""
        function = getattr(holder, name)

        def noted(*args, **kwargs):
            before = self.doing
            self.note(kind)
            try:
                return function(*args, **kwargs)
            finally:
                self.note(before)

        setattr(holder, name, noted)


def train(workdir, watched):
    """scripts/train.py, which is watched."""
    watched.around(jft.features.extract, "_run", "extracting")
    watched.around(jft.evaluation.evaluator.Evaluator, "__call__", "evaluating")
    watched.around(Window, "wait_for", "training")
    add = Window.add

    def added(self, step, sums):
        add(self, step, sums)
        watched.note("training")

    Window.add = added
    forks.train_script(workdir.parent, workdir.name)


def temporary(workdir):
    """Names of the checkpoints that are being written."""
    return {path.name for path in (workdir / "checkpoints").glob("*tmp*")}


def live(workdir, kind, rng, log):
    """One life of a run: until it is killed doing `kind`, or ends. What it was doing when it was killed, or None."""
    watched = Watched()
    child = forks.fork(lambda: train(workdir, watched), log)
    end = time.monotonic() + PATIENCE
    later = rng.uniform(0.0, 0.3 if kind == "training" else 0.03)
    left = temporary(workdir)  # by those killed before, until the next one sweeps
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            if status:
                raise RuntimeError(f"the run ended with status {os.waitstatus_to_exitcode(status)}: see {log}")
            return None
        saving = temporary(workdir) - left
        if kind and (saving if kind == "saving" else watched.doing == kind):
            time.sleep(later)
            doing = "saving" if temporary(workdir) - left else watched.doing
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            return doing if os.WIFSIGNALED(status) else None
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            raise RuntimeError(f"{PATIENCE} s and no end: see {log}")
        time.sleep(0.0005)


def compare(whole, killed, log):
    """What of a run differs from the one that was never killed; empty where nothing does."""
    first, second = saved_meta(whole), saved_meta(killed)
    wrong = [f"meta {key}" for key in ("step", "digests", "history", "data") if first[key] != second[key]]
    wrong += ["metrics.jsonl"] if records(whole) != records(killed) else []
    wrong += [f"{path.name} was set aside" for path in (killed / "checkpoints").glob("unreadable-*")]
    wrong += ["a checkpoint could not be read"] if "Falling back" in log.read_text() else []
    return wrong


def torture(folder, kills, seed):
    """Runs it all; whether everything was equal."""
    rng = random.Random(seed)
    write_config(folder, phases=PHASES, checkpoint_every=3, log_every=2, evaluate_every=0.7, ema=0.9)
    whole = folder / "whole"
    live(whole, None, rng, folder / "whole.log")
    counts, lives, right = collections.Counter(), 0, True
    while sum(counts.values()) < kills:
        lives += 1
        workdir, log = folder / f"run{lives}", folder / f"run{lives}.log"
        extractions = kills // 5 if lives == 1 else 1
        while True:
            left = kills - sum(counts.values())
            # Features are extracted at the beginning alone.
            kind = None if not left else KINDS[0] if extractions > 0 else rng.choice(KINDS[1:])
            extractions -= 1
            killed = live(workdir, kind, rng, log)
            if killed is None:
                break
            counts[killed] += 1
        wrong = compare(whole, workdir, log)
        right = right and not wrong
        print(f"run {lives}: {', '.join(wrong) or 'equal to the one that was never killed'}", flush=True)
        if not wrong:
            shutil.rmtree(workdir)
    print(f"{sum(counts.values())} kills: {', '.join(f'{n} {kind}' for kind, n in sorted(counts.items()))}")
    return right


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30, help="default: 30")
    parser.add_argument("--seed", type=int, default=0, help="of when and where; default: 0")
    args = parser.parse_args()
    forks.prepare()
    begin = time.monotonic()
    right = torture(FOLDER, args.kills, args.seed)
    print(f"{time.monotonic() - begin:.0f} s" + ("" if right else f"; all is kept in {FOLDER}"))
    if right:
        shutil.rmtree(FOLDER)
    return int(not right)


if __name__ == "__main__":
    sys.exit(main())
