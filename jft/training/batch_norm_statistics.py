"""BatchNorm's statistics re-estimated over images, for weights that were not trained with the statistics they have.

Averages of networks have no statistics of their own. What is estimated are those of PreciseBN (Wu & Johnson, 2021,
https://arxiv.org/abs/2105.07576, section 3 and appendix): the network normalizes by each batch's own statistics, as in
training, and each BatchNorm gets mean and variance of all inputs that it has seen. That is torch's `update_bn` with
`momentum=None`, but for two things: every image weighs the same, whatever its batch, and the variance is that of all
inputs together instead of the average within batches, so that small batches do not bias it.
"""

import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jft.data import loader
from jft.data.augment import make_eval_transform
from jft.data.feeds.choose import open_feed
from jft.data.feeds.images import Images, Reading
from jft.models import Chain
from jft.models.layers import BatchNorm
from jft.training.run import Run
from jft.utils import tree, waiting


def _itself(images: jax.Array) -> jax.Array:
    return images


def re_estimate(
    model: Chain,
    variables: Mapping[str, Any],
    batches: Iterable[Mapping[str, jax.Array]],
    *,
    transform: Callable[[jax.Array], jax.Array] = _itself,
    norms: Collection[str] | None = None,
) -> dict[str, Any]:
    """The running statistics of a network over all images of some batches.

    Everything but the BatchNorms runs as in evaluation, so nothing is dropped and nothing is random. The statistics of
    the first BatchNorm do not depend on how images are grouped; those of later ones do a little, as in training.

    Args:
      model: the chain of stages.
      variables: `{'params', 'batch_stats'}` on the devices.
      batches: `{'image': [batch, h, w, c], 'mask': bool [batch]}`, from `Parallel.place_batch`; images whose mask is
        False count nowhere. Batches of one shape compile once.
      transform: makes normalized images, float32, of those of a batch; runs on the device.
      norms: the BatchNorms to estimate, such as 'layer1/block0/bn1'; None: all that run in evaluation. The others
        normalize by the statistics they have, and keep them.

    Returns:
      `batch_stats` as in `variables`, float32, on the host: exact means and biased variances, added up in float64.

    Raises:
      ValueError: no batch has an image.
    """
    wanted = None if norms is None else frozenset(norms)
    step = jax.jit(functools.partial(_moments, model, transform, wanted))
    count, means, squares = 0, {}, {}
    for batch in batches:
        images, found = jax.device_get(step(variables, batch))
        count += int(images)
        for name, (mean, variance) in found.items():
            mean, variance = np.asarray(mean, np.float64), np.asarray(variance, np.float64)
            means[name] = means.get(name, 0) + images * mean
            squares[name] = squares.get(name, 0) + images * (variance + mean**2)
    if not count:
        raise ValueError("BatchNorm's statistics are estimated over images, and there are none.")
    estimated = {}
    for name in means:
        mean, square = means[name] / count, squares[name] / count
        estimated |= {f"{name}/mean": mean, f"{name}/var": np.maximum(square - mean**2, 0)}
    old = tree.flatten(variables["batch_stats"])
    return tree.unflatten({name: np.asarray(estimated.get(name, leaf), np.float32) for name, leaf in old.items()})


def _moments(
    model: Chain,
    transform: Callable[[jax.Array], jax.Array],
    norms: frozenset[str] | None,
    variables: Mapping[str, Any],
    batch: Mapping[str, jax.Array],
) -> tuple[jax.Array, dict[str, tuple[jax.Array, jax.Array]]]:
    """The number of images of a batch, and mean and variance of the inputs of each BatchNorm, float32 [channels]."""
    images, mask = batch["image"], batch["mask"].reshape(-1)  # under pmap the devices are an axis of their own
    found: dict[str, tuple[jax.Array, jax.Array]] = {}

    def intercept(call: Any, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        path = "/".join(context.module.path)
        if isinstance(context.module, BatchNorm) and "train" in kwargs and (norms is None or path in norms):
            found[path] = _mean_and_variance(args[0], mask)
            # In inference mode it normalizes by whatever is there: the batch's own.
            for kind, value in zip(("mean", "var"), found[path], strict=True):
                context.module.put_variable("batch_stats", kind, value)
        return call(*args, **kwargs)

    with nn.intercept_methods(intercept):
        whole = images.reshape(-1, *images.shape[-3:])
        model.apply(variables, transform(whole), train=False, mutable=["batch_stats"])
    return jnp.sum(mask), found


def _mean_and_variance(x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Over all values of a channel of the images that count; [batch, ..., channels] -> float32 [channels] each."""
    wide, axes = x.astype(jnp.float32), tuple(range(x.ndim - 1))
    weights = jnp.broadcast_to(mask.reshape(-1, *(1,) * (x.ndim - 1)), (*x.shape[:-1], 1)).astype(jnp.float32)
    weights /= jnp.maximum(jnp.sum(weights), 1)
    mean = jnp.sum(weights * wide, axes)
    return mean, jnp.sum(weights * jnp.square(wide - mean), axes)


@waiting.during("estimating BatchNorm's statistics")
def over_training_images(run: Run, variables: Any, *, norms: Collection[str] | None = None) -> Any:
    """`re_estimate` over the training images of a run as evaluation reads them; placed on the devices.

    Args:
      run: says which images, and how they are read.
      variables: `{'params', 'batch_stats'}` on the devices.
      norms: see `re_estimate`.

    Returns:
      `batch_stats`; those of `variables` where the network has no BatchNorm.
    """
    config, source = run.config, run.train_source
    if not variables["batch_stats"]:
        return variables["batch_stats"]
    reading = Reading(run.spec, config.fit, config.resize_on, config.cache_bytes, config.input)
    feed = open_feed(Images(source, reading), run.parallel)
    rows = loader.eval_rows(source, batch_size=config.eval_batch_size, shard=run.parallel.shard)
    batches = feed.batches(rows, loader.eval_steps(source, config.eval_batch_size))
    transform = make_eval_transform(run.spec, fit=config.fit)
    placed = ({name: leaf for name, leaf in feed.place(batch).items() if name != "label"} for batch in batches)
    return run.parallel.place_state(re_estimate(run.model, variables, placed, transform=transform, norms=norms))
