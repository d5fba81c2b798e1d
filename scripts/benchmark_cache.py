"""Measures the speedup of cached features: python scripts/benchmark_cache.py --config CONFIG [--config.field=value ...]

CONFIG freezes a backbone in a way that can be cached, such as configs/squeezenet_cifar10.py with --config.head=linear
--config.flip=False. In a folder that is deleted afterwards, and without the user's cache, it prints

- the speed of extraction over that of plain inference, in images/s, in alternating rounds;
- an epoch from the cache over a live one, both as the loop runs them, on all training images;
- the largest difference of parameters after the same steps, live and cached.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from jft.utils import runtime

runtime.configure()


def main() -> int:
    """Prints the figures; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", required=True, metavar="FILE")
    parser.add_argument("--steps", type=int, default=10, help="live steps that are timed; default: 10")
    parser.add_argument("--epochs", type=int, default=5, help="epochs from the cache that are timed; default: 5")
    parser.add_argument(
        "--synthetic", action="store_true", help="random features: an epoch takes as long, and nothing is extracted"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of extraction and inference; default: 5")
    args, fields = parser.parse_known_args()

    from jft.cli.config_file import read_config

    try:
        config = read_config(args.config, fields)
        with tempfile.TemporaryDirectory() as folder, config.unlocked():
            config.update({"cache_features": True, "features_dir": f"{folder}/features", "validation": 0.0})
            measure(config, Path(folder), args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def measure(config, folder: Path, args: argparse.Namespace) -> None:  # noqa: ANN001
    """Builds the run and times its parts."""
    import jax
    import numpy as np

    from jft.training import feature_cache
    from jft.training.run import create_run
    from jft.training.state import initial_state
    from jft.utils.interrupt import Interrupt

    run = create_run(config, folder / "run")
    if not 0 < args.steps <= run.steps_per_epoch:
        raise ValueError(f"--steps {args.steps} is not within an epoch of {run.steps_per_epoch:.0f} steps.")
    phase = run.phases[0]
    state, _ = initial_state(run)
    print(f"{config.model} after {phase.plan.boundary}: {feature_cache.decide(run, state, {})[0].why}", flush=True)
    if args.synthetic:
        features = synthetic(run, phase, folder)
    else:
        extraction(run, phase, state, args.rounds)
        start = time.perf_counter()
        with Interrupt() as interrupt:
            features = feature_cache.features_of(run, phase, state, run.train_source, run.augmentation, interrupt)
        if features is None:
            return
        seconds = time.perf_counter() - start
        print(f"extraction of all {len(run.train_source):,} images: {seconds:.1f} s, compilation and writing included")

    def copy():  # noqa: ANN202
        return jax.tree.map(lambda x: x.copy(), state)

    cached = feature_cache.Cached(features, None)
    live_rate, live_state = live(run, phase, copy(), args.steps)
    seconds, cached_state = from_cache(run, phase, copy(), cached, args)
    size = len(run.train_source)
    epoch = size / live_rate
    print(f"live: {live_rate:,.1f} images/s over {args.steps} steps, an epoch of {size:,} in {epoch:,.1f} s")
    ratios = sorted(epoch / each for each in seconds)
    print(
        f"from the cache: an epoch in {statistics.median(seconds):.3f} s (median of {len(seconds)}; {min(seconds):.3f} "
        f"to {max(seconds):.3f}): {statistics.median(ratios):,.0f} times live ({ratios[0]:,.0f} to {ratios[-1]:,.0f})"
    )
    if args.synthetic:
        return
    gaps = jax.tree.map(lambda a, b: float(np.abs(np.asarray(a) - np.asarray(b)).max()), live_state, cached_state)
    print(f"largest difference of a parameter after {args.steps} steps: {max(jax.tree.leaves(gaps)):.1e}")


def synthetic(run, phase, folder: Path):  # noqa: ANN001, ANN201
    """Random features of all training images, stored and opened as real ones are."""
    import numpy as np

    from jft.features.cache_key import image_digests
    from jft.features.store import FeatureStore
    from jft.training import feature_cache

    rng = np.random.default_rng(0)
    store = FeatureStore(folder, {}, feature_cache.feature_shape(run, phase), run.config.features_dtype)
    digests = image_digests(run.train_source)
    for start in range(0, len(digests), store.shard_images):
        part = digests[start : start + store.shard_images]
        store.write(part, rng.random((len(part), *store.shape), np.float32))
    return store.open(digests)


def extraction(run, phase, state, rounds: int) -> None:  # noqa: ANN001
    """Times extraction of a thousand images against the same forward passes alone."""
    import jax

    from jft.data import loader
    from jft.data.augment import Augmentation
    from jft.features.extract import extract, make_feature_step
    from jft.training import feature_cache

    config, parallel, wanted = run.config, run.parallel, feature_cache.wanted_of(run, phase, Augmentation())
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    size, count = config.eval_batch_size, 16
    source = run.train_source.take(slice(0, size * count))
    reading = {"batch_size": size, "cache_bytes": config.cache_bytes}
    batch = next(loader.eval_batches(source, run.spec, fit=config.fit, resize_on=config.resize_on, **reading))
    placed = parallel.place_batch({"image": batch["image"]})
    step = make_feature_step(run.model, run.spec, wanted, axis_name=parallel.axis_name)
    compiled = parallel.compile(step, variables, placed, donate=False)
    compilation = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compilation.append(seconds) if "backend_compile" in event else None
    )
    ratios, rates = [], []
    batches = -(-len(source) // size)
    for number in range(rounds):
        start = time.perf_counter()
        for _ in range(batches):
            out = compiled(variables, placed)
        jax.block_until_ready(out)
        plainly = time.perf_counter() - start
        with tempfile.TemporaryDirectory() as folder:
            compilation.clear()
            start = time.perf_counter()
            extract(run.model, variables, source, run.spec, wanted, folder=folder, parallel=parallel, **reading)
            extracting = time.perf_counter() - start - sum(compilation)
        if number:  # the first warms up
            ratios.append(plainly / extracting)
            rates.append(len(source) / extracting)
    ratios.sort()
    print(
        f"extraction: {statistics.median(rates):,.1f} images/s, {statistics.median(ratios):.3f} of plain inference "
        f"(median of {len(ratios)}; {ratios[0]:.3f} to {ratios[-1]:.3f}; {len(source):,} images, without compiling)",
        flush=True,
    )


def live(run, phase, state, steps: int) -> tuple:  # noqa: ANN001
    """Images a second of as many live steps after the first `steps`; and the parameters after those."""
    import jax

    from jft.data.feeds.feed import on_device
    from jft.training.batches import image_batches
    from jft.training.programs import compile_train_step

    batches = list(image_batches(run, 0, 2 * steps))
    step = compile_train_step(run, phase, batches[0])

    def take(state, batches):  # noqa: ANN001, ANN202
        for batch in batches:
            state, _ = step(state, run.parallel.place_batch(on_device(batch)))
        return jax.block_until_ready(state)

    state = take(state, batches[:steps])
    params = jax.tree.map(lambda x: x.copy(), state.params)
    start = time.perf_counter()
    take(state, batches[steps:])
    return steps * run.config.batch_size / (time.perf_counter() - start), params


def from_cache(run, phase, state, cached, args: argparse.Namespace) -> tuple:  # noqa: ANN001
    """Seconds of each epoch from the cache, the first left out; and the parameters after `args.steps`."""
    import jax

    from jft.training import feature_cache
    from jft.training.batches import train_feed, train_rows
    from jft.training.programs import compile_train_step
    from jft.training.progress import Window

    step = compile_train_step(run, phase, feature_cache.example(run, phase))
    length = round(run.steps_per_epoch)
    feed = train_feed(run, cached)
    batches = feed.batches(train_rows(run), range((args.epochs + 1) * length))
    window, params, seconds = Window(run, phase, state, {}), None, []
    for epoch in range(args.epochs + 1):
        start = time.perf_counter()
        for number in range(epoch * length + 1, (epoch + 1) * length + 1):
            batch = window.wait_for(batches)
            state, sums = step(state, feed.place(batch))
            window.add(number, sums)
            if number == args.steps:
                params = jax.tree.map(lambda x: x.copy(), state.params)
        window.close(number, state)
        jax.block_until_ready(state)
        if epoch:
            seconds.append(time.perf_counter() - start)
    return seconds, params


if __name__ == "__main__":
    sys.exit(main())
