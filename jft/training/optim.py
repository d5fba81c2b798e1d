"""The optimizer and schedule of a run, with Optax. The mask keeps frozen leaves out of every optimizer."""

from collections.abc import Hashable, Mapping
from typing import Any

import jax
import optax

from jft.config import Config
from jft.training import optimizers, schedules


def make_schedule(config: Config, *, num_steps: int, steps_per_epoch: float, given: Any = None) -> optax.Schedule:
    """Learning rate as a function of the step only, so that a resumed run continues like an uninterrupted one.

    Args:
      config: `schedule`, `learning_rate`, `warmup_epochs`, `step_epochs`, `step_factor`, `rate_decay`.
      num_steps: length of the run or phase, at the end of which 'cosine' reaches 0.
      steps_per_epoch: converts epochs to steps.
      given: the schedule, if it was passed in Python; see `schedules.make`.

    Returns:
      step -> learning rate.
    """
    warmup = round(config.warmup_epochs * steps_per_epoch)
    peak = config.learning_rate
    rest = max(num_steps - warmup, 1)
    main = schedules.make(config, given, steps=rest, steps_per_epoch=steps_per_epoch, warmup=warmup)
    if not warmup:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), main], [warmup])


def make_optimizer(
    config: Config,
    freeze_mask: Any,
    *,
    groups: Mapping[str, str] | None = None,
    factors: Mapping[str, float] | None = None,
    given: Any = None,
) -> optax.GradientTransformation:
    """The optimizer of the trainable leaves; its `update` takes the `learning_rate` of the step by that name.

    So the rate depends on the step only, and cannot disagree with a counter in Optax's state.

    Args:
      config: `optimizer`, `learning_rate`, `momentum`, `weight_decay`, `clip_norm`.
      freeze_mask: tree of bools like the parameters, True where frozen.
      groups: name of a leaf -> its group; None: one group. Each group has its own state and step counter, because Adam
        corrects the bias of its averages by the counter: leaves that become trainable later need one that starts later.
      factors: stage -> factor on the updates of its leaves; None: 1.
      given: the optimizer, if it was passed in Python; see `optimizers.resolve`.

    Returns:
      A transformation from gradients to updates, which are added to the parameters. It has no state for frozen leaves,
      ignores them in the global norm and in weight decay, and gives them zero updates.
    """
    # Always the same chain of parts, so that `carry_over` finds state at the same path whatever is enabled.
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    # Sorted: the order of a set differs between processes, and with it the compiled program.
    known = sorted(set((groups or {}).values())) or ["all"]
    rules: dict[Hashable, optax.GradientTransformation] = {
        group: optimizers.transformation(config, given) for group in known
    }

    def labels(params: Any) -> Any:
        # Masked leaves are not in this tree and need no label.
        names = {name: groups[name] if groups else "all" for name in _names(params)}
        return jax.tree.unflatten(jax.tree.structure(params), list(names.values()))

    scale = _scale_by_stage(factors) if factors and set(factors.values()) != {1.0} else optax.identity()
    # selective_transform, not optax.masked, which would pass what it masks through; and clipping inside of it: outside,
    # the norm would take in whatever stands for frozen gradients.
    return optax.selective_transform(optax.chain(clip, optax.partition(rules, labels), scale), freeze_mask=freeze_mask)


def _scale_by_stage(factors: Mapping[str, float]) -> optax.GradientTransformation:
    def update(updates: Any, params: Any = None) -> Any:
        del params
        scaled = [
            factors[name.split("/")[0]] * leaf
            for name, leaf in zip(_names(updates), jax.tree.leaves(updates), strict=True)
        ]
        return jax.tree.unflatten(jax.tree.structure(updates), scaled)

    return optax.stateless(update)


def _names(params: Any) -> list[str]:
    """Names of the leaves that a mask leaves visible, in the tree's order."""
    return ["/".join(entry.key for entry in path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]


def carry_over(old: Any, new: Any) -> Any:
    """Copies from an old optimizer state into a fresh one the arrays of the same leaves in the same groups.

    Args:
      old: state of an optimizer of `make_optimizer`.
      new: fresh state of another one.

    Returns:
      `new`, with the arrays of `old` that have the same path and shape.
    """
    known = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(old)[0]}

    def choose(path: Any, leaf: jax.Array) -> jax.Array:
        found = known.get(jax.tree_util.keystr(path))
        return found if found is not None and found.shape == leaf.shape else leaf

    return jax.tree_util.tree_map_with_path(choose, new)


def decay_factors(stages: tuple[str, ...], factor: float, heads: Mapping[str, str]) -> dict[str, float]:
    """Layer-wise learning rates (Howard & Ruder, 2018): the head's factor is 1, each stage before it `factor` less.

    Args:
      stages: stages of the model, in order, the head last.
      factor: factor between neighboring stages, such as 0.7; 1 treats all stages alike.
      heads: auxiliary head -> the stage that it reads, whose factor it gets.
    """
    depths = {stage: factor ** (len(stages) - 1 - i) for i, stage in enumerate(stages)}
    return {**depths, **{name: depths[after] for name, after in heads.items() if after in depths}}
