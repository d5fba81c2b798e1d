"""A model of the zoo, with pretrained weights or fresh ones, ready for images."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jft.data.transforms import Preprocess, check_fit
from jft.evaluation.load import load
from jft.evaluation.predictor import Predictor
from jft.metrics.losses import Objective
from jft.models import Chain, abstract_variables, architecture, initialize, register
from jft.models import create_model as create_module
from jft.utils import tree
from jft.utils.mesh import make_parallel
from jft.weights import licenses, pretrained
from jft.weights.catalog import WeightSet, choose_set, find_row, is_repository


def create_model(
    name: str | type[Chain],
    weights: str | None = None,
    *,
    num_classes: int | None = None,
    class_names: Sequence[str] = (),
    weights_path: str | None = None,
    image_size: int | None = None,
    fit: str = "crop",
    dtype: str = "float32",
    seed: int = 0,
    batch_size: int = 32,
    accept_license: bool = False,
    **options: Any,
) -> Predictor:
    """A model with its variables and preprocessing.

    Args:
      name: a model such as 'resnet50', see `list_models`; or a network of your own, a subclass of `jft.models.Chain`;
        or a repository of timm's on the Hugging Face hub, 'hf:timm/resnet18.a1_in1k', with its weights.
      weights: tag of a published weight set, such as 'torchvision'; `list_weights` gives them; or a repository of this
        model. None: fresh variables.
      num_classes: logits of a new head, whose classifying layer is fresh. None: the head of the weights, with their
        classes; without weights 1000.
      class_names: what the logits of a new head mean; as many as `num_classes`, which they can replace. (): numbers.
      weights_path: the weights' file, or a folder that holds it, looked at before the cache and the network.
      image_size: side in pixels of the squares that the model reads; None: as the weights were trained, or the
        model's own.
      fit: how an image becomes a square: 'crop', the shorter side resized and the center cut out, as published
        accuracies are measured; or 'whole', squashed, as `train` does by default.
      dtype: of the computation, 'float32' or 'bfloat16'; parameters stay float32.
      seed: of fresh variables.
      batch_size: images at a time, over all devices of this process.
      accept_license: use weights whose license forbids commercial use.
      **options: further fields of the model, such as `cut='fire8'`, the stage after which the head comes, or
        `new_head='linear'` with `head_hidden=(256,)` and `head_dropout=0.2`. With `in_channels=1` images are made
        gray and pretrained first kernels summed; with other counts than 1 and 3 the first kernel is repeated, and only
        `.module` and `.variables` are of use, with images that you normalize yourself.

    Returns:
      The model: `.module`, `.variables`, `.preprocess`, `.stages`; called with images it gives logits.

    Raises:
      ValueError: unknown model, weights or option; or the weights are damaged or not this model's.
      OSError: the weights are neither on this machine nor can be downloaded.
    """
    check_fit(fit)
    name = name if isinstance(name, str) else register(name)
    if is_repository(name):
        name, weights = choose_set(name).model, weights or name
    build = architecture(name)
    names = tuple(class_names)
    count = _count(num_classes, names)
    if weights and count is None and not options:
        how = {"weights_path": weights_path, "batch_size": batch_size, "accept_license": accept_license}
        opened = load(name, weights=weights, **how)
        spec = opened.spec.at(image_size) if image_size else opened.spec
        return dataclasses.replace(opened, model=opened.model.clone(dtype=jnp.dtype(dtype)), spec=spec, fit=fit)
    count = 1000 if count is None else count
    row = find_row(name, weights) if weights else None
    options = _options(name, build(), row, options) | {"num_classes": count}
    model = create_module(name, dtype=jnp.dtype(dtype), **options)
    spec = row.preprocess if row else Preprocess().at(model.default_size)
    spec = spec.at(image_size) if image_size else spec
    spec = spec.gray() if model.in_channels == 1 else spec
    with licenses.accepting(accept_license):
        variables = _variables(model, spec.size, seed, row, weights_path)
    parallel = make_parallel("jit", devices=jax.local_devices())
    return Predictor(
        name=f"{row.name if row else name}",
        model=model,
        variables=parallel.place_state(jax.tree.map(np.asarray, variables)),
        spec=spec,
        fit=fit,
        objective=Objective("softmax", count),
        class_names=names or tuple(map(str, range(count))),
        temperature=1.0,
        info=None,
        parallel=parallel,
        batch_size=parallel.rounded(batch_size),
        architecture=name,
        options=options,
    )


def _count(num_classes: int | None, names: Sequence[str]) -> int | None:
    """Logits of a new head; None where none is asked for."""
    if num_classes is not None and not (isinstance(num_classes, int | np.integer) and num_classes > 0):
        raise ValueError(
            f"num_classes = {num_classes!r}: give a whole number above 0, or None for the weights' own head."
        )
    if names and num_classes not in (None, len(names)):
        raise ValueError(f"num_classes = {num_classes}, but class_names has {len(names)}: {', '.join(names[:5])}.")
    return num_classes or len(names) or None


def _variables(model: Chain, size: int, seed: int, row: WeightSet | None, weights_path: str | None) -> dict[str, Any]:
    """Fresh variables, with those of the weights in their place."""
    draw = functools.partial(initialize, model, size, seed)
    if row is None:
        return draw()
    shapes = abstract_variables(model, size)
    found, _, _ = pretrained.overlay(shapes, lambda only: draw(only=only), row, weights_path=weights_path, fresh="")
    return found


def _options(name: str, model: Chain, row: WeightSet | None, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the model: those that its weights need, those of a head made anew, and those asked for."""
    own = {field: value for field, value in (row.options if row else {}).items() if field != "num_classes"}
    if asked.get("new_head", "published") == "published":
        own |= model.NEW_HEAD
    known = {field.name: None for field in dataclasses.fields(model)}
    for field in asked:
        tree.choose(known, field, what=f"option of {name}")
    return own | dict(asked)
