"""What the writer reads: the primitives of a function, for a batch of any size."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax import export, lax


def trace(function: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """The jaxpr of a function of one array whose first axis is of any length.

    Args:
      function: of an array [batch, *shape], to an array.
      shape: of one element of the batch.
      dtype: of the array.

    Returns:
      A `jax.extend.core.ClosedJaxpr`.
    """
    (batch,) = export.symbolic_shape("batch")
    with _for_no_platform():
        return jax.make_jaxpr(function)(jax.ShapeDtypeStruct((batch, *shape), np.dtype(dtype)))


@contextlib.contextmanager
def _for_no_platform() -> Iterator[None]:
    """Kernels are traced as they are on no platform of their own: those of CPUs take long and are not wanted."""
    choose = lax.platform_dependent

    def chosen(*args: Any, default: Any = None, **others: Any) -> Any:
        return choose(*args, **others) if default is None else default(*args)

    lax.platform_dependent = chosen
    try:
        yield
    finally:
        lax.platform_dependent = choose
