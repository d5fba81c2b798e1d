"""Grad-CAM (Selvaraju et al., 2017, https://arxiv.org/abs/1610.02391) at any stage with a feature map."""

import contextlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jft.metrics.losses import Objective
from jft.models import Chain
from jft.models.flops import stage_costs
from jft.utils import tree

_STRONGEST = 0.65  # opacity of the color at the map's maximum; the image stays visible

GradCAM = Callable[[Any, jax.Array, jax.Array], jax.Array]


def make_grad_cam(model: Chain, *, stage: str, objective: Objective) -> GradCAM:
    """Makes a function that computes which positions of a stage's feature map support a class.

    With A the output of the stage, [h, w, c], and y the class's logit, the map is `relu(sum_c w_c A_c)`, where w_c is
    the mean of dy / dA_c over the h x w positions. A single sigmoid unit z counts as logit z of the second of two
    classes and -z of the first. Earlier stages only run forward and are not differentiated. A transformer's map are the
    tokens of its patches; after its last block a head on the class token does not depend on them.

    Args:
      model: the chain of stages.
      stage: the stage whose output is the feature map; see `default_stage` for the usual one.
      objective: says how the logits belong to classes.

    Returns:
      A pure function, to be jitted by the caller: (variables, normalized images float32 [b, size, size, 3], classes
      int32 [b]) -> float32 [b, h, w]. Values are at least 0, in units of the logit, not scaled to a range, and all 0
      if no position supports the class.

    Raises:
      ValueError: there is no such stage, or it has no feature map.
    """
    tree.choose(model.stages(), stage, what="stage")
    maps = _maps(model, model.default_size)
    if stage not in maps:
        raise ValueError(
            f"stage {stage!r} has no feature map [height, width, channels] that the logits depend on: choose one that "
            f"has, such as the last, {list(maps)[-1]!r}, of {', '.join(maps)}."
        )

    def as_map(x: jax.Array) -> jax.Array:
        if x.ndim == 4:
            return x
        size = model.map_size(x.shape[1:])
        assert size is not None  # the stage is among `maps`
        return x[:, model.prefix_tokens :].reshape(len(x), *size, -1)

    def grad_cam(variables: Any, x: jax.Array, classes: jax.Array) -> jax.Array:
        def logits_of(features: jax.Array) -> jax.Array:
            if model.starts_after(stage):
                logits = model.apply(variables, features, train=False, start=stage)
            else:
                with _replaced(stage, features):
                    logits = model.apply(variables, x, train=False)
            return jnp.take_along_axis(_scores(objective, logits), classes[:, None], axis=1)[:, 0]

        features = model.apply(variables, x, train=False, stop=stage)
        logits, pull_back = jax.vjp(logits_of, features)
        (gradient,) = pull_back(jnp.ones_like(logits))  # at inference, images do not depend on each other
        weights = jnp.mean(as_map(jnp.asarray(gradient, logits.dtype)), axis=(1, 2))
        return jax.nn.relu(jnp.einsum("bhwc,bc->bhw", as_map(features), weights, precision="highest"))

    return grad_cam


