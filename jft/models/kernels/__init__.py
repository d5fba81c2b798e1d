"""Operations whose gradient is written by hand, as XLA's own is slow on CPU.

BatchNorm, convolutions that are 1x1, depthwise or grouped, residual sum, dense product, bias, GELU and max pool.

Each gives XLA's values and gradients up to rounding. What pays on CPU alone is lowered for CPUs alone; on a GPU XLA's
own BatchNorm is as fast, and its compiler of jax 0.11.2 fails with the 1x1 convolutions of a ResNet-50 as products.
"""

from jft.models.kernels.batch_norm import batch_norm
from jft.models.kernels.bias import add_bias
from jft.models.kernels.dense import conv_1x1, dense
from jft.models.kernels.depthwise import depthwise
from jft.models.kernels.gelu import gelu
from jft.models.kernels.grouped import grouped
from jft.models.kernels.max_pool import max_pool
from jft.models.kernels.residual import residual

__all__ = ["add_bias", "batch_norm", "conv_1x1", "dense", "depthwise", "gelu", "grouped", "max_pool", "residual"]
