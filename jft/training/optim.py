"""The optimizer and schedule of a run, with Optax. The mask keeps frozen leaves out of every optimizer."""

from collections.abc import Mapping
from typing import Any

import jax
import optax

from jft.config import Config
from jft.training import optimizers, schedules


def make_schedule(config: Config, *, num_steps: int, steps_per_epoch: float, given: Any = None) -> optax.Schedule:
    """Learning rate as a function of the step alone, so that a resumed run goes on as an uninterrupted one would.

    Args:
      config: `schedule`, `learning_rate`, `warmup_epochs`, `step_epochs`, `step_factor`, `rate_decay`.
      num_steps: length of the run or phase, where 'cosine' reaches 0.
      steps_per_epoch: to turn epochs into steps.
      given: the schedule, where it was given in Python; see `schedules.make`.

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
) -> optax.GradientTransformationExtraArgs:
    """The optimizer of the trainable leaves; its `update` takes the `learning_rate` of the step by that name.

    So the rate is a function of the step alone, and no counter of Optax's can disagree with it.

    Args:
      config: `optimizer`, `learning_rate`, `momentum`, `weight_decay`, `clip_norm`.
      freeze_mask: tree of bools like the parameters, True where frozen.
      groups: name of a leaf -> its group. Each group has a state of its own, with its own counter, by which Adam
        corrects the bias of its averages: leaves that begin to learn later need one that begins later. None: one group.
      factors: stage -> factor on its leaves' updates; None: 1.
      given: the optimizer, where it was given in Python; see `optimizers.resolve`.

    Returns:
      A transformation from gradients to updates, to be added to the parameters. It holds no state for frozen leaves,
      reads nothing of them (neither for the global norm nor for weight decay) and gives them a zero update.
    """
    # Always as many parts, so that what `carry_over` finds stands at the same place whatever is on or off.
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    # In a fixed order: that of a set changes from process to process, and with it the program that XLA has compiled.
    known = sorted(set((groups or {}).values())) or ["all"]
    rules = {group: optimizers.transformation(config, given) for group in known}

    def labels(params: Any) -> Any:
        # What the mask hides has no leaves, and so no label.
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
    """Puts into a fresh state what an older one knows of the same leaves in the same groups.

    Args:
      old: state of an optimizer of `make_optimizer`.
      new: fresh state of another.

    Returns:
      `new`, with those arrays of `old` that stand at the same place of it and have the same shape.
    """
    known = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(old)[0]}

    def choose(path: Any, leaf: jax.Array) -> jax.Array:
        found = known.get(jax.tree_util.keystr(path))
        return found if found is not None and found.shape == leaf.shape else leaf

    return jax.tree_util.tree_map_with_path(choose, new)


def decay_factors(stages: tuple[str, ...], factor: float, heads: Mapping[str, str]) -> dict[str, float]:
    """Layer-wise learning rates (Howard & Ruder, 2018): the head's factor is 1, each stage before it `factor` less.

    Args:
      stages: of the model, in order, the head last.
      factor: between neighbors, such as 0.7; 1 leaves all alike.
      heads: auxiliary head -> the stage that it reads, whose factor it shares.
    """
    depths = {stage: factor ** (len(stages) - 1 - i) for i, stage in enumerate(stages)}
    return {**depths, **{name: depths[after] for name, after in heads.items() if after in depths}}
