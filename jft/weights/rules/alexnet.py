"""AlexNet: the single tower in torchvision's names, the network of 2012 in Caffe's."""

from jft.models.alexnet import KERNELS, AlexNet
from jft.weights.rules.rule import Family, Rules, layer, torch_dense, torch_layer
from jft.weights.rules.transforms import dense_of_map


def _torchvision(model: AlexNet) -> Rules:
    del model
    # Positions in torch's flat list of convolutions, ReLUs and pools.
    for conv, index in zip(KERNELS, (0, 3, 6, 8, 10), strict=True):
        yield from torch_layer(f"{conv}/{conv}", f"features.{index}")
    yield from torch_layer("fc6/dense", "classifier.1", dense_of_map(6))
    yield from torch_dense("fc7/dense", "classifier.4")
    yield from torch_dense("head/head", "classifier.6")


def _caffe(model: AlexNet) -> Rules:
    del model
    for conv in KERNELS:  # grouped kernels are [height, width, in / groups, out] there too
        yield from layer(f"{conv}/{conv}", conv)
    yield from layer("fc6/dense", "fc6")  # channel first in Caffe; its converters re-order what they write as npy
    yield from layer("fc7/dense", "fc7")
    yield from layer("head/head", "fc8")


FAMILY = Family(AlexNet, {"torchvision": _torchvision, "caffe": _caffe})
