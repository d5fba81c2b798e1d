"""Measures a config on this machine: python scripts/benchmark.py --config configs/vgg19_cifar10.py [--rounds 10]

It builds the run as scripts/train.py would, in a folder that is deleted afterwards, and prints

- the frozen step's time over the forward pass's, in pairs on the same batch;
- steps as the loop runs them: images/s and the share of time spent waiting for input;
- what a checkpoint costs: how long the loop stands still for it, and a step while it is written over one without;
- how often XLA compiled in training and in an evaluation whose last batch is ragged.
"""

import statistics
import sys
import tempfile
import time

from absl import app, flags
from ml_collections import config_flags

from jft.utils import runtime

runtime.configure()

_CONFIG = config_flags.DEFINE_config_file("config", None, "The config file; fields: --config.field=value.")
_ROUNDS = flags.DEFINE_integer("rounds", 10, "Pairs of a step and a forward pass.", lower_bound=2)
_STEPS = flags.DEFINE_integer("steps", 50, "Steps of the loop.", lower_bound=2)
_SAVES = flags.DEFINE_integer("saves", 5, "Checkpoints to save.", lower_bound=1)
_EVALUATE = flags.DEFINE_integer("evaluate", 100, "Images to evaluate.", lower_bound=1)


def main(argv: list[str]) -> int:
    """Prints the figures; returns the exit status."""
    del argv
    try:
        with tempfile.TemporaryDirectory() as workdir:
            measure(workdir)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def measure(workdir: str) -> None:
    """Builds the run and prints what it costs."""
    import jax

    from jft.training import feature_cache
    from jft.training.batches import image_batches
    from jft.training.messages import describe
    from jft.training.programs import compile_train_step
    from jft.training.run import create_run
    from jft.training.state import initial_state
    from jft.utils.fingerprint import fingerprints

    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiled.append(seconds) if "backend_compile" in event else None
    )
    config = _CONFIG.value
    num_steps = _STEPS.value + 2 * _ROUNDS.value
    config.update({"steps": num_steps, "cache_features": False})  # the whole network is what is measured
    run = create_run(config, workdir + "/run")
    phase = run.phases[0]
    state, info = initial_state(run)
    print(describe(run, state, info, feature_cache.decide(run, state, {})), flush=True)

    first = next(image_batches(run, 0, 1))
    before = len(compiled)
    step = compile_train_step(run, phase, first)
    print(f"\ntraining step compiled {len(compiled) - before} time(s) in {sum(compiled[before:]):.1f} s")
    state = compare_with_forward(run, step, state, first)
    fingerprints((phase.plan.split(state.params)[0], state.batch_stats))  # which a line of the log holds
    before = len(compiled)
    state = loop(run, phase, step, state)
    print(f"compilations while stepping: {len(compiled) - before}")
    save(run, info, step, state, first)
    evaluate(run, compiled)


def compare_with_forward(run, step, state, batch):  # noqa: ANN001, ANN201
    """Times pairs of a forward pass and a training step; returns the state after them."""
    import jax

    from jft.data.augment import make_eval_transform
    from jft.data.feeds.feed import on_device

    transform = make_eval_transform(run.spec, fit=run.config.fit)

    def forward(variables, batch):  # noqa: ANN001, ANN202
        return run.model.apply(variables, transform(batch["image"]), train=False)

    placed = run.parallel.place_batch(on_device(batch))
    forward = run.parallel.compile(forward, state.variables, placed, donate=False)
    flops = step.cost_analysis()["flops"] / forward.cost_analysis()["flops"]
    steps, forwards = [], []
    for _ in range(_ROUNDS.value + 1):
        start = time.perf_counter()
        jax.block_until_ready(forward(state.variables, placed))
        middle = time.perf_counter()
        state, sums = step(state, placed)
        jax.block_until_ready((state, sums))
        forwards.append(middle - start)
        steps.append(time.perf_counter() - middle)
    pairs = sorted(s / f for s, f in zip(steps[1:], forwards[1:], strict=True))
    size = run.config.batch_size
    print(f"forward pass: {size / statistics.median(forwards[1:]):.1f} images/s (median of {len(pairs)})")
    print(f"training step: {size / statistics.median(steps[1:]):.1f} images/s")
    print(
        f"step / forward: time {statistics.median(pairs):.3f} (median; {pairs[0]:.3f} to {pairs[-1]:.3f}), "
        f"compiled FLOPs {flops:.3f}"
    )
    return state


