"""Sums over batch and space, which XLA:CPU computes one number at a time."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

_FOLD = 8  # places that are added at a time


def sums(term: Callable[..., jax.Array], *maps: jax.Array) -> jax.Array:
    """Sums of `term(*maps)` over all axes but the last: [batch, ..., channels] -> [channels].

    XLA:CPU reduces the leading axes of a map one number at a time. Here eighths of each image's places are added to one
    another until few are left, which vectorizes over channels, reads the maps once, never writes the terms, and keeps
    digits, since no sum is long. The few are summed by a product with ones.

    Args:
      term: a function of numbers, or of places [batch, places, channels] and values by channel.
      *maps: [batch, ..., channels], float32 or wider.
    """

    def folded(*maps: jax.Array) -> jax.Array:
        batch, channels = maps[0].shape[0], maps[0].shape[-1]  # the batch may be spread over devices: it is not folded
        parts, rest = [x.reshape(batch, -1, channels) for x in maps], []
        take = term
        while (part := parts[0].shape[1] // _FOLD) > 1:
            # Places are cut out before the term is computed: XLA would otherwise write it down as a map of its own.
            cut = [[x[:, n * part : (n + 1) * part] for x in parts] for n in range(_FOLD)]
            rest.append(take(*(x[:, _FOLD * part :] for x in parts)))
            parts = [functools.reduce(jnp.add, (take(*slices) for slices in cut))]
            take = itself
        few = jnp.concatenate([take(*parts), *rest], 1).reshape(-1, channels)
        return jnp.dot(jnp.ones(len(few), few.dtype), few, precision="highest")

    def plain(*maps: jax.Array) -> jax.Array:
        return jnp.sum(term(*maps), tuple(range(maps[0].ndim - 1)))

    return lax.platform_dependent(*maps, cpu=folded, default=plain)


def itself(x: jax.Array) -> jax.Array:
    """The term of a plain sum."""
    return x
