"""Writes jft/weights/proven/<model>.caffe.npz: Caffe's networks, written anew in torch from their prototxts.

    PYTHONPATH=. python scripts/golden/make_caffe.py [MODEL ...]
    PYTHONPATH=. python scripts/golden/make_caffe.py squeezenet1_1 --real squeezenet_v1.1.npy

Without --real, what a proof says of a published file is kept from the proof that is there.
Needs torch (made with 2.13), no jax. Nothing that can be installed runs Caffe any more, so the networks below are a
second writing of these files, as plain functions, which share no code with jft's:

    github.com/BVLC/caffe           models/bvlc_alexnet/deploy.prototxt, models/bvlc_googlenet/train_val.prototxt
    github.com/forresti/SqueezeNet  SqueezeNet_v1.0/deploy.prototxt, SqueezeNet_v1.1/deploy.prototxt
    gist.github.com/ksimonyan       VGG_ILSVRC_16_layers_deploy.prototxt, VGG_ILSVRC_19_layers_deploy.prototxt

Tensors are laid out as caffe-tensorflow writes them: kernels [height, width, in / groups, out], matrices [in, out] with
the input flattened height, width, channel.
"""

import argparse
import functools
import hashlib
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import proof_file
import torch
import torch.nn.functional as F
import torch_model

from jft.weights import seeded

Stages = Iterator[tuple[str, torch.Tensor]]
# Gives a layer's weights and biases: its name and the kernel's shape in the layout above.
Parameters = Callable[[str, tuple[int, ...]], tuple[torch.Tensor, torch.Tensor]]


class Caffe:
    """Caffe's layers over named parameters; maps are [batch, channels, height, width]."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters

    def conv(
        self, name: str, x: torch.Tensor, outputs: int, size: int, stride: int = 1, pad: int = 0, group: int = 1
    ) -> torch.Tensor:
        """Convolution and ReLU."""
        weights, biases = self.parameters(name, (size, size, x.shape[1] // group, outputs))
        return torch.relu(F.conv2d(x, weights.permute(3, 2, 0, 1), biases, stride, pad, groups=group))

    def fc(self, name: str, x: torch.Tensor, outputs: int) -> torch.Tensor:
        """Fully connected, without ReLU, of a map or a vector."""
        x = x.permute(0, 2, 3, 1).flatten(1) if x.ndim == 4 else x
        weights, biases = self.parameters(name, (x.shape[1], outputs))
        return x @ weights + biases


def pool(x: torch.Tensor, size: int = 3, stride: int = 2, pad: int = 0) -> torch.Tensor:
    """Max pooling; Caffe rounds sizes up."""
    return F.max_pool2d(x, size, stride, pad, ceil_mode=True)


def lrn(x: torch.Tensor) -> torch.Tensor:
    """LRN across channels with `local_size: 5 alpha: 0.0001 beta: 0.75`, and Caffe's k of 1."""
    return F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1.0)


def alexnet(net: Caffe, x: torch.Tensor) -> Stages:
    """bvlc_alexnet; fully connected for 227 pixels only."""
    x = pool(lrn(net.conv("conv1", x, 96, 11, stride=4)))
    yield "conv1", x
    x = pool(lrn(net.conv("conv2", x, 256, 5, pad=2, group=2)))
    yield "conv2", x
    x = net.conv("conv3", x, 384, 3, pad=1)
    yield "conv3", x
    x = net.conv("conv4", x, 384, 3, pad=1, group=2)
    yield "conv4", x
    x = pool(net.conv("conv5", x, 256, 3, pad=1, group=2))
    yield "conv5", x
    if x.shape[2] == 6:
        yield from classifier(net, x)


def classifier(net: Caffe, x: torch.Tensor) -> Stages:
    """fc6, fc7 and fc8 of AlexNet and VGG."""
    x = torch.relu(net.fc("fc6", x, 4096))
    yield "fc6", x
    x = torch.relu(net.fc("fc7", x, 4096))
    yield "fc7", x
    yield "head", net.fc("fc8", x, 1000)