def _replaced(stage: str, output: jax.Array) -> contextlib.AbstractContextManager:
    """Context manager in which a stage gives this output, whatever it reads."""

    def intercept(call: Any, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        own = context.module.path == (stage,) and context.method_name == "__call__"
        return output if own else call(*args, **kwargs)

    return nn.intercept_methods(intercept)


def default_stage(model: Chain, size: int) -> str:
    """The last stage before the head whose feature map has more than one position.

    Args:
      model: the chain of stages.
      size: side of the square images, in pixels.

    Raises:
      ValueError: the model does not accept images of this size, or no stage has such a map.
    """
    for stage, (height, width) in reversed(_maps(model, size).items()):
        if height > 1 and width > 1:
            return stage
    raise ValueError(
        f"no stage of the model has a feature map larger than 1 x 1 for images of {size} pixels: give larger ones; it "
        f"was designed for {model.default_size} pixels."
    )


def linear_weights(model: Chain, variables: Any, *, size: int, objective: Objective) -> np.ndarray | None:
    """The weights w_c of `make_grad_cam` for all classes, where they do not depend on the image.

    That is so of a head that averages its map and is linear. Grad-CAM of its input is then class activation mapping
    (Zhou et al., 2016, https://arxiv.org/abs/1512.04150): `relu(map @ weights)`, up to a factor.

    Args:
      model: the chain of stages.
      variables: `{'params', 'batch_stats'}`.
      size: side of the square images, in pixels.
      objective: says how the logits belong to classes.

    Returns:
      float32 [channels, classes], of the stage before the head; None if that has no map of more than one position, or
      if the head does something else, as its outputs show.
    """
    stage = [*model.stages()][-2]
    shape = jax.eval_shape(
        lambda x: model.apply(variables, x, train=False, stop=stage),
        jax.ShapeDtypeStruct((1, size, size, model.in_channels), jnp.float32),
    ).shape
    if len(shape) != 4 or min(shape[1:3]) < 2:
        return None

    def scores(maps: np.ndarray) -> np.ndarray:
        with jax.default_matmul_precision("highest"):
            x = jnp.asarray(maps, jnp.float32)
            return np.asarray(_scores(objective, model.apply(variables, x, train=False, start=stage)))

    channels = shape[-1]
    nothing = scores(np.zeros((1, 1, 1, channels)))
    weights = scores(np.eye(channels).reshape(channels, 1, 1, channels)) - nothing
    maps = np.random.default_rng(0).normal(size=(4, *shape[1:]))
    wanted = maps.mean((1, 2)) @ weights
    linear = np.allclose(scores(maps) - nothing, wanted, rtol=0, atol=1e-3 * float(np.abs(wanted).max()))
    return weights if linear else None


def overlay(image: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """Draws a map over its image; larger values are brighter and more opaque.

    The colors are matplotlib's 'inferno': perceptually uniform, with lightness rising with the value, so that they keep
    their order in grayscale and for color-blind readers. A rainbow such as 'turbo' does not.

    Args:
      image: uint8 [h, w, 3], RGB: the square that the model read, not the image before cropping.
      cam: float [a, b], finite and at least 0; it is scaled to a maximum of 1 and resized bilinearly to the image.

    Returns:
      uint8 [h, w, 3], RGB; a copy of the image if the map is all 0.

    Raises:
      ValueError: the image or the map has another shape, dtype or range.
    """
    from matplotlib import colormaps

    image, cam = np.asarray(image), np.asarray(cam, np.float32)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image is {image.dtype} {list(image.shape)}: give gray levels 0..255, uint8 [h, w, 3].")
    if cam.ndim != 2 or not (np.isfinite(cam) & (cam >= 0)).all():
        raise ValueError(
            f"the map is {list(cam.shape)} in {cam.min():.4g}..{cam.max():.4g}: give one map [h, w], finite and at "
            "least 0; NaN comes from weights or images that are not finite."
        )
    if not cam.any():
        return image.copy()
    height, width = image.shape[:2]
    heat = np.asarray(Image.fromarray(cam / cam.max()).resize((width, height), Image.Resampling.BILINEAR))
    colors, alpha = 255 * colormaps["inferno"](heat)[..., :3], _STRONGEST * heat[..., None]
    return np.rint((1 - alpha) * image + alpha * colors).astype(np.uint8)


def _scores(objective: Objective, logits: jax.Array) -> jax.Array:
    """A logit per class [b, classes]; for one sigmoid unit z, -z and z, the log-odds of the two classes."""
    if objective.kind == "binary":
        # Not (0, z), the equivalent softmax: its first logit is constant and has no gradient.
        return jnp.concatenate([-logits, logits], axis=-1)
    return objective.class_logits(logits)


def _maps(model: Chain, size: int) -> dict[str, tuple[int, int]]:
    """Height and width of each feature map before the head that the logits depend on, in order."""
    costs = {name: stage for name, stage in stage_costs(model, size).items() if stage.after is None}
    maps = {name: model.map_size(stage.output) for name, stage in costs.items() if model.reads_patches(name)}
    return {name: size for name, size in maps.items() if size is not None}
