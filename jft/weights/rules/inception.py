"""Inception-V3 in torchvision's names (and timm's, which leaves the auxiliary head out), and in Keras' order.

Keras' layers carry numbers that depend on what its process built before, so its loader goes by their order, and so
does jft: `by_order` numbers a file's layers anew.
"""

import collections
from collections.abc import Iterable, Iterator

from jft.models.inception import InceptionV3
from jft.weights.rules.rule import Family, Rules, keras_unit, layer, torch_dense, torch_unit

# jft's unit: torchvision's.
_STEM = {
    "conv1a": "Conv2d_1a_3x3",
    "conv2a": "Conv2d_2a_3x3",
    "conv2b": "Conv2d_2b_3x3",
    "conv3b": "Conv2d_3b_1x1",
    "conv4a": "Conv2d_4a_3x3",
}
# Units of each module in the order of Keras' `model.layers`: by their distance from the module's end, the farthest
# first, and at the same distance as they were built. tests/weights/test_rules.py compares it with Keras.
_5 = "branch3x3dbl_1 branch5x5_1 branch3x3dbl_2 branch1x1 branch5x5_2 branch3x3dbl_3 branch_pool"
_6A = "branch3x3dbl_1 branch3x3dbl_2 branch3x3 branch3x3dbl_3"
_6 = (
    "branch7x7dbl_1 branch7x7dbl_2 branch7x7_1 branch7x7dbl_3 branch7x7_2 branch7x7dbl_4 branch1x1 branch7x7_3 "
    "branch7x7dbl_5 branch_pool"
)
_7A = "branch7x7x3_1 branch7x7x3_2 branch3x3_1 branch7x7x3_3 branch3x3_2 branch7x7x3_4"
_7 = (
    "branch3x3dbl_1 branch3x3_1 branch3x3dbl_2 branch3x3_2a branch3x3_2b branch3x3dbl_3a branch3x3dbl_3b branch1x1 "
    "branch_pool"
)
_MIXED = {
    **{f"mixed_5{letter}": _5 for letter in "bcd"},
    "mixed_6a": _6A,
    **{f"mixed_6{letter}": _6 for letter in "bcde"},
    "mixed_7a": _7A,
    **{f"mixed_7{letter}": _7 for letter in "bc"},
}


def _units() -> Iterator[tuple[str, str]]:
    """(jft's unit, torchvision's), in Keras' order."""
    for unit, source in _STEM.items():
        yield f"stem/{unit}", source
    for stage, units in _MIXED.items():
        for unit in units.split():
            yield f"{stage}/{unit}", f"{stage.capitalize()}.{unit}"


def _timm(model: InceptionV3) -> Rules:
    del model
    for target, source in _units():
        yield from torch_unit(target, source)
    yield from torch_dense("head/head", "fc")


def _torchvision(model: InceptionV3) -> Rules:
    yield from _timm(model)
    for aux in model.auxiliary_heads():
        for unit in ("conv0", "conv1"):
            yield from torch_unit(f"{aux}/{unit}", f"AuxLogits.{unit}")
        yield from torch_dense(f"{aux}/head", "AuxLogits.fc")


def _keras(model: InceptionV3) -> Rules:
    del model
    for k, (target, _) in enumerate(_units(), 1):
        yield from keras_unit(target, f"conv{k}", f"bn{k}")
    yield from layer("head/head", "predictions")


def by_order(names: Iterable[str]) -> dict[str, str]:
    """Names of a Keras file's tensors, told by how many a layer has and which of its kind it is.

    Args:
      names: 'layer/position', in the order of the file.

    Returns:
      {'conv1/0', 'bn1/0' … 'bn1/2', 'conv2/0', …, 'predictions/0', 'predictions/1', for a convolution's kernel, a
      BatchNorm's bias, mean and variance, and the classifier: name in the file}. What belongs to none of these, and a
      second classifier, begins with '?'.
    """
    layers = collections.defaultdict(list)
    for name in names:
        layers[name.rpartition("/")[0]].append(name)
    found, count = {}, collections.Counter()
    for tensors in layers.values():
        kind = {1: "conv", 2: "predictions", 3: "bn"}.get(len(tensors), "?")
        count[kind] += 1
        if kind == "?" or (kind == "predictions" and count[kind] > 1):
            found |= {f"?{name}": name for name in tensors}
        else:
            new = kind if kind == "predictions" else f"{kind}{count[kind]}"
            found |= {f"{new}/{i}": name for i, name in enumerate(tensors)}
    return found


FAMILY = Family(
    InceptionV3,
    {"torchvision": _torchvision, "timm": _timm, "keras": _keras},
    {"keras": lambda _, names: by_order(names)},
)
