"""Optimizers and schedules from the config, with Optax. The mask keeps frozen leaves out of every one of them."""

from typing import Any

import jax
import optax
from ml_collections import ConfigDict


def make_schedule(config: ConfigDict, *, num_steps: int, steps_per_epoch: float) -> optax.Schedule:
    """Learning rate as a function of the step alone, so that a resumed run goes on as an uninterrupted one would.

    Args:
      config: `schedule`, `learning_rate`, `warmup_epochs`, `step_epochs`, `step_factor`.
      num_steps: length of the run, where 'cosine' reaches 0.
      steps_per_epoch: to turn epochs into steps.

    Returns:
      step -> learning rate.
    """
    warmup = round(config.warmup_epochs * steps_per_epoch)
    peak = config.learning_rate
    if config.schedule == "cosine":
        main = optax.cosine_decay_schedule(peak, max(num_steps - warmup, 1))
    elif config.schedule == "step":
        boundaries = {round(epoch * steps_per_epoch) - warmup: config.step_factor for epoch in config.step_epochs}
        main = optax.piecewise_constant_schedule(peak, boundaries)
    else:
        main = optax.constant_schedule(peak)
    if not warmup:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), main], [warmup])


def make_optimizer(config: ConfigDict, schedule: optax.Schedule, freeze_mask: Any) -> optax.GradientTransformation:
    """The optimizer of the learning leaves.

    Args:
      config: `optimizer`, `momentum`, `weight_decay`, `clip_norm`.
      schedule: from `make_schedule`.
      freeze_mask: tree of bools like the parameters, True where frozen.

    Returns:
      A transformation over the whole tree that holds no state for frozen leaves, reads nothing of them (neither for
      the global norm nor for weight decay) and gives them a zero update.
    """

    def kernels(params: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf.ndim > 1, params)

    clip = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    if config.optimizer == "adamw":
        main = [optax.adamw(schedule, weight_decay=config.weight_decay, mask=kernels)]
    else:
        decay = [optax.add_decayed_weights(config.weight_decay, mask=kernels)] if config.weight_decay else []
        rule = (
            optax.adam(schedule) if config.optimizer == "adam" else optax.sgd(schedule, config.momentum, nesterov=True)
        )
        main = [*decay, rule]
    # selective_transform, not optax.masked, which would pass what it masks through; and clipping inside of it: outside,
    # the norm would take in whatever stands for frozen gradients.
    return optax.selective_transform(optax.chain(*clip, *main), freeze_mask=freeze_mask)
