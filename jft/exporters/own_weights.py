"""Weights under jft's names, which `jft.load` opens: parameters, preprocessing and class names."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jft.evaluation import open_model
from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.evaluation.load import load
from jft.exporters.format import CHECK_BATCH, Content, Format, code_block


def _write(content: Content, path: Path) -> str:
    open_model.write_own(content.weights, path)
    return ""


def _read(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    return load(path, batch_size=CHECK_BATCH).predict


def _usage(info: CheckpointInfo, metrics: Mapping[str, Any]) -> list[str]:
    temperature = f", {metrics['temperature']:.6g}" if metrics["temperature"] else ""
    return code_block(
        *("import jft", ""),
        'model = jft.load("weights.safetensors")',
        f"probabilities = model.probabilities(model.logits(images){temperature})",
    )


FORMAT = Format("weights.safetensors", _usage, False, _write, _read)
