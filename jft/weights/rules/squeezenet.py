"""SqueezeNet in torchvision's and Caffe's names."""

from collections.abc import Iterable

from jft.models.squeezenet import SQUEEZE, SqueezeNet
from jft.weights.rules.rule import Family, Rules, caffe_names, layer, torch_layer


def _fires() -> Iterable[tuple[str, tuple[str, ...]]]:
    return ((f"fire{i}", ("squeeze1x1", "expand1x1", "expand3x3")) for i, _ in enumerate(SQUEEZE, 2))


def _torchvision(model: SqueezeNet) -> Rules:
    yield from torch_layer("conv1/conv1", "features.0")
    index = 2 + ("conv1" in model.pools)  # after the convolution, its ReLU and perhaps a pool
    for fire, convs in _fires():
        for conv in convs:
            yield from torch_layer(f"{fire}/{conv}", f"features.{index}.{'squeeze' if conv == 'squeeze1x1' else conv}")
        index += 1 + (fire in model.pools)
    yield from torch_layer("head/head", "classifier.1")


def _caffe(model: SqueezeNet) -> Rules:
    del model  # 1.0 and 1.1 have the same names
    yield from layer("conv1/conv1", "conv1")
    for fire, convs in _fires():
        for conv in convs:
            yield from layer(f"{fire}/{conv}", f"{fire}/{conv}")
    yield from layer("head/head", "conv10")


FAMILY = Family(
    SqueezeNet,
    {"torchvision": _torchvision, "caffe": _caffe},
    {"caffe": lambda model, names: caffe_names(_caffe(model), names)},
)
