"""Schedules by name: jft's own four, and the user's own."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jft.config import Config
from jft.utils import registry
from jft.utils.registry import Registry


def constant(peak: float) -> optax.Schedule:
    """Always the peak."""
    return optax.constant_schedule(peak)


def cosine(peak: float, steps: int) -> optax.Schedule:
    """From the peak to 0 (Loshchilov & Hutter, 2017)."""
    return optax.cosine_decay_schedule(peak, steps)


def step(peak: float, steps_per_epoch: float, warmup: int, config: Config) -> optax.Schedule:
    """Multiplied by `step_factor` at each of `step_epochs`, which count from before the warm-up."""
    boundaries = {round(epoch * steps_per_epoch) - warmup: config.step_factor for epoch in config.step_epochs}
    return optax.piecewise_constant_schedule(peak, boundaries)


def inverse_time(peak: float, config: Config) -> optax.Schedule:
    """As Keras' SGD with `decay`."""
    return lambda count: peak / (1 + config.rate_decay * count)


SCHEDULES: Registry[Callable[..., optax.Schedule]] = Registry(
    "schedule",
    "(peak, steps) -> optax.Schedule",
    {"constant": constant, "cosine": cosine, "step": step, "inverse_time": inverse_time},
)


def make(config: Config, given: Any, *, steps: int, steps_per_epoch: float, warmup: int) -> optax.Schedule:
    """The schedule of a config after its warm-up.

    Args:
      config: `schedule`, `learning_rate`, and the fields of jft's own.
      given: what was given in Python and `config.schedule` is the name of.
      steps: from the end of the warm-up to the end of the run or phase.
      steps_per_epoch: to turn epochs into steps.
      warmup: steps of the warm-up.

    Returns:
      Steps since the warm-up -> learning rate.

    Raises:
      ValueError: there is no such, or it gives no rate.
    """
    function, called = SCHEDULES.resolve(config.schedule, given), f"schedule = {config.schedule!r}"
    if not callable(function):
        raise ValueError(f"{called} is {function!r}: give a function {SCHEDULES.signature}.")
    available = {"peak": config.learning_rate, "steps": steps, "steps_per_epoch": steps_per_epoch}
    schedule = registry.call_with(function, {**available, "warmup": warmup, "config": config}, what=called)
    try:
        found = jax.eval_shape(lambda count: jnp.float32(schedule(count)), jax.ShapeDtypeStruct((), jnp.int32))
    except Exception as error:  # whatever the user's own code raises
        raise ValueError(
            f"{called} fails ({type(error).__name__}: {error}). It is called as {SCHEDULES.signature}, and what it "
            "returns with a traced step, so neither `int` nor `if` can read it."
        ) from error
    if found.shape:
        raise ValueError(f"{called} gives {list(found.shape)} for a step: give one rate.")
    return schedule
