"""Where a model looks: Grad-CAM (Selvaraju et al., 2017, https://arxiv.org/abs/1610.02391) at any stage with a map."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jft.metrics.losses import Objective
from jft.models import Chain
from jft.models.flops import stage_costs
from jft.utils import tree

_STRONGEST = 0.65  # of the color where the map is highest: the image stays visible below it

GradCAM = Callable[[Any, jax.Array, jax.Array], jax.Array]


def make_grad_cam(model: Chain, *, stage: str, objective: Objective) -> GradCAM:
    """Makes the function that says which places of a stage's map speak for a class.

    With A the output of the stage, [h, w, c], and y the class's logit: `relu(sum_c w_c A_c)`, where w_c is the mean of
    dy / dA_c over the h x w places. One sigmoid unit z for the second of two classes is a logit z for it, and -z for
    the first. Earlier stages run forward alone; nothing is differentiated through them.

    Args:
      model: the chain.
      stage: whose output is the map; `default_stage` has the usual one.
      objective: says what the model's logits mean.

    Returns:
      A pure function, to be jitted by the caller, of the model's variables, images float32 [b, size, size, 3],
      normalized, and classes int32 [b], one for each image. It gives float32 [b, h, w], 0 and above, in units of the
      logit: not scaled to a range, and all 0 where nothing on the map speaks for the class.

    Raises:
      ValueError: no such stage, or one without a map.
    """
    tree.choose(model.stages(), stage, what="stage")
    maps = _maps(model, model.default_size)
    if stage not in maps:
        raise ValueError(
            f"stage {stage!r} has no map [height, width, channels] to show on an image: choose one that has, such as "
            f"the last, {list(maps)[-1]!r}, of {', '.join(maps)}."
        )

    def grad_cam(variables: Any, x: jax.Array, classes: jax.Array) -> jax.Array:
        def logits_of(features: jax.Array) -> jax.Array:
            logits = model.apply(variables, features, train=False, start=stage)
            return jnp.take_along_axis(_scores(objective, logits), classes[:, None], axis=1)[:, 0]

        features = model.apply(variables, x, train=False, stop=stage)
        logits, pull_back = jax.vjp(logits_of, features)
        (gradient,) = pull_back(jnp.ones_like(logits))  # images do not mix at inference: each has its own
        weights = jnp.mean(jnp.asarray(gradient, logits.dtype), axis=(1, 2))
        return jax.nn.relu(jnp.einsum("bhwc,bc->bhw", features, weights, precision="highest"))

    return grad_cam


def default_stage(model: Chain, size: int) -> str:
    """The last stage before the head whose output is a map of more than one place.

    Args:
      model: the chain.
      size: side of the square images, in pixels.

    Raises:
      ValueError: the model does not take images of this size, or its stages have no such map.
    """
    for stage, (height, width) in reversed(_maps(model, size).items()):
        if height > 1 and width > 1:
            return stage
    raise ValueError(
        f"no stage of the model has a map of more than one place for images of {size} pixels: give larger ones; it was "
        f"designed for {model.default_size}."
    )


def overlay(image: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """Lays a map over its image: the higher, the brighter and the more opaque.

    The colors are matplotlib's 'inferno': perceptually uniform, and their lightness rises with the map, so that they
    keep their order in grayscale and for the color-blind; a rainbow's, such as 'turbo', does not.

    Args:
      image: uint8 [h, w, 3], RGB: the square that the model read, not the image that it was cut from.
      cam: float [a, b], finite, 0 and above; scaled so that its maximum is 1, and resized bilinearly to the image.

    Returns:
      uint8 [h, w, 3], RGB; a copy of the image where the map is all 0.

    Raises:
      ValueError: an image or a map of another kind.
    """
    from matplotlib import colormaps

    image, cam = np.asarray(image), np.asarray(cam, np.float32)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image is {image.dtype} {list(image.shape)}: give gray levels 0..255, uint8 [h, w, 3].")
    if cam.ndim != 2 or not (np.isfinite(cam) & (cam >= 0)).all():
        raise ValueError(
            f"the map is {list(cam.shape)} in {cam.min():.4g}..{cam.max():.4g}: give one image's [h, w], finite and "
            "not below 0; NaN comes from weights or images that are not finite."
        )
    if not cam.any():
        return image.copy()
    height, width = image.shape[:2]
    heat = np.asarray(Image.fromarray(cam / cam.max()).resize((width, height), Image.Resampling.BILINEAR))
    colors, alpha = 255 * colormaps["inferno"](heat)[..., :3], _STRONGEST * heat[..., None]
    return np.rint((1 - alpha) * image + alpha * colors).astype(np.uint8)


def _scores(objective: Objective, logits: jax.Array) -> jax.Array:
    """A logit for each class [b, classes]: of one sigmoid unit z, -z and z, the log-odds of either class."""
    if objective.kind == "binary":
        # Of the softmax over (0, z) that it also is, the first class's logit is constant and has no gradient.
        return jnp.concatenate([-logits, logits], axis=-1)
    return objective.class_logits(logits)


def _maps(model: Chain, size: int) -> dict[str, tuple[int, int]]:
    """Height and width of the output of each stage before the head that has them, in order."""
    costs = {name: stage for name, stage in stage_costs(model, size).items() if stage.after is None}
    return {name: stage.output[:2] for name, stage in costs.items() if len(stage.output) == 3}
