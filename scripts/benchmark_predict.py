"""Measures prediction on this machine: python scripts/benchmark_predict.py --model squeezenet1_1 photos/

In rounds, one after the other on the same images and in the same batches, it prints images/s of

- plain inference: the jitted model over squares that lie in memory, and nothing else;
- `Predictor.predict` on these squares, as one array;
- `predict_paths` from the files, as jft predict runs it;
- reading the files alone. A CPU that reads cannot compute: there the share of plain inference that is left for files
  is at most reading / (reading + plain inference);

the CPU time of each, which others who use the machine change less; and how often XLA compiled in all of jft's.
"""

import argparse
import statistics
import sys
import time
from concurrent import futures

from jft.utils import runtime

runtime.configure()


def main() -> int:
    """Prints the figures; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", metavar="PATH", help="as of jft predict")
    parser.add_argument("--model", required=True, help="a pretrained model, or the folder of a run")
    parser.add_argument("--weights", metavar="TAG")
    parser.add_argument("--weights_path", metavar="PATH")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--images", type=int, default=1000, help="in a round; repeated where there are fewer")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    try:
        measure(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def measure(args: argparse.Namespace) -> None:
    """Loads the model and times it."""
    import jax
    import numpy as np

    from jft.data import transforms
    from jft.evaluation import predict
    from jft.evaluation.load import load

    found = predict.find(args.paths, sys.stdin)
    paths = [found[i % len(found)] for i in range(args.images)]
    model = load(args.model, weights=args.weights, weights_path=args.weights_path, batch_size=args.batch_size)

    def read() -> np.ndarray:
        with futures.ThreadPoolExecutor() as pool:
            return np.stack(list(pool.map(model.read, paths)))

    squares, size = read(), model.batch_size
    apply = jax.jit(
        lambda v, x: model.model.apply(v, transforms.to_model_input(x, model.spec, fit=model.fit), train=False)
    )

    def plain() -> None:  # the last batch is whole: nothing compiles twice
        starts = range(0, len(squares) - size + 1, size)
        batches = (model.parallel.place_batch({"image": squares[start : start + size]}) for start in starts)
        jax.block_until_ready([apply(model.variables, batch["image"]) for batch in batches])

    whole = len(squares) // size * size
    ways = {
        "plain inference": (plain, whole),
        "predict": (lambda: model.predict(squares), len(squares)),
        "predict_paths": (lambda: list(predict.predict_paths(model, paths)), len(squares)),
        "reading": (read, len(squares)),
    }
    plain()
    compiled: list[float] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiled.append(seconds) if "backend_compile" in event else None
    )
    model.predict(squares[:1])
    rates: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, (run, count) in ways.items():
            start, worked = time.perf_counter(), time.process_time()
            run()
            rates[name].append(count / (time.perf_counter() - start))
            cpu[name].append(1000 * (time.process_time() - worked) / count)
    print(f"{model.name}, {len(squares):,} images by {size}, {args.rounds} rounds; compiled {len(compiled)} time(s)")
    for name, of in rates.items():
        shares = sorted(rate / base for rate, base in zip(of, rates["plain inference"], strict=True))
        print(
            f"{name:<15} {statistics.median(of):8.1f} images/s ({min(of):.1f} to {max(of):.1f}), of plain inference "
            f"{statistics.median(shares):.3f} ({shares[0]:.3f} to {shares[-1]:.3f}); "
            f"{statistics.median(cpu[name]):.1f} ms of CPU an image"
        )


if __name__ == "__main__":
    sys.exit(main())
