"""Measures the speedup of jft's XLA flags on this CPU and jaxlib: a row for `MEASURED` in jft/utils/xla_flags.py.

    python scripts/measure_xla_flags.py

Two processes, one with the flags and one without, run the same forward pass in turns; each model's line has the ratio
of the pairs: median, smallest and largest. The row is the geometric mean of the medians. A release whose process dies
does not know the flags. Use a machine that does nothing else.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

MODELS = {"squeezenet1_1": 8, "resnet18": 4}  # and the images of a batch


def main() -> int:
    """Prints a line a model, and the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="pairs; default: 7")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker)
        return 0
    import jaxlib

    from jft.utils import xla_flags

    ours = " ".join(f"{name}={value}" for name, value in xla_flags.CPU_FLAGS.items())
    medians = []
    for model, batch in MODELS.items():
        workers = [_start(model, flags) for flags in ("", ours)]
        pairs = [[_seconds(worker) for worker in workers] for _ in range(args.rounds)]
        for worker in workers:
            worker.communicate()
        ratios = [plain / fast for plain, fast in pairs]
        plain, fast = (batch / statistics.median(seconds) for seconds in zip(*pairs, strict=True))
        medians.append(statistics.median(ratios))
        print(
            f"{model}, batch {batch}: {plain:.1f} images/s without, {fast:.1f} with the flags; "
            f"{medians[-1]:.2f} times ({min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )
    print(f'    "{jaxlib.__version__}": {statistics.geometric_mean(medians):.1f},')
    return 0


def work(name: str) -> None:
    """Runs a forward pass for each line on standard input and says how many seconds it took."""
    import jax
    import jax.numpy as jnp

    from jft.models import create_model

    model = create_model(name)
    images = jnp.ones((MODELS[name], model.default_size, model.default_size, 3))
    variables = jax.jit(lambda: model.init(jax.random.key(0), images[:1], train=False))()
    forward = jax.jit(lambda variables, images: model.apply(variables, images, train=False))
    forward(variables, images).block_until_ready()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        forward(variables, images).block_until_ready()
        print(time.perf_counter() - start, flush=True)


def _start(model: str, flags: str) -> subprocess.Popen:
    environment = {**os.environ, "XLA_FLAGS": flags, "JFT_PLAIN_XLA": "1", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, __file__, "--worker", model]
    worker = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if worker.stdout.readline().strip() != "ready":
        raise SystemExit(f"{model} does not start with XLA_FLAGS='{flags}'.")
    return worker


def _seconds(worker: subprocess.Popen) -> float:
    worker.stdin.write("\n")
    worker.stdin.flush()
    return float(worker.stdout.readline())


if __name__ == "__main__":
    sys.exit(main())
