"""What every number of devices and processes must agree on: twenty steps with BatchNorm, and a ragged evaluation."""

import functools
from unittest import mock

import jax
import numpy as np
import optax
from small_chain import Small, images

from jft.data.feeds.choose import open_feed
from jft.data.feeds.images import Images, Reading
from jft.data.feeds.resident import nbytes_held
from jft.data.transforms import Preprocess
from jft.evaluation.evaluator import Evaluator
from jft.metrics.losses import Objective
from jft.models import initialize
from jft.training.freeze import make_plan
from jft.training.step import Input, TrainState, make_train_step
from jft.utils import mesh as parallel_lib
from jft.utils import tree
from jft.utils.fingerprint import fingerprints

OBJECTIVE = Objective("softmax", 3)
BATCH = 16
SPEC = Preprocess().at(8)


# The leaves of a network that compiles quickly are small: here they are cut all the same.
@mock.patch.object(parallel_lib, "SMALLEST_CUT", 16)
def run(mode, mesh, devices=None, *, steps=20, accumulate=1):
    """Trains and evaluates.

    Args:
      mode: 'jit' or 'pmap'.
      mesh: as in the config.
      devices: by default all of all processes.
      steps: to train.
      accumulate: micro-batches in a step.

    Returns:
      `{'losses', 'count', 'correct', 'loss', 'probabilities', 'bytes', 'whole_bytes', 'leaves', 'feed', 'images'}`. Of
      'bytes', parameters and optimizer state on the first device, and of one copy; 'images', what lives on each device.
    """
    parallel = parallel_lib.make_parallel(mode, mesh, devices)
    model = Small(num_classes=3, axis_name=parallel.axis_name)
    variables = initialize(model, 8, seed=0)
    plan = make_plan(model, variables, "a")
    frozen = plan.freeze_mask(variables["params"])
    tx = optax.selective_transform(optax.sgd(3e-3, 0.9, nesterov=True), freeze_mask=frozen)
    state = TrainState(step=np.int32(0), opt_state=tx.init(variables["params"]), **variables)
    state = parallel.place_state(state)
    step = make_train_step(
        model,
        plan,
        tx,
        schedule=None,
        objective=OBJECTIVE,
        inputs=Input(lambda batch, rng: batch / 255.0 - 0.5),
        seed=0,
        accumulate=accumulate,
        axis_name=parallel.axis_name,
    )
    data = images(n=100)
    index, parts = parallel.shard

    def rows(number):
        part = np.arange(BATCH).reshape(parts, -1)[index]
        return (part + BATCH * number) % len(data), np.ones(len(part), bool)

    feed = open_feed(Images(data, Reading(SPEC, "whole", "device", cache_bytes=0, input="resident")), parallel)
    compiled, losses = None, []
    for batch in feed.batches(rows, range(steps)):
        placed = feed.place(batch)
        compiled = compiled or parallel.compile(step, state, placed, donate=True)
        state, sums = compiled(state, placed)
        losses.append(float(sums["objective"]))
    evaluator = Evaluator(
        model,
        SPEC,
        parallel,
        objective=OBJECTIVE,
        fit="whole",
        batch_size=BATCH,
        resize_on="device",
        cache_bytes=0,
        input="resident",
    )
    found = evaluator(state.variables, data)
    held = jax.tree.leaves((state.params, state.opt_state))
    return {
        **found.summary(),
        "feed": type(feed).__name__,
        "images": nbytes_held(parallel),
        "losses": losses,
        "correct": float(found.sums["correct"]),
        "probabilities": found.probabilities.tolist(),
        "bytes": sum(leaf.addressable_shards[0].data.nbytes for leaf in held),
        "whole_bytes": sum(leaf.nbytes for leaf in held),
        "leaves": len(tree.flatten(state.params)),
        "fingerprints": fingerprints(state.variables),
    }


@functools.cache
def alone():
    """On one device."""
    return run("jit", {"data": 1}, jax.devices()[:1])
