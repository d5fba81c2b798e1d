"""The feature step: preprocessing and the frozen stages as one pure function."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jft.data import augment, transforms
from jft.data.augment import Augmentation
from jft.data.transforms import Preprocess
from jft.models import Chain

Batch = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which features of an image to compute, and how to read the image.

    Attributes:
      boundary: the last stage to run.
      pooled: whether to pool feature maps and tokens to the vector that a head reads, see `Chain.pooled`.
      fit: 'crop' or 'whole', see `transforms.to_model_input`.
      resize_on: 'device' or 'host'; the host rounds the resized image to whole gray levels.
      augmentation: compute features of all its variants of the image; None: of the image as in evaluation.
      earlier: stages before the boundary, in order, whose pooled outputs stand before the boundary's in one vector;
        one forward pass gives all. The boundary's output is then pooled as well.
    """

    boundary: str
    pooled: bool
    fit: str
    resize_on: str = "device"
    augmentation: Augmentation | None = None
    earlier: tuple[str, ...] = ()

    @property
    def variants(self) -> int:
        """Number of variants of each image."""
        return self.augmentation.num_variants(self.fit) if self.augmentation else 1


def make_feature_step(
    model: Chain, spec: Preprocess, wanted: Wanted, *, dtype: str = "float32", axis_name: str | None = None
) -> Callable[[Mapping[str, Any], Batch], jax.Array]:
    """Makes `(variables, batch) -> features` of one variant of each image.

    Args:
      model: the model.
      spec: preprocessing of the weights.
      wanted: which features.
      dtype: dtype of the features.
      axis_name: under `jax.pmap`, the axis over which the features are gathered.

    Returns:
      A pure function of batches `{'image': uint8 [batch, h, w, 3], 'number': int32 [batch]}`. 'number' is the number of
      the variant and is used only if there are several. The features are [batch, ...], of the whole batch on every
      device.
    """

    def step(variables: Mapping[str, Any], batch: Batch) -> jax.Array:
        if wanted.variants > 1:
            how = {"fit": wanted.fit, "augmentation": wanted.augmentation}
            x = augment.variant(batch["image"], batch["number"], spec, **how)
        else:
            x = transforms.to_model_input(batch["image"], spec, fit=wanted.fit)
        outputs, start = [], None
        for stage in (*wanted.earlier, wanted.boundary):
            x = model.apply(variables, x, train=False, start=start, stop=stage)
            outputs.append(model.pooled(x) if wanted.pooled or wanted.earlier else x)
            start = stage
        x = jnp.concatenate(outputs, -1) if wanted.earlier else outputs[0]
        x = x.astype(dtype)
        return x if axis_name is None else jax.lax.all_gather(x, axis_name, tiled=True)

    return step
