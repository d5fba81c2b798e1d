"""A trained model as StableHLO: one file that JAX alone runs, on CPU, GPU and TPU, for batches of any size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

from jft.data import transforms
from jft.data.transforms import Preprocess
from jft.metrics.losses import Objective
from jft.models import Chain

Predict = Callable[[jax.Array], jax.Array]

PLATFORMS = ("cpu", "cuda", "tpu")


def make_predict(
    model: Chain, variables: Any, spec: Preprocess, objective: Objective, fit: str, temperature: float = 1.0
) -> Predict:
    """The whole way from images to probabilities as one pure function, which holds its parameters.

    Args:
      model: the chain.
      variables: `{'params', 'batch_stats'}`; copied to the host.
      spec: preprocessing.
      objective: says what the logits mean.
      fit: see `transforms.to_model_input`.
      temperature: what logits are divided by (Guo et al., 2017), above 0; 1 leaves them.

    Returns:
      uint8 [batch, side, side, 3], RGB -> float32 [batch, classes]. `transforms.stored_size(spec, fit)` is the side
      that images have once the host decoded, resized and squared them.

    Raises:
      ValueError: no such fit, or a temperature that is none.
    """
    transforms.check_fit(fit)
    if not (np.isfinite(temperature) and temperature > 0):
        raise ValueError(f"the temperature is {temperature}; it must be finite and above 0.")
    # Whatever mesh it was trained on: what is exported runs on one device.
    held = jax.tree.map(np.asarray, variables)

    def predict(images: jax.Array) -> jax.Array:
        logits = model.apply(held, transforms.to_model_input(images, spec, fit=fit), train=False)
        return objective.probabilities(logits / temperature)

    return predict


def serialize(predict: Predict, side: int) -> bytes:
    """Lowers a function for every platform and any batch size, its parameters as constants.

    JAX promises that a later JAX, up to 6 months newer than the one that wrote it, runs the file, and one up to 3 weeks
    older; what counts is when their jaxlib was built (https://docs.jax.dev/en/latest/export/export.html).

    Args:
      predict: from `make_predict`.
      side: of the images, in pixels. It is fixed: the weights that resize an image are made when it is lowered.

    Returns:
      What `jax.export.deserialize` reads; its `call` takes uint8 [batch, side, side, 3], batch of 1 or more.

    Raises:
      ValueError: the model does not take images of this side.
    """
    shape = export.symbolic_shape(f"batch, {side}, {side}, 3")
    exported = export.export(jax.jit(predict), platforms=PLATFORMS)(jax.ShapeDtypeStruct(shape, np.uint8))
    return bytes(exported.serialize())


def read(path: str | Path) -> Predict:
    """Opens what `serialize` gave.

    Args:
      path: the file.

    Returns:
      The function, compiled once for each batch size: uint8 [batch, side, side, 3] -> float32 [batch, classes]. It
      raises a ValueError for images of another type or side.

    Raises:
      OSError: there is no such file.
      ValueError: it is damaged or something else, or this JAX is too old or too new for it.
    """
    held = Path(path).read_bytes()
    try:
        exported = export.deserialize(bytearray(held))
    except Exception as error:  # whatever the reader of flat buffers trips over
        raise ValueError(f"{path} is no function that JAX {jax.__version__} reads ({error}): export anew.") from error
    return jax.jit(exported.call)
