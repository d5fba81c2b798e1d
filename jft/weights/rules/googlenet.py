"""GoogLeNet: with BatchNorm in torchvision's names, the paper's network in Caffe's."""

from jft.models.googlenet import INCEPTIONS, GoogLeNet
from jft.weights.rules.rule import Family, Rules, caffe_names, layer, torch_dense, torch_layer, torch_unit
from jft.weights.rules.transforms import dense_of_map

# jft's unit: torchvision's. A branch is a list of its steps, among which pools count.
_TORCHVISION_STEM = {"conv1": "conv1", "conv2_reduce": "conv2", "conv2": "conv3"}
_TORCHVISION_UNITS = {
    "1x1": "branch1",
    "3x3_reduce": "branch2.0",
    "3x3": "branch2.1",
    "5x5_reduce": "branch3.0",
    "5x5": "branch3.1",
    "pool_proj": "branch4.1",
}
_CAFFE_STEM = {"conv1": "conv1/7x7_s2", "conv2_reduce": "conv2/3x3_reduce", "conv2": "conv2/3x3"}


def _torchvision(model: GoogLeNet) -> Rules:
    for unit, source in _TORCHVISION_STEM.items():
        yield from torch_unit(f"stem/{unit}", source)
    for stage in INCEPTIONS:
        for unit, source in _TORCHVISION_UNITS.items():
            yield from torch_unit(f"{stage}/{unit}", f"inception{stage}.{source}")
    yield from torch_dense("head/head", "fc")
    for aux in model.auxiliary_heads():
        yield from torch_unit(f"{aux}/reduce", f"{aux}.conv")
        yield from torch_layer(f"{aux}/fc", f"{aux}.fc1", dense_of_map(4))
        yield from torch_dense(f"{aux}/head", f"{aux}.fc2")


def _caffe(model: GoogLeNet) -> Rules:
    for unit, source in _CAFFE_STEM.items():
        yield from layer(f"stem/{unit}/conv", source)
    for stage in INCEPTIONS:
        for unit in _TORCHVISION_UNITS:  # the units' names are Caffe's
            yield from layer(f"{stage}/{unit}/conv", f"inception_{stage}/{unit}")
    yield from layer("head/head", "loss3/classifier")
    for i, aux in enumerate(model.auxiliary_heads(), 1):
        yield from layer(f"{aux}/reduce/conv", f"loss{i}/conv")
        yield from layer(f"{aux}/fc", f"loss{i}/fc")
        yield from layer(f"{aux}/head", f"loss{i}/classifier")


FAMILY = Family(
    GoogLeNet,
    {"torchvision": _torchvision, "caffe": _caffe},
    {"caffe": lambda model, names: caffe_names(_caffe(model), names)},
)
