"""The type of an array that may be on the host or on devices."""

import jax
import numpy as np

Array = jax.Array | np.ndarray
