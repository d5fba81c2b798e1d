"""What heads read of a stage's output."""

import jax
import jax.numpy as jnp


def pooled(x: jax.Array, pool: str, prefix: int) -> jax.Array:
    """A vector for each image.

    Args:
      x: a map [batch, h, w, channels], tokens [batch, tokens, channels], or vectors already, which stay.
      pool: of tokens: 'token', the first; 'average', the mean of the patches; 'both', concatenated. A map is averaged.
      prefix: tokens before those of the patches.

    Returns:
      [batch, channels], or [batch, 2 * channels] of both.
    """
    if x.ndim == 4:
        return jnp.mean(x, axis=(1, 2))
    if x.ndim == 2 or pool == "token":
        return x if x.ndim == 2 else x[:, 0]
    average = jnp.mean(x[:, prefix:], axis=1)
    return average if pool == "average" else jnp.concatenate([x[:, 0], average], axis=-1)
