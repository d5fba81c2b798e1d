"""The table at the start of a run: for each stage, whether it is trainable, the source of its values and its FLOPs.

FLOPs are counted by `jft.models.flops`.
"""

import math
from collections.abc import Collection
from typing import Any

from jft.models import Chain
from jft.models.flops import StageCosts, forward_flops, stage_costs
from jft.training.freeze import Plan
from jft.utils import tree
from jft.utils.text import aligned, share_of


def transfer_table(
    model: Chain, variables: Any, plan: Plan, loaded: Collection[str], size: int, optimizer_bytes: tuple[int, int]
) -> str:
    """Formats the table.

    Args:
      model: the chain of stages.
      variables: `{'params', 'batch_stats'}`, arrays or shapes.
      plan: says what is frozen.
      loaded: names of the leaves that came from pretrained weights ('params/...').
      size: side of the square images, in pixels.
      optimizer_bytes: bytes of the optimizer state under the plan, and if everything were trainable.

    Returns:
      Text with one line per stage and three lines of totals.
    """
    costs = stage_costs(model, size)
    rows = [("stage", "output", "parameters", "trainable", "source", "MFLOPs")]
    for stage, cost in costs.items():
        leaves = {f"{stage}/{name}": leaf for name, leaf in tree.flatten(variables["params"].get(stage, {})).items()}
        rows.append(
            (
                f"{stage} (in training only)" if cost.after else stage,
                " x ".join(map(str, cost.output)),
                f"{sum(math.prod(leaf.shape) for leaf in leaves.values()):,}",
                share_of(leaves.keys() - plan.frozen, leaves, "leaves", everything="yes", nothing="no"),
                share_of([n for n in leaves if f"params/{n}" in loaded], leaves, "pretrained", nothing="initialized"),
                f"{cost.flops / 1e6:,.1f}",
            )
        )
    flat = tree.flatten(variables["params"])
    total = sum(math.prod(leaf.shape) for leaf in flat.values())
    trainable = sum(math.prod(leaf.shape) for name, leaf in flat.items() if name not in plan.frozen)
    step, full = _step_flops(costs, plan)
    lines = [
        *aligned(rows, right=(2, 5)),
        f"Parameters: {total:,}: {trainable:,} trainable, {total - trainable:,} frozen.",
        f"Training step: about {step / 1e9:,.2f} GFLOPs per image ({full / 1e9:,.2f} if nothing were frozen).",
        f"Optimizer state: {optimizer_bytes[0] / 1e6:,.1f} MB ({optimizer_bytes[1] / 1e6:,.1f} MB if nothing were "
        "frozen).",
    ]
    return "\n".join(lines)


def _step_flops(costs: dict[str, StageCosts], plan: Plan) -> tuple[float, float]:
    """FLOPs of a training step for one image: under the plan, and if nothing were frozen."""
    forward = forward_flops(costs)
    prefix = sum(costs[stage].flops for stage in plan.frozen_stages)
    heads = [cost for cost in costs.values() if cost.after]
    running = sum(head.flops for head in heads if head.after not in plan.frozen_stages)
    # A backward pass costs about two forward passes: gradients of the activations and of the parameters.
    return forward + 2 * (forward - prefix) + 3 * running, 3 * (forward + sum(head.flops for head in heads))
