"""The summary of a model under a transfer plan."""

from jft.evaluation.predictor import Predictor
from jft.models import Chain, architecture, create_model, register
from jft.models.flops import parameter_shapes, stage_costs
from jft.models.summary import Summary
from jft.models.summary import summarize as of_model
from jft.training.freeze import make_plan
from jft.weights import catalog


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
      name: name of a model, see `jft.models.architecture`.
      num_classes: logits; None takes those of the weight set, or 1000.
      weights: tag of the set, whose options the model gets, or None.
      image_size: side of the images in pixels; None takes the weight set's or the model's own.
      aux_heads: with the auxiliary heads.

    Returns:
      The model and the side of its images.

    Raises:
      ValueError: unknown model or set, no auxiliary heads, or a number below one.
    """
    architecture(name)
    for what, number in (("num_classes", num_classes), ("image_size", image_size)):
        if number is not None and number < 1:
            raise ValueError(f"{what} is {number}: it must be at least 1.")
    row = catalog.find_row(name, weights) if weights else None
    options = {**(row.options if row else {}), "aux_heads": aux_heads}
    model = create_model(name, **options | ({} if num_classes is None else {"num_classes": num_classes}))
    return model, image_size or (row.preprocess.size if row else model.default_size)


def summarize(title: str, model: Chain, size: int, freeze: str = "") -> Summary:
    """As `jft.models.summary.summarize`, of a model whose leaves `freeze` freezes, see `make_plan`.

    Raises:
      ValueError: the model does not take images of this size, or `freeze` means nothing.
    """
    shapes = parameter_shapes(stage_costs(model, size))
    frozen = make_plan(model, {"params": shapes, "batch_stats": {}}, freeze).frozen
    return of_model(title, model, size, freeze, frozen)


def summary(
    model: str | type[Chain] | Predictor,
    *,
    num_classes: int | None = None,
    weights: str | None = None,
    image_size: int | None = None,
    aux_heads: bool = False,
    freeze: str = "",
) -> Summary:
    """The table of a model, stage by stage and layer by layer: output shapes, parameters, FLOPs, what is frozen.

    From shapes alone: nothing is downloaded, allocated or compiled.

    Args:
      model: name of a model, see `jft.models.architecture`, or a model from `create_model`, `load` or `train`.
      num_classes, weights, image_size, aux_heads: of a model that is named, see `choose_model`.
      freeze: as of a config: a stage, or patterns over parameter names.

    Returns:
      The summary, which prints as a table; `.num_params`, `.num_trainable`; `.flops` of a forward pass for an image.

    Raises:
      ValueError: unknown model or set, or `freeze` means nothing.
    """
    if isinstance(model, type):
        model = register(model)
    if isinstance(model, str):
        chain, size = choose_model(
            model, num_classes=num_classes, weights=weights, image_size=image_size, aux_heads=aux_heads
        )
        return summarize(f"{model}.{weights}" if weights else model, chain, size, freeze)
    return summarize(model.architecture, model.module, image_size or model.preprocess.size, freeze)
