"""model.onnx of an export: the file, how ONNX Runtime runs it, and what the model card says of it."""

import dataclasses
import importlib
import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np

from jft.data import transforms
from jft.data.transforms import Preprocess
from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.evaluation.predictor import Predictor
from jft.exporters import stablehlo
from jft.exporters.format import Content, Format, Predict, code_block
from jft.exporters.onnx import model
from jft.exporters.onnx.simplify import simplified
from jft.exporters.onnx.trace import trace
from jft.exporters.onnx.translate import translate
from jft.utils.files import written_whole

_INPUT, _OUTPUT = "images", "probabilities"
_PACKAGES = ("onnx", "onnxruntime")


def write(
    function: Callable[[jax.Array], jax.Array],
    path: str | Path,
    shape: Sequence[int],
    dtype: Any = np.uint8,
    *,
    root: str = "",
    facts: Mapping[str, str] | None = None,
    result: str = _OUTPUT,
) -> None:
    """Writes a function of images, with all that it holds, for any batch size; `onnx` checks the file.

    Args:
      function: [batch, *shape] -> float32 [batch, classes], pure.
      path: the file; replaced if it exists.
      shape: of one image: [side, side, 3].
      dtype: of the images.
      root: name of the Flax module that the function applies, which names of nodes leave out.
      facts: the file's metadata.
      result: name of the output.

    Raises:
      ValueError: `onnx` is not installed, or a primitive of the function has no translation; names it and its stage.
    """
    onnx, checker = _optional("onnx"), _optional("onnx.checker")
    output = simplified(translate(trace(function, (*shape,), dtype), _INPUT, root))
    made = model.make(onnx, output, result, facts or {})
    with written_whole(path) as aside:
        onnx.save_model(made, aside)
        checker.check_model(str(aside), full_check=True)


def read(path: str | Path) -> Callable[[Any], np.ndarray]:
    """Opens a file of an export with ONNX Runtime, on the CPU.

    Args:
      path: the file.

    Returns:
      uint8 [batch, side, side, 3] -> float32 [batch, classes]. Where the file reads normalized images, the
      preprocessing that its metadata name comes before.

    Raises:
      ValueError: ONNX Runtime is not installed, or cannot read the file.
    """
    session = _opened(path)
    if session.get_inputs()[0].type == "tensor(uint8)":
        return lambda images: _run(session, images)
    held = session.get_modelmeta().custom_metadata_map
    spec, fit = Preprocess.from_dict(json.loads(held["preprocess"])), json.loads(held["fit"])

    def predict(images: Any) -> np.ndarray:
        return _run(session, np.asarray(transforms.to_model_input(images, spec, fit=fit)).transpose(0, 3, 1, 2))

    return predict


def read_as_given(path: str | Path, threads: int = 0) -> Callable[[Any], np.ndarray]:
    """As `read`, of a file of `write`: the function takes what the written one took. 0 threads: one for each core."""
    session = _opened(path, threads)
    return lambda images: _run(session, images)


def _opened(path: str | Path, threads: int = 0) -> Any:
    onnxruntime = _optional("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ValueError(f"ONNX Runtime {onnxruntime.__version__} cannot read {path} ({error}).") from error


def _run(session: Any, images: Any) -> np.ndarray:
    return session.run(None, {_INPUT: np.ascontiguousarray(images)})[0]


def _optional(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"ONNX needs {name} ({error}): pip install 'jft[onnx]'.") from error


def missing() -> str:
    """Why ONNX files can be neither written nor compared on this machine; '' if they can."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    return f"{' and '.join(missing)} not installed: pip install 'jft[onnx]'" if missing else ""


def _write(content: Content, path: Path) -> str:
    side = content.predictor.side
    return missing() or _written(content.predict, path, (side, side, 3), np.uint8, content.predictor)


def _write_normalized(content: Content, path: Path) -> str:
    held = content.predictor
    of = held.model, held.variables, held.spec, held.objective, held.fit, held.temperature
    shape = len(held.spec.channels), held.spec.size, held.spec.size
    function = stablehlo.make_predict(*of, normalized=True)
    return missing() or _written(function, path, shape, np.float32, held)


def _written(function: Predict, path: Path, shape: Sequence[int], dtype: Any, predictor: Predictor) -> str:
    facts = {
        "preprocess": json.dumps(predictor.spec.to_dict()),
        "fit": json.dumps(predictor.fit),
        "class_names": json.dumps(predictor.class_names),
    }
    try:
        write(function, path, shape, dtype, root=type(predictor.model).__name__, facts=facts)
    except ValueError as error:
        return str(error)
    return ""


def _usage(info: CheckpointInfo, metrics: Mapping[str, Any]) -> list[str]:
    return code_block(
        *("import onnxruntime", ""),
        'session = onnxruntime.InferenceSession("model.onnx")',
        f'(probabilities,) = session.run(["{_OUTPUT}"], {{"{_INPUT}": images}})',
    )


def _usage_normalized(info: CheckpointInfo, metrics: Mapping[str, Any]) -> list[str]:
    spec = info.preprocess
    side = transforms.stored_size(spec, info.fit)
    first = transforms.crop_offset(side, spec.size)
    cut = f"[:, {first}:{first + spec.size}, {first}:{first + spec.size}]" if side != spec.size else ""
    # Gray levels are rounded nowhere: the weights of ITU-R 601.
    order = {"BGR": "[..., ::-1]", "L": " @ np.float32([[0.299], [0.587], [0.114]])"}.get(spec.channels, "")
    return [
        f"Reads normalized images, float32 [batch, {len(spec.channels)}, {spec.size}, {spec.size}].",
        "",
        *code_block(
            *("import numpy as np", "import onnxruntime", ""),
            f"images = (images{cut}{order} * np.float32({spec.scale!r}) - np.float32({list(spec.mean)}))",
            f"images = (images / np.float32({list(spec.std)})).transpose(0, 3, 1, 2)",
            'session = onnxruntime.InferenceSession("model.onnx")',
            f'(probabilities,) = session.run(["{_OUTPUT}"], {{"{_INPUT}": images}})',
        ),
    ]


FORMAT = Format("model.onnx", _usage, True, _write, read)
# What other tools expect, whose users normalize images themselves.
NORMALIZED = dataclasses.replace(FORMAT, write=_write_normalized, usage=_usage_normalized, normalized=True)