def vgg(net: Caffe, x: torch.Tensor, *, convs: tuple[int, ...]) -> Stages:
    """VGG_ILSVRC_16_layers and VGG_ILSVRC_19_layers; fully connected for 224 pixels only."""
    for block, (count, width) in enumerate(zip(convs, (64, 128, 256, 512, 512), strict=True), 1):
        for i in range(1, count + 1):
            x = net.conv(f"conv{block}_{i}", x, width, 3, pad=1)
        x = pool(x, 2, 2)
        yield f"block{block}", x
    if x.shape[2] == 7:
        yield from classifier(net, x)


def squeezenet(net: Caffe, x: torch.Tensor, *, version: str) -> Stages:
    """SqueezeNet_v1.0 and v1.1; conv10 of the former pads its input."""
    first, size, pad, pools = (96, 7, 1, ("fire4", "fire8")) if version == "1.0" else (64, 3, 0, ("fire3", "fire5"))
    x = pool(net.conv("conv1", x, first, size, stride=2))
    yield "conv1", x
    for fire, width in zip(range(2, 10), (16, 16, 32, 32, 48, 48, 64, 64), strict=True):
        name = f"fire{fire}"
        x = net.conv(f"{name}/squeeze1x1", x, width, 1)
        sides = net.conv(f"{name}/expand1x1", x, 4 * width, 1), net.conv(f"{name}/expand3x3", x, 4 * width, 3, pad=1)
        x = torch.cat(sides, dim=1)
        x = pool(x) if name in pools else x
        yield name, x
    yield "head", net.conv("conv10", x, 1000, 1, pad=pad).mean(dim=(2, 3))


# num_output of 1x1, 3x3_reduce, 3x3, 5x5_reduce, 5x5, pool_proj.
INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def googlenet(net: Caffe, x: torch.Tensor) -> Stages:
    """bvlc_googlenet; all three classifiers for 224 pixels only."""
    whole = x.shape[2] == 224
    x = lrn(pool(net.conv("conv1/7x7_s2", x, 64, 7, stride=2, pad=3)))
    x = net.conv("conv2/3x3_reduce", x, 64, 1)
    x = pool(lrn(net.conv("conv2/3x3", x, 192, 3, pad=1)))
    yield "stem", x
    for stage, (n1, n3_reduce, n3, n5_reduce, n5, n_pool) in INCEPTION.items():
        name = f"inception_{stage}"
        branches = (
            net.conv(f"{name}/1x1", x, n1, 1),
            net.conv(f"{name}/3x3", net.conv(f"{name}/3x3_reduce", x, n3_reduce, 1), n3, 3, pad=1),
            net.conv(f"{name}/5x5", net.conv(f"{name}/5x5_reduce", x, n5_reduce, 1), n5, 5, pad=2),
            net.conv(f"{name}/pool_proj", pool(x, 3, 1, pad=1), n_pool, 1),
        )
        x = torch.cat(branches, dim=1)
        if stage in ("4a", "4d") and whole:
            number = {"4a": 1, "4d": 2}[stage]
            yield f"aux{number}", auxiliary(net, f"loss{number}", x)
        x = pool(x) if stage in ("3b", "4e") else x
        yield stage, x
    if whole:
        yield "head", net.fc("loss3/classifier", F.avg_pool2d(x, 7), 1000)


def auxiliary(net: Caffe, name: str, x: torch.Tensor) -> torch.Tensor:
    """The classifiers of bvlc_googlenet that only training has."""
    x = net.conv(f"{name}/conv", F.avg_pool2d(x, 5, 3, ceil_mode=True), 128, 1)
    x = torch.relu(net.fc(f"{name}/fc", x, 1024))
    return net.fc(f"{name}/classifier", x, 1000)