def loop(run, phase, step, state):  # noqa: ANN001, ANN201
    """Steps as the training loop does, over real batches; returns the state after them."""
    from jft.training.batches import input_choice, train_feed, train_rows
    from jft.training.progress import Window

    feed = train_feed(run, None)
    batches = feed.batches(train_rows(run), range(_STEPS.value))
    window = Window(run, phase, state, {})
    for number in range(2, _STEPS.value + 2):
        batch = window.wait_for(batches)
        state, sums = step(state, feed.place(batch))
        window.add(number, sums)
    values = window.close(number, state)
    print(
        f"{_STEPS.value} steps of the loop: {values['images_per_second']:.1f} images/s, "
        f"waiting for input {values['waiting']:.2%} of the time; "
        f"read by {input_choice(run)}"
    )
    return state


def save(run, info, step, state, batch) -> None:  # noqa: ANN001
    """Saves checkpoints in the background of steps, and times the steps with and without, in turn."""
    import contextlib

    import jax

    from jft.data.feeds.feed import on_device
    from jft.training.state import optimizer_items
    from jft.utils.checkpoint import Checkpoints
    from jft.utils.fingerprint import fingerprints

    placed = run.parallel.place_batch(on_device(batch))

    def timed(state):  # noqa: ANN001, ANN202
        start = time.perf_counter()
        state, _ = jax.block_until_ready(step(state, placed))
        return state, time.perf_counter() - start

    alone, beside, standing, lasting = [], [], [], []
    with contextlib.closing(Checkpoints(run.workdir)) as checkpoints:
        fingerprints((state.variables, optimizer_items(state)))  # compiles
        for number in range(1, _SAVES.value + 1):
            state, seconds = timed(state)
            alone.append(seconds)
            start = time.perf_counter()
            checkpoints.save(number, state.variables, optimizer_items(state), info.to_json())
            standing.append(time.perf_counter() - start)
            while True:  # the first one begins while it is written, however small it is
                state, seconds = timed(state)
                beside.append(seconds)
                if not checkpoints.saving:
                    break
            lasting.append(time.perf_counter() - start)
            checkpoints.wait()
    size = sum(leaf.nbytes for leaf in jax.tree.leaves((state.variables, optimizer_items(state))))
    print(
        f"a checkpoint of {size / 1e6:,.1f} MB: the loop stands still for {statistics.median(standing):.3f} s; step "
        f"while it is written / without: {statistics.median(beside) / statistics.median(alone):.3f} "
        f"({len(beside)} steps of median {statistics.median(beside):.3f} s, {len(alone)} of "
        f"{statistics.median(alone):.3f} s; saved within {statistics.median(lasting):.1f} s)"
    )


def evaluate(run, compiled: list) -> None:  # noqa: ANN001
    """Evaluates twice, with a ragged last batch, on fresh variables."""
    import numpy as np

    from jft.models import initialize
    from jft.training.batches import make_evaluator

    source = run.train_source.take(np.arange(min(_EVALUATE.value, len(run.train_source))))
    variables = run.parallel.place_state(initialize(run.model, run.spec.size, 0))
    evaluator = make_evaluator(run)
    before = len(compiled)
    for _ in range(2):
        start = time.perf_counter()
        total = evaluator(variables, source).sums
        seconds = time.perf_counter() - start
    count = total["count"]
    print(
        f"evaluation of {count:.0f} images by {run.config.eval_batch_size}: {count / seconds:.1f} images/s; compiled "
        f"{len(compiled) - before} time(s) for two evaluations, the ragged last batches included"
    )


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main)
