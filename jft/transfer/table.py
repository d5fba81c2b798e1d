"""The table at the start of a run: stage by stage, what learns, where it came from, what freezing saves."""

import math
from collections.abc import Collection
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jft import tree
from jft.transfer.plan import Plan


def stage_costs(model: nn.Module, variables: Any, size: int) -> dict[str, tuple[tuple[int, ...], float]]:
    """Per stage, its output's shape for one picture and the FLOPs of its forward pass, by XLA's own count.

    Args:
      model: the chain.
      variables: arrays or shapes.
      size: side of the square images, in pixels.

    Returns:
      stage -> (shape without the batch, FLOPs of one picture; multiplications by padding are not counted).
    """
    x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    costs, start = {}, None
    for stage in model.stages():

        def run(v: Any, x: Any, start: str | None = start, stage: str = stage) -> jax.Array:
            return model.apply(v, x, train=False, start=start, stop=stage)

        lowered = jax.jit(run).lower(variables, x)
        x = jax.ShapeDtypeStruct(lowered.out_info.shape, lowered.out_info.dtype)
        costs[stage] = (x.shape[1:], (lowered.cost_analysis() or {}).get("flops", math.nan))
        start = stage
    return costs


def transfer_table(
    model: nn.Module, variables: Any, plan: Plan, loaded: Collection[str], size: int, optimizer_bytes: tuple[int, int]
) -> str:
    """Formats the table.

    Args:
      model: the chain.
      variables: `{'params', 'batch_stats'}`, arrays or shapes.
      plan: what learns.
      loaded: names of the leaves that came from pretrained weights ('params/...').
      size: side of the square images, in pixels.
      optimizer_bytes: bytes of the optimizer's state under the plan, and if everything learnt.

    Returns:
      A text of a line per stage and a few below.
    """
    costs = stage_costs(model, variables, size)
    rows = [("stage", "output", "parameters", "learns", "from", "MFLOPs")]
    for stage, (shape, flops) in costs.items():
        leaves = {f"{stage}/{name}": leaf for name, leaf in tree.flatten(variables["params"].get(stage, {})).items()}
        rows.append(
            (
                stage,
                " x ".join(map(str, shape)),
                f"{sum(math.prod(leaf.shape) for leaf in leaves.values()):,}",
                _part(leaves.keys() - plan.frozen, leaves, "yes", "frozen"),
                _part([n for n in leaves if f"params/{n}" in loaded], leaves, "pretrained", "initialised"),
                f"{flops / 1e6:,.1f}",
            )
        )
    flat = tree.flatten(variables["params"])
    total = sum(math.prod(leaf.shape) for leaf in flat.values())
    learning = sum(math.prod(leaf.shape) for name, leaf in flat.items() if name not in plan.frozen)
    forward = sum(flops for _, flops in costs.values())
    prefix = sum(costs[stage][1] for stage in plan.frozen_stages)
    # A backward pass costs about two forward ones: the gradients by the activations and by the parameters.
    step, full = forward + 2 * (forward - prefix), 3 * forward
    lines = [
        *_aligned(rows),
        f"Parameters: {total:,}, of which {learning:,} learn and {total - learning:,} are frozen.",
        f"A step costs about {step / 1e9:,.2f} GFLOPs a picture; with everything learning {full / 1e9:,.2f}. "
        f"The optimizer holds {optimizer_bytes[0] / 1e6:,.1f} MB; with everything learning "
        f"{optimizer_bytes[1] / 1e6:,.1f} MB.",
    ]
    return "\n".join(lines)


def _part(some: Collection[str], everything: Collection[str], all_word: str, none_word: str) -> str:
    if not some:
        return none_word
    return all_word if len(some) == len(everything) else f"{len(some)} of {len(everything)} {all_word}"


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = (0, 1, 3, 4)  # words to the left, numbers to the right
    return [
        "  ".join(c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
