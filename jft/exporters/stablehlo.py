"""StableHLO export of a trained model: one file that needs only JAX, on CPU, GPU and TPU, for any batch size."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

from jft.data import transforms
from jft.data.transforms import Preprocess
from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.exporters.format import Content, Format, Predict, code_block
from jft.metrics.losses import Objective
from jft.models import Chain

PLATFORMS = ("cpu", "cuda", "tpu")


def make_predict(
    model: Chain,
    variables: Any,
    spec: Preprocess,
    objective: Objective,
    fit: str,
    temperature: float = 1.0,
    *,
    normalized: bool = False,
) -> Predict:
    """Makes one pure function from images to probabilities that contains preprocessing and parameters.

    Args:
      model: the chain of stages.
      variables: `{'params', 'batch_stats'}`; copied to the host.
      spec: preprocessing.
      objective: converts logits to probabilities.
      fit: see `transforms.to_model_input`.
      temperature: divisor of the logits (Guo et al., 2017), above 0; 1 changes nothing.
      normalized: leave the preprocessing out: images are float32 [batch, channels, size, size].

    Returns:
      uint8 [batch, side, side, 3], RGB -> float32 [batch, classes]. The side is `transforms.stored_size(spec, fit)`, to
      which the host resizes images.

    Raises:
      ValueError: `fit` is unknown, or the temperature is not finite and above 0.
    """
    transforms.check_fit(fit)
    if not (np.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature = {temperature}: it must be finite and above 0.")
    # Host arrays, because the exported function runs on one device, whatever mesh the run used.
    held = jax.tree.map(np.asarray, variables)

    def predict(images: jax.Array) -> jax.Array:
        with jax.named_scope("preprocess"):
            x = images.transpose(0, 2, 3, 1) if normalized else transforms.to_model_input(images, spec, fit=fit)
        logits = model.apply(held, x, train=False)
        with jax.named_scope("probabilities"):
            return objective.probabilities(logits / temperature)

    return predict


def serialize(predict: Predict, side: int) -> bytes:
    """Lowers a function for every platform and any batch size, its parameters as constants.

    JAX guarantees that versions up to 6 months newer and 3 weeks older than the one that wrote the file can run it, by
    the build dates of their jaxlib (https://docs.jax.dev/en/latest/export/export.html).

    Args:
      predict: from `make_predict`.
      side: side of the square images, in pixels. It is fixed, because lowering computes the resize weights.

    Returns:
      Bytes for `jax.export.deserialize`; its `call` takes uint8 [batch, side, side, 3] with any batch from 1.

    Raises:
      ValueError: the model does not accept images of this side.
    """
    shape = export.symbolic_shape(f"batch, {side}, {side}, 3")
    exported = export.export(jax.jit(predict), platforms=PLATFORMS)(jax.ShapeDtypeStruct(shape, np.uint8))
    return bytes(exported.serialize())


def read(path: str | Path) -> Predict:
    """Opens a file with the bytes of `serialize`.

    Args:
      path: the file.

    Returns:
      The function, compiled once per batch size: uint8 [batch, side, side, 3] -> float32 [batch, classes]. It raises a
      ValueError for images of another dtype or side.

    Raises:
      OSError: there is no such file.
      ValueError: the file is damaged or of another format, or this JAX is too old or too new for it.
    """
    held = Path(path).read_bytes()
    try:
        exported = export.deserialize(bytearray(held))
    except Exception as error:  # the flatbuffers reader raises errors of many types
        raise ValueError(
            f"{path} is not a StableHLO export that JAX {jax.__version__} can read ({error}): export the run again."
        ) from error
    return jax.jit(exported.call)


def _write(content: Content, path: Path) -> str:
    path.write_bytes(serialize(content.predict, content.predictor.side))
    return ""


def _usage(info: CheckpointInfo, metrics: Mapping[str, Any]) -> list[str]:
    return [
        "Runs on CPU, CUDA and TPU with any batch size, without jft: `pip install jax flatbuffers pillow`. Written "
        f"with JAX {jax.__version__}; JAX guarantees that versions up to 6 months newer can run it.",
        "",
        *code_block(
            *("from pathlib import Path", "", "import jax", "from jax import export", ""),
            'model = export.deserialize(bytearray(Path("model.stablehlo").read_bytes()))',
            "probabilities = jax.jit(model.call)(images)",
        ),
    ]


FORMAT = Format("model.stablehlo", _usage, True, _write, read)
