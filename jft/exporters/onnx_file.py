"""ONNX export of a trained model with jax2onnx, which `pip install 'jft[onnx]'` installs."""

import contextlib
import importlib
import importlib.util
import io
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
from jax import lax

from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.exporters.format import Content, Format, Predict, code_block
from jft.utils.files import written_whole

_OPSET = 21
_INPUT, _OUTPUT = "images", "probabilities"


def write(predict: Predict, path: str | Path, side: int) -> None:
    """Writes a function from images to probabilities, with its parameters and preprocessing, for any batch size.

    Args:
      predict: from `stablehlo.make_predict`.
      path: the file; replaced if it exists.
      side: side of the square images, in pixels.

    Raises:
      ValueError: the converter is not installed, or does not support an operation of the model.
    """
    jax2onnx, onnx = _optional("jax2onnx"), _optional("onnx")
    # jax2onnx logs every layer, and every library that it could not import.
    logging.getLogger("jax2onnx").setLevel(logging.CRITICAL)
    images = jax.ShapeDtypeStruct(("batch", side, side, 3), np.uint8)
    try:
        with contextlib.redirect_stdout(io.StringIO()), _for_any_platform():
            model = jax2onnx.to_onnx(
                predict, [images], model_name="jft", opset=_OPSET, input_names=[_INPUT], output_names=[_OUTPUT]
            )
    except Exception as error:  # jax2onnx has no error type of its own
        why = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"  # JAX's messages have many lines
        raise ValueError(f"jax2onnx cannot convert this model ({why}).") from error
    _pool_pixels(model.graph, onnx.helper)
    with written_whole(path) as aside:
        onnx.save_model(model, aside)


@contextlib.contextmanager
def _for_any_platform() -> Iterator[None]:
    """Kernels compute as elsewhere than on CPU: jax2onnx does not know a choice by platform."""
    choose = lax.platform_dependent
    lax.platform_dependent = lambda *args, default, **_: default(*args)
    try:
        yield
    finally:
        lax.platform_dependent = choose


def read(path: str | Path) -> Predict:
    """Opens a file of `write` with ONNX Runtime, on the CPU.

    Args:
      path: the file.

    Returns:
      uint8 [batch, side, side, 3] -> float32 [batch, classes].

    Raises:
      ValueError: ONNX Runtime is not installed, or cannot read the file.
    """
    onnxruntime = _optional("onnxruntime")
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ValueError(f"ONNX Runtime {onnxruntime.__version__} cannot read {path} ({error}).") from error
    return lambda images: session.run([_OUTPUT], {_INPUT: np.asarray(images)})[0]


def _pool_pixels(graph: Any, helper: Any) -> None:
    """Makes max pools 2-D: jax2onnx writes them with four spatial axes, and ONNX Runtime supports at most three."""
    made = {name: node for node in graph.node for name in node.output}
    readers = {name: node for node in graph.node for name in node.input}
    pools = [node for node in graph.node if node.op_type == "MaxPool"]
    for pool in [node for node in pools if len(helper.get_node_attr_value(node, "kernel_shape")) == 4]:
        second, squeeze = made[pool.input[0]], readers[pool.output[0]]
        first = made[second.input[0]]
        for attribute in pool.attribute:  # one number per axis; for pads: before, then after
            # A negative pad only crops pixels that no window reaches, so 0 is equivalent.
            attribute.ints[:] = [max(n, 0) for i, n in enumerate(attribute.ints) if i % 4 in (1, 2)]
        second.CopyFrom(helper.make_node("Transpose", [first.input[0]], second.output, perm=(0, 3, 1, 2)))
        squeeze.CopyFrom(helper.make_node("Transpose", [pool.output[0]], squeeze.output, perm=(0, 2, 3, 1)))
        graph.node.remove(first)
    used = {name for node in graph.node for name in node.input}
    for constant in [constant for constant in graph.initializer if constant.name not in used]:
        graph.initializer.remove(constant)
    # Removes intermediate shapes, which a reader infers. jax2onnx records those of residual sums in the wrong layout,
    # and ONNX Runtime would refuse the file.
    del graph.value_info[:]


def _optional(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"ONNX needs {name} ({error}): pip install 'jft[onnx]'.") from error


def _write(content: Content, path: Path) -> str:
    if missing := [name for name in ("jax2onnx", "onnxruntime") if importlib.util.find_spec(name) is None]:
        return f"{' and '.join(missing)} not installed: pip install 'jft[onnx]'"
    try:
        write(content.predict, path, content.predictor.side)
    except ValueError as error:
        return str(error)
    return ""


def _usage(info: CheckpointInfo, metrics: Mapping[str, Any]) -> list[str]:
    return code_block(
        *("import onnxruntime", ""),
        'session = onnxruntime.InferenceSession("model.onnx")',
        f'(probabilities,) = session.run(["{_OUTPUT}"], {{"{_INPUT}": images}})',
    )


FORMAT = Format("model.onnx", _write, read, _usage, complete=True)
