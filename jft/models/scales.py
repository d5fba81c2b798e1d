"""Learned factors of channels: layer scale, and the global response normalization of ConvNeXt V2."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class LayerScale(nn.Module):
    """A factor for each channel of a residual branch (Touvron et al., 2021, https://arxiv.org/abs/2103.17239).

    Its parameter `gamma`, [channels], has one axis, so that weight decay leaves it alone as it does biases.

    Attributes:
      initial: value of the factors before training.
    """

    initial: float = 1e-6

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, ..., channels] -> the same shape."""
        gamma = self.param("gamma", nn.initializers.constant(self.initial), (x.shape[-1],), jnp.float32)
        return x * gamma.astype(x.dtype)


class GlobalResponseNorm(nn.Module):
    """Lets channels compete (Woo et al., 2023, https://arxiv.org/abs/2301.00808, algorithm 1).

    y = x + scale * x * n + bias, where n is a channel's L2 norm over the map, divided by the mean of those of all
    channels. At first scale and bias are 0, and y is x.

    Attributes:
      epsilon: added to the mean.
    """

    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, h, w, c] -> the same shape; norms are computed in float32 at least."""
        scale = self.param("scale", nn.initializers.zeros, (x.shape[-1],), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],), jnp.float32)
        wide = jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32))
        squares = jnp.sum(wide**2, axis=(1, 2), keepdims=True)
        # The norm of a channel that is 0 everywhere has no gradient at 0; the smallest normal number gives it one of 0.
        norms = jnp.sqrt(jnp.maximum(squares, jnp.finfo(wide.dtype).tiny))
        relative = norms / (jnp.mean(norms, axis=-1, keepdims=True) + self.epsilon)
        return x + (scale * wide * relative + bias).astype(x.dtype)
