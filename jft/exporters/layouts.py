"""Weight files of torchvision, timm and Keras: allowed file names, how to write them, and how to load them."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy

from jft.exporters import keras_h5
from jft.models import Chain
from jft.models.vit import ViT
from jft.weights.rules import Rule

Tensors = Mapping[str, np.ndarray]

# Models that are written in Keras' layout: its own names of them.
KERAS_NAMES = {
    "vgg16": "VGG16",
    "vgg19": "VGG19",
    "inception_v3": "InceptionV3",
    "resnet50": "ResNet50",
    "resnet101": "ResNet101",
    "resnet152": "ResNet152",
    **{f"convnext_{size}": f"ConvNeXt{size.title()}" for size in ("tiny", "small", "base", "large")},
    **{f"densenet{depth}": f"DenseNet{depth}" for depth in (121, 169, 201)},
}

_TORCHVISION_NAMES = {f"vit_base_patch{patch}": f"vit_b_{patch}" for patch in (16, 32)}


@dataclasses.dataclass(frozen=True)
class Layout:
    """A file format.

    Attributes:
      check_name: raises a ValueError for a file name that the framework would not load.
      write: (path, model, rules, tensors from `rules.sources_of`, notes) -> names of the tensors written.
      how_to_load: (the framework's name of the model, model, side in pixels, path) -> a line of Python; ValueError if
        the framework's model does not read images of this side.
      exact: whether every leaf must be bit-identical when read again.
    """

    check_name: Callable[[Path], None]
    write: Callable[[Path, Chain, list[Rule], Tensors, Mapping[str, str]], list[str]]
    how_to_load: Callable[[str, Chain, int, Path], str]
    exact: bool


def _check_torch_name(path: Path) -> None:
    if path.suffix != ".safetensors":
        raise ValueError(f"{path} must end in .safetensors, the format of a torch state dict here: rename it.")


def _write_torch(path: Path, model: Chain, rules: list[Rule], tensors: Tensors, notes: Mapping[str, str]) -> list[str]:
    del model, rules
    means = [name for name in tensors if name.endswith(".running_mean")]
    counts = {name.replace("running_mean", "num_batches_tracked"): np.zeros((), np.int64) for name in means}
    whole = {name: np.array(tensor, order="C") for name, tensor in tensors.items()} | counts
    safetensors.numpy.save_file(whole, path, {"format": "pt", **notes})
    return list(whole)


def resampled(model: Chain, size: int) -> bool:
    """Whether a transformer resamples its positions for images of this size: timm does if told, torchvision never."""
    return isinstance(model, ViT) and model.grid * model.patch != size


def _how_to_load_torch(name: str, model: Chain, size: int, path: Path) -> str:
    if resampled(model, size):
        raise ValueError(f"torchvision's {name} reads images of {model.default_size} pixels alone, not of {size}.")
    name = _TORCHVISION_NAMES.get(name, name)
    side = f", aux_logits={model.aux_heads}, init_weights=False" if model.auxiliary_heads() else ""
    build = f"torchvision.models.{name}(num_classes={model.num_classes}{side})"
    return f"model = {build}; model.load_state_dict(safetensors.torch.load_file({str(path)!r}))"


def _how_to_load_timm(name: str, model: Chain, size: int, path: Path) -> str:
    dynamic = ", dynamic_img_size=True" if resampled(model, size) else ""
    build = f"timm.create_model({name!r}, num_classes={model.num_classes}{dynamic})"
    return f"model = {build}; model.load_state_dict(safetensors.torch.load_file({str(path)!r}))"


def _check_keras_name(path: Path) -> None:
    if path.suffix not in (".h5", ".hdf5") or path.name.endswith(".weights.h5"):
        raise ValueError(
            f"{path} must end in .h5 and not in .weights.h5, which Keras reads in its newer layout: rename it."
        )


def _write_keras(path: Path, model: Chain, rules: list[Rule], tensors: Tensors, notes: Mapping[str, str]) -> list[str]:
    layers = keras_h5.in_order(model, rules, tensors)
    keras_h5.write(path, layers, notes)
    return [f"{layer}/{position}" for layer, held in layers.items() for position in range(len(held))]


def _how_to_load_keras(name: str, model: Chain, size: int, path: Path) -> str:
    shape = f"input_shape=({size}, {size}, 3)"
    build = f"keras.applications.{KERAS_NAMES[name]}(weights=None, classes={model.num_classes}, {shape})"
    return f"model = {build}; model.load_weights({str(path)!r})"


FORMATS: dict[str, Layout] = {
    "torchvision": Layout(_check_torch_name, _write_torch, _how_to_load_torch, exact=True),
    "timm": Layout(_check_torch_name, _write_torch, _how_to_load_timm, exact=True),
    "keras": Layout(_check_keras_name, _write_keras, _how_to_load_keras, exact=False),
}
