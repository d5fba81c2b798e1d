"""The table at the start of a run: stage by stage, what learns, where it came from, what freezing saves.

FLOPs are those of `jft.models.flops`.
"""

import math
from collections.abc import Collection
from typing import Any

from jft.models import Chain
from jft.models.flops import StageCosts, forward_flops, stage_costs
from jft.training.freeze import Plan
from jft.utils import tree
from jft.utils.text import aligned


def transfer_table(
    model: Chain, variables: Any, plan: Plan, loaded: Collection[str], size: int, optimizer_bytes: tuple[int, int]
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
    costs = stage_costs(model, size)
    rows = [("stage", "output", "parameters", "learns", "from", "MFLOPs")]
    for stage, cost in costs.items():
        leaves = {f"{stage}/{name}": leaf for name, leaf in tree.flatten(variables["params"].get(stage, {})).items()}
        rows.append(
            (
                f"{stage} (in training only)" if cost.after else stage,
                " x ".join(map(str, cost.output)),
                f"{sum(math.prod(leaf.shape) for leaf in leaves.values()):,}",
                _part(leaves.keys() - plan.frozen, leaves, "yes", "frozen"),
                _part([n for n in leaves if f"params/{n}" in loaded], leaves, "pretrained", "initialized"),
                f"{cost.flops / 1e6:,.1f}",
            )
        )
    flat = tree.flatten(variables["params"])
    total = sum(math.prod(leaf.shape) for leaf in flat.values())
    learning = sum(math.prod(leaf.shape) for name, leaf in flat.items() if name not in plan.frozen)
    step, full = _step_flops(costs, plan)
    lines = [
        *aligned(rows, right=(2, 5)),
        f"Parameters: {total:,}, of which {learning:,} learn and {total - learning:,} are frozen.",
        f"A step costs about {step / 1e9:,.2f} GFLOPs an image; with everything learning {full / 1e9:,.2f}. "
        f"The optimizer holds {optimizer_bytes[0] / 1e6:,.1f} MB; with everything learning "
        f"{optimizer_bytes[1] / 1e6:,.1f} MB.",
    ]
    return "\n".join(lines)


def _step_flops(costs: dict[str, StageCosts], plan: Plan) -> tuple[float, float]:
    """FLOPs of a training step for one image under the plan, and if everything learnt."""
    forward = forward_flops(costs)
    prefix = sum(costs[stage].flops for stage in plan.frozen_stages)
    heads = [cost for cost in costs.values() if cost.after]
    running = sum(head.flops for head in heads if head.after not in plan.frozen_stages)
    # A backward pass costs about two forward ones: the gradients by the activations and by the parameters.
    return forward + 2 * (forward - prefix) + 3 * running, 3 * (forward + sum(head.flops for head in heads))


def _part(some: Collection[str], everything: Collection[str], all_word: str, none_word: str) -> str:
    if not some:
        return none_word
    return all_word if len(some) == len(everything) else f"{len(some)} of {len(everything)} {all_word}"
