"""Weights under torchvision's names, for architectures that torchvision has."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jft.data import transforms
from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.evaluation.load import from_weights
from jft.evaluation.open_model import open_source
from jft.exporters import own_weights, state_dict
from jft.exporters.format import CHECK_BATCH, Content, Format, code_block
from jft.exporters.layouts import FORMATS
from jft.metrics.losses import Objective
from jft.models import create_model


def _write(content: Content, path: Path) -> str:
    try:
        state_dict.find_published(content.weights, "torchvision")
    except ValueError as error:
        return str(error)
    state_dict.write(content.weights, path)
    return ""


def _read(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Reads it like any torchvision file; preprocessing and class names come from weights.safetensors beside it."""
    own = open_source(str(path.with_name(own_weights.FORMAT.name)))
    opened = open_source(str(path), model=own.model)
    how = {name: getattr(own, name) for name in ("spec", "fit", "class_names", "objective")}
    return from_weights(dataclasses.replace(opened, **how), path.name, batch_size=CHECK_BATCH).predict


def _usage(info: CheckpointInfo, metrics: Mapping[str, Any]) -> list[str]:
    spec = info.preprocess
    outputs = Objective(info.objective, len(info.class_names)).num_outputs
    model = create_model(info.model, **{**info.options, "num_classes": outputs})
    load = FORMATS["torchvision"].how_to_load(info.model, model, spec.size, Path("weights_torchvision.safetensors"))
    side = transforms.stored_size(spec, info.fit)
    first = transforms.crop_offset(side, spec.size)
    cut = f"[:, {first}:{first + spec.size}, {first}:{first + spec.size}]" if side != spec.size else ""
    order = ".flip(-1)" if spec.channels == "BGR" else ""
    divided = f" / {metrics['temperature']:.6g}" if metrics["temperature"] else ""
    ends = {"softmax": "logits.softmax(-1)", "multilabel": "logits.sigmoid()"}
    sigmoid = "torch.cat([(-logits).sigmoid(), logits.sigmoid()], -1)"
    return code_block(
        *("import safetensors.torch", "import torch", "import torchvision", ""),
        *load.split("; "),
        f"images = torch.from_numpy(images){cut}{order} * {spec.scale!r}",
        f"images = (images - torch.tensor({list(spec.mean)})) / torch.tensor({list(spec.std)})",
        f"logits = model.eval()(images.permute(0, 3, 1, 2)){divided}",
        f"probabilities = {ends.get(info.objective, sigmoid)}",
    )


FORMAT = Format("weights_torchvision.safetensors", _usage, False, _write, _read)
