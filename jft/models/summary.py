"""The summary of a model: stage by stage and layer by layer, from shapes alone, in the words that Keras made familiar.

Parameters are what training could move. BatchNorm's moving means and variances are none, as in torchvision's counts and
in the catalog; they have a line of their own. Keras adds them to its totals.
"""

import dataclasses
import math

from jft.models import MODELS, Chain, create_model
from jft.models.flops import LayerCosts, StageCosts, forward_flops, parameter_shapes, stage_costs
from jft.training.freeze import make_plan
from jft.utils import tree
from jft.utils.text import aligned
from jft.weights import catalog

TRAINABLE, PARTLY, FROZEN = "trainable", "partly frozen", "frozen"


@dataclasses.dataclass(frozen=True)
class Summary:
    """A model's costs and what of it is frozen. Made by `summarise`.

    Attributes:
      title: what was summarised, such as 'vgg16'.
      size: side of the square pictures, in pixels.
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
        """FLOPs of a forward pass for one picture, without the auxiliary heads."""
        return forward_flops(self.stages)

    def state(self, part: StageCosts | LayerCosts) -> str:
        """'trainable', 'partly frozen' or 'frozen': what happens to the parameters of a stage or of a layer."""
        frozen = part.params.keys() & self.frozen
        if not frozen:
            return TRAINABLE
        return FROZEN if len(frozen) == len(part.params) else PARTLY


def choose_model(
    name: str,
    *,
    num_classes: int | None = None,
    weights: str | None = None,
    image_size: int | None = None,
    aux_heads: bool = False,
) -> tuple[Chain, int]:
    """The model that a weight set of the catalog fills, or a model of the zoo as it stands.

    Args:
      name: key of `jft.models.MODELS`.
      num_classes: logits; None takes those of the weight set, or 1000.
      weights: tag of the set, whose options the model gets, or None.
      image_size: side of the pictures in pixels; None takes the weight set's or the model's own.
      aux_heads: with the auxiliary heads.

    Returns:
      The model and the side of its pictures.

    Raises:
      ValueError: unknown model or set, no auxiliary heads, or a number below one.
    """
    tree.choose(MODELS, name, what="model")
    for what, number in (("num_classes", num_classes), ("image_size", image_size)):
        if number is not None and number < 1:
            raise ValueError(f"{what} is {number}: it must be at least 1.")
    row = catalog.find_row(name, weights) if weights else None
    options = {**(row.options if row else {}), "aux_heads": aux_heads}
    model = create_model(name, **options | ({} if num_classes is None else {"num_classes": num_classes}))
    return model, image_size or (row.preprocess.size if row else model.default_size)


def summarise(title: str, model: Chain, size: int, freeze: str = "") -> Summary:
    """Summarises a model without allocating, compiling or lowering anything.

    Args:
      title: what to call it.
      model: the chain.
      size: side of the square pictures, in pixels.
      freeze: as `jft.training.freeze.make_plan` reads it.

    Returns:
      The summary.

    Raises:
      ValueError: the model does not take pictures of this size, or `freeze` means nothing.
    """
    stages = stage_costs(model, size)
    frozen = make_plan(model, {"params": parameter_shapes(stages), "batch_stats": {}}, freeze).frozen
    return Summary(title, size, model.num_classes, freeze, stages, frozen)


def format_summary(summary: Summary) -> str:
    """The table: a line per stage, one per layer below it, and the totals."""
    rows = [("stage, layer", "type", "output shape", "params", "MFLOPs", "")]
    for stage in summary.stages.values():
        kind = f"auxiliary head on {stage.after}, in training only" if stage.after else ""
        rows.append(_row(summary, stage.name, kind, stage))
        rows += [_row(summary, f"  {_within(layer)}", layer.kind, layer) for layer in stage.layers]
    lines = aligned(rows, right=(3, 4))
    rule = "-" * max(map(len, lines))
    pictures = f"{summary.size} x {summary.size} pixels, {summary.num_classes:,} classes"
    frozen = f", frozen: {summary.freeze}" if summary.freeze else ""
    return "\n".join(
        [f"{summary.title}: {pictures}{frozen}", rule, lines[0], rule, *lines[1:], rule, *_totals(summary)]
    )


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
        f"Forward pass: {human_flops(summary.flops)} for one picture, a multiplication and an addition counted as two; "
        "pools and ReLU are left out"
    )
    return lines


def _memory(num_params: int) -> str:
    """In float32, as parameters are kept."""
    num_bytes = 4 * num_params
    return f"{num_bytes / 2**20:,.2f} MiB" if num_bytes >= 2**20 else f"{num_bytes / 2**10:,.2f} KiB"
