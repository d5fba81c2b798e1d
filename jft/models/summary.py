"""The summary of a model, stage by stage and layer by layer, computed from shapes only, in the terms of Keras.

Like torchvision and the catalog, it does not count BatchNorm's moving means and variances as parameters; they have a
separate line. Keras adds them to its totals.
"""

import dataclasses
import math
from collections.abc import Collection

from jft.models import Chain
from jft.models.flops import LayerCosts, StageCosts, forward_flops, stage_costs
from jft.utils.text import aligned

TRAINABLE, PARTLY, FROZEN = "trainable", "partly frozen", "frozen"


@dataclasses.dataclass(frozen=True, repr=False)
class Summary:
    """A model's costs and frozen parameters, made by `summarize`.

    Attributes:
      title: what was summarized, such as 'vgg16'.
      size: side of the square images, in pixels.
      num_classes: number of logits.
      freeze: what the plan was told to freeze, or empty.
      stages: costs of the stages in order, auxiliary heads behind the stage that they read.
      frozen: names of the frozen leaves.
    """

    title: str
    size: int
    num_classes: int
    freeze: str
    stages: dict[str, StageCosts]
    frozen: frozenset[str]

    def __repr__(self) -> str:
        """The table as text."""
        return format_summary(self)

    @property
    def num_params(self) -> int:
        """Number of parameters, those of auxiliary heads included."""
        return sum(stage.num_params for stage in self.stages.values())

    @property
    def num_trainable(self) -> int:
        """Number of parameters that are not frozen."""
        shapes = {name: shape for stage in self.stages.values() for name, shape in stage.params.items()}
        return sum(math.prod(shape) for name, shape in shapes.items() if name not in self.frozen)

    @property
    def flops(self) -> int:
        """FLOPs of a forward pass for one image, without the auxiliary heads."""
        return forward_flops(self.stages)

    def state(self, part: StageCosts | LayerCosts) -> str:
        """'trainable', 'partly frozen' or 'frozen', for the parameters of a stage or layer; '' if it has none."""
        frozen = part.params.keys() & self.frozen
        if not frozen:
            return TRAINABLE if part.params else ""
        return FROZEN if len(frozen) == len(part.params) else PARTLY


def summarize(title: str, model: Chain, size: int, freeze: str = "", frozen: Collection[str] = ()) -> Summary:
    """Summarizes a model without allocating, compiling or lowering anything.

    Args:
      title: what to call it.
      model: the chain.
      size: side of the square images, in pixels.
      freeze: what was told to freeze, as the title shows it.
      frozen: names of the leaves that are frozen, from `jft.training.freeze.make_plan`.

    Returns:
      The summary.

    Raises:
      ValueError: the model does not take images of this size.
    """
    return Summary(title, size, model.num_classes, freeze, stage_costs(model, size), frozenset(frozen))


def format_summary(summary: Summary) -> str:
    """The table: a line for each stage and for each of its layers, and the totals."""
    rows: list[tuple[str, ...]] = [("stage, layer", "type", "output shape", "params", "MFLOPs", "")]
    for stage in summary.stages.values():
        kind = f"auxiliary head on {stage.after}, in training only" if stage.after else ""
        rows.append(_row(summary, stage.name, kind, stage))
        rows += [_row(summary, f"  {_within(layer)}", layer.kind, layer) for layer in stage.layers]
    lines = aligned(rows, right=(3, 4))
    rule = "-" * max(map(len, lines))
    images = f"{summary.size} x {summary.size} pixels, {summary.num_classes:,} classes"
    frozen = f", frozen: {summary.freeze}" if summary.freeze else ""
    return "\n".join([f"{summary.title}: {images}{frozen}", rule, lines[0], rule, *lines[1:], rule, *_totals(summary)])


def human_flops(flops: int) -> str:
    """FLOPs to four digits: '30.93 GFLOPs', '81.94 kFLOPs'."""
    unit, size = next((u, n) for u, n in (("G", 1e9), ("M", 1e6), ("k", 1e3)) if flops >= n or n == 1e3)
    return f"{f'{flops / size:#.4g}'.rstrip('.')} {unit}FLOPs"


def _row(summary: Summary, name: str, kind: str, part: StageCosts | LayerCosts) -> tuple[str, ...]:
    shape = " x ".join(map(str, part.output))
    return name, kind, shape, f"{part.num_params:,}", f"{part.flops / 1e6:,.1f}", summary.state(part)


def _within(layer: LayerCosts) -> str:
    return layer.name.removeprefix(f"{layer.stage}/")


def _totals(summary: Summary) -> list[str]:
    total, trainable = summary.num_params, summary.num_trainable
    lines = [
        f"Total params: {total:,} ({_memory(total)})",
        f"Trainable params: {trainable:,} ({_memory(trainable)})",
        f"Non-trainable params: {total - trainable:,} ({_memory(total - trainable)})",
    ]
    statistics = sum(layer.num_statistics for stage in summary.stages.values() for layer in stage.layers)
    if statistics:
        lines.append(
            f"BatchNorm statistics: {statistics:,} (moving means and variances; not params, though Keras counts them)"
        )
    heads = [stage for stage in summary.stages.values() if stage.after]
    if heads:
        lines.append(
            f"Auxiliary heads: {sum(head.num_params for head in heads):,} of the params; in training "
            f"{human_flops(sum(head.flops for head in heads))} more"
        )
    lines.append(
        f"Forward pass: {human_flops(summary.flops)} for one image, a multiplication and an addition counted as two; "
        "pools and ReLU are left out"
    )
    return lines


def _memory(num_params: int) -> str:
    """In float32, as parameters are kept."""
    num_bytes = 4 * num_params
    return f"{num_bytes / 2**20:,.2f} MiB" if num_bytes >= 2**20 else f"{num_bytes / 2**10:,.2f} KiB"
