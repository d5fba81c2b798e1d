"""What the time of a step on CPU goes into, by kinds of operations.

    python benchmarks/profile_step.py resnet50 [--what train|infer] [--batch 8] [--steps 3]

The process is bound to one core, so that each operation runs by itself and its time is its own. Kinds come from XLA's
program: what an operation is, and the line of the model that it belongs to.
"""

import argparse
import collections
import glob
import gzip
import json
import os
import re
import tempfile
import time

from jft_rival import Jft

# (kind, pattern of the operation's line in XLA's text); the first that matches counts.
KINDS = (
    # The window of a weight gradient is the whole map; that of another is the kernel's.
    ("3x3 and larger: weight gradient", r"convolution\(.*window={size=([7-9]|\d\d+)x([7-9]|\d\d+).*transpose\("),
    ("3x3 and larger: input gradient", r"convolution\(.*transpose\("),
    ("3x3 and larger: forward", r"convolution\("),
    ("sums of BatchNorm", r"op_name=\"[^\"]*bn\w*/.*(add|reduce_sum|dot_general|concatenate)\""),
    ("1x1 and dense: products", r" dot\("),
    ("transposed copies", r"(transpose|copy)[\w.]* = |calls=%?transpose|%transpose"),
    ("max pool", r"pool|reduce_window|select-and-scatter"),
    ("reductions", r" reduce\(|reduce-window\(|reduce_fusion"),
    ("optimizer", r"op_name=\"jit\(train_step\)/(?!jvp|transpose)"),
    ("element by element: backward", r"transpose\(jvp"),
    ("element by element: forward", r"."),
)


def instructions(text: str) -> dict[str, str]:
    """{name of an operation: its line} of XLA's text of a program."""
    found = re.findall(r"^\s*(?:ROOT )?%?([\w.-]+) = (.*)$", text, re.M)
    return {name: f"{name} = {line}" for name, line in found}


def kind_of(line: str) -> str:
    """The kind of an operation's line."""
    return next(kind for kind, pattern in KINDS if re.search(pattern, line))


def durations(folder: str) -> collections.Counter[str]:
    """Seconds by the operation's name, in the newest trace of a folder."""
    path = max(glob.glob(f"{folder}/plugins/profile/*/perfetto_trace.json.gz"))
    with gzip.open(path) as file:
        trace = json.load(file)
    total: collections.Counter[str] = collections.Counter()
    for event in trace["traceEvents"] if isinstance(trace, dict) else trace:
        if event.get("ph") == "X":
            total[event["name"]] += event["dur"] / 1e6
    return total


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--what", choices=("train", "frozen", "infer"), default="train")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--operations", type=int, default=0, metavar="N", help="also list the N longest operations")
    args = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before JAX makes its threads
    jft = Jft("cpu")
    import jax

    compiled: list[str] = []
    compile_ = jax.stages.Lowered.compile

    def compiling(self, *rest, **options):  # noqa: ANN001, ANN002, ANN003, ANN202
        program = compile_(self, *rest, **options)
        compiled.append(program.as_text())
        return program

    jax.stages.Lowered.compile = compiling
    step = jft.build(args.what, model=args.model, batch=args.batch, dtype="float32")
    step(1)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, create_perfetto_trace=True):
            start = time.process_time()
            step(args.steps)
            seconds = (time.process_time() - start) / args.steps
        measured = durations(folder)
    lines = instructions(max(compiled, key=len))
    kinds: collections.Counter[str] = collections.Counter()
    known = {name: value / args.steps for name, value in measured.items() if name in lines}
    for name, value in known.items():
        kinds[kind_of(lines[name])] += value
    print(f"{args.model}, {args.what}, batch {args.batch}, one core: {1e3 * seconds:.0f} ms of CPU a step")
    for kind, value in kinds.most_common():
        print(f"{1e3 * value:8.0f} ms {100 * value / seconds:5.1f} %  {kind}")
    print(f"{1e3 * (seconds - kinds.total()):8.0f} ms {100 * (1 - kinds.total() / seconds):5.1f} %  elsewhere")
    for name, value in collections.Counter(known).most_common(args.operations):
        print(f"{1e3 * value:8.1f} ms  {kind_of(lines[name])}: {lines[name][:260]}")


if __name__ == "__main__":
    main()
