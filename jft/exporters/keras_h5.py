"""Writes Keras' legacy h5 layout, which `load_weights` of keras.applications reads.

Layout: keras/src/legacy/saving/legacy_h5_format.py. The loader reads layers in the order of `layer_names`, which must
match `model.layers`: layers farthest from the output first, layers at the same distance in the order of building
(keras/src/models/functional.py, map_graph).
"""

import os
from collections.abc import Iterator, Mapping

import h5py
import numpy as np

from jft.models import Chain
from jft.models.blocks import Fork, Steps, Unit
from jft.models.inception import InceptionV3
from jft.models.resnet import ResNet
from jft.weights.rules import Rule

_VARIABLES = {
    # tensors of a layer: what Keras calls them
    2: ("kernel", "bias"),
    1: ("kernel",),
    3: ("beta", "moving_mean", "moving_variance"),
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
}


def write(path: str | os.PathLike, layers: Mapping[str, list[np.ndarray]], notes: Mapping[str, str]) -> None:
    """Writes a file of weights.

    Args:
      path: the file; overwritten if it exists.
      layers: name -> its tensors in Keras' order: kernel, bias; gamma, beta, moving mean, moving variance.
      notes: further information, stored as data sets 'jft/<key>', which Keras ignores.
    """
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([layer.encode() for layer in layers])
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.15.0"  # the last version with this layout by default
        for layer, tensors in layers.items():
            group = file.create_group(layer)
            names = [f"{layer}/{variable}:0" for variable in _variables(layer, len(tensors))]
            group.attrs["weight_names"] = np.array([name.encode() for name in names])
            for name, tensor in zip(names, tensors, strict=True):
                group.create_dataset(name, data=np.ascontiguousarray(tensor))
        for key, note in notes.items():
            # Not an attribute: those are limited to 64 kB, and class names can take more.
            file.create_dataset(f"jft/{key}", data=note)


def _variables(layer: str, count: int) -> tuple[str, ...]:
    """What Keras calls the tensors of a layer; it reads them by their order."""
    if layer.startswith("convnext"):
        norm, conv = ("gamma", "beta"), ("kernel", "bias")
        named = {
            "stem": (*conv, *norm),
            "layernorm": norm,
            "scale": ("variable",),
        }  # as Keras calls the last, for want of a name
        return named.get(layer.rpartition("_")[2], (*norm, *conv) if count == 4 else conv)
    return _VARIABLES[count]


def in_order(model: Chain, rules: list[Rule], tensors: Mapping[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    """The layers of a model in the order that `write` needs.

    Args:
      model: the chain of stages.
      rules: its rules in the dialect 'keras'.
      tensors: from `rules.sources_of`.

    Returns:
      Name in keras.applications -> tensors, in the order of its `model.layers`.
    """
    if isinstance(model, InceptionV3):
        return {name: _tensors(tensors, layer) for name, layer in _inception(model, rules)}
    layers = list(dict.fromkeys(name.rpartition("/")[0] for name in tensors))
    if isinstance(model, ResNet):
        layers = _with_projections(layers)
    return {layer: _tensors(tensors, layer) for layer in layers}


def _tensors(tensors: Mapping[str, np.ndarray], layer: str) -> list[np.ndarray]:
    count = sum(name.rpartition("/")[0] == layer for name in tensors)
    return [tensors[f"{layer}/{position}"] for position in range(count)]


def _with_projections(layers: list[str]) -> list[str]:
    """A ResNet's layers, each shortcut projection before the layer at the same distance, which is built later."""
    ordered = [layer for layer in layers if "_0_" not in layer]
    for layer in layers:
        if "_0_" in layer:
            ordered.insert(ordered.index(layer.replace("_0_", "_3_")), layer)
    return ordered


def _inception(model: InceptionV3, rules: list[Rule]) -> Iterator[tuple[str, str]]:
    """Yields (name in Keras, layer in the rules), in the order of `model.layers`."""
    layer_of = {rule.target: rule.sources[0].rpartition("/")[0] for rule in rules}
    built = 0
    for stage, build in model.stages().items():
        if stage == "head":
            continue
        found = []  # (minus the distance, position in the order of building, name, layer)
        for unit, distance in _distances(build().steps, 0):
            target, number = f"params/{stage}/{unit}", f"_{built}" if built else ""
            found.append((-distance - 1, 2 * built, f"conv2d{number}", layer_of[f"{target}/conv/kernel"]))
            found.append((-distance, 2 * built + 1, f"batch_normalization{number}", layer_of[f"{target}/bn/bias"]))
            built += 1
        yield from ((name, layer) for _, _, name, layer in sorted(found))
    yield "predictions", layer_of["params/head/head/kernel"]


def _distances(steps: Steps, after: int) -> list[tuple[str, int]]:
    """(unit, layers from its BatchNorm to the end of the stage), in the order of building; `after` layers follow."""
    found: list[tuple[str, int]] = []
    for step in reversed(steps):
        if isinstance(step, Unit):
            units = [(step.name, after + 1)]  # its activation lies between
        elif isinstance(step, Fork):
            units = [unit for branch in step.branches for unit in _distances(branch, after + 1)]
        else:
            after += 1  # a pool
            continue
        found = units + found
        after = max(distance for _, distance in units) + 2  # before the BatchNorm and the convolution
    return found