# model: network, sizes, spread of the images. LRN shows only where activations are as large as gray levels make them.
# At the second size of AlexNet and GoogLeNet rounding pools down would differ.
MODELS: dict[str, tuple[Callable[..., Stages], tuple[int, ...], float]] = {
    "alexnet_caffe": (alexnet, (227, 127), 60.0),
    "googlenet_caffe": (googlenet, (224, 112), 60.0),
    "vgg16": (functools.partial(vgg, convs=(2, 2, 3, 3, 3)), (224, 160), 1.0),
    "vgg19": (functools.partial(vgg, convs=(2, 2, 4, 4, 4)), (224, 160), 1.0),
    "squeezenet1_0": (functools.partial(squeezenet, version="1.0"), (224, 161), 1.0),
    "squeezenet1_1": (functools.partial(squeezenet, version="1.1"), (224, 161), 1.0),
}


def seeded_parameters(name: str, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """See `Parameters`."""
    tensors = seeded.seeded_keras({f"{name}/0": shape, f"{name}/1": shape[-1:]})
    weights, biases = map(torch.from_numpy, tensors.values())
    return weights, biases


def network(stages: Callable[..., Stages], parameters: Parameters) -> proof_file.Network:
    """The network as `proof_file.digests` wants it."""

    def run(images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        with torch.no_grad():
            for stage, x in stages(Caffe(parameters), torch_model.images_to_torch(images)):
                yield stage, torch_model.channels_last(x)

    return run


# The published files whose real numbers a proof holds: SHA-256, and the images' sizes.
REAL = {"squeezenet1_1": ("4f2207c551d2ca71c4699709779ca3871b2fe65cdfe6bc9180af16bbad8ec5f5", (224,))}


def real_proof(model: str, path: pathlib.Path) -> dict[str, Any]:
    """Checksums of the leaves and digests of the stages, out of a published file."""
    sha256, sizes = REAL[model]
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise SystemExit(f"{path} is not the published file, whose SHA-256 is {sha256}.")
    # allow_pickle runs what the file says; this one is known by its hash.
    layers: Mapping[str, list[np.ndarray]] = np.load(path, allow_pickle=True, encoding="latin1").item()

    def parameters(name: str, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        weights, biases = (torch.from_numpy(np.asarray(array, np.float32)) for array in layers[name])
        assert tuple(weights.shape) == shape
        return weights, biases

    leaves = {}
    for layer, arrays in layers.items():
        # jft's names: fire modules have their own, the other layers lie in a stage of their name, but for conv10.
        leaf = layer if "/" in layer else {"conv10": "head/head"}.get(layer, f"{layer}/{layer}")
        leaves |= {f"params/{leaf}/{kind}": array for kind, array in zip(("kernel", "bias"), arrays, strict=True)}
    checksums = proof_file.checksums(f"{model}.caffe", leaves)
    return checksums | proof_file.digests(network(MODELS[model][0], parameters), sizes, "real", spread=60.0)


def kept_proof(model: str) -> dict[str, Any]:
    """What the proof that is there says of a published file; stops where it should and does not."""
    kept = proof_file.published(f"{model}.caffe")
    if model in REAL and not kept:
        raise SystemExit(f"{model}: no proof of its published file is there to keep; give the file, with --real.")
    return kept


def main() -> None:
    """Writes the proofs of the models named, or of all."""
    arguments = argparse.ArgumentParser(description=main.__doc__)
    arguments.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(MODELS))
    arguments.add_argument(
        "--real", type=pathlib.Path, metavar="FILE", help="the published file of the one model named"
    )
    flags = arguments.parse_args()
    if flags.real and (len(flags.models) != 1 or flags.models[0] not in REAL):
        arguments.error(f"--real is the published file of one model, named before it: {', '.join(REAL)}")
    models = flags.models or list(MODELS)
    real = {model: real_proof(model, flags.real) if flags.real else kept_proof(model) for model in models}
    for model in models:
        stages, sizes, spread = MODELS[model]
        proof = proof_file.digests(network(stages, seeded_parameters), sizes, spread=spread) | real[model]
        source = f"Caffe's prototxt in {torch_model.versions()}"
        proof_file.write(f"{model}.caffe", source, proof)
        if real[model] and not flags.real:
            print(f"  kept as it was: what the proof says of the published file of {real[model]['weights']}")


if __name__ == "__main__":
    main()
