"""Writes jft/weights/proven/<model>.efficientnet_lite.npz: EfficientNet-Lite in the names of efficientnet_lite_pytorch.

    PYTHONPATH=. python scripts/golden/make_efficientnet_lite.py [MODEL ...] [--weights FOLDER]

The names are that package's, the outputs those of timm's tf_efficientnet_lite0 .. 2 with the same tensors in the same
order: the package pads every map as if it were the image, which is SAME only where all maps have even sides. FOLDER
holds the published files, of which proofs tell too; without it, what they tell stays. Needs torch, timm and
efficientnet_lite_pytorch 0.1.0, which neither jft nor its tests import; made with timm 1.0.31 and torch 2.13.
"""

import argparse
import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import proof_file
import torch
import torch_model
from efficientnet_lite_pytorch import EfficientNet
from families import efficientnet

from jft.weights import seeded

import timm  # isort: skip - only after torch_model

# Models, and the SHA-256 of the published files that were at hand.
SHA256 = {
    "efficientnet_lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "efficientnet_lite1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "efficientnet_lite2": None,
}
LAYERS = {"_conv_stem": "stem/conv", "_bn0": "stem/bn", "_conv_head": "top/conv", "_bn1": "top/bn", "_fc": "head/head"}
NORMS = {"_bn0": "expand/bn", "_bn1": "depthwise/bn", "_bn2": "project/bn"}
LEAVES = {
    "bias": "params/{}/bias",
    "running_mean": "batch_stats/{}/mean",
    "running_var": "batch_stats/{}/var",
}


def names(model: str) -> list[str]:
    """The package's names of the tensors."""
    return list(EfficientNet.from_name(model.replace("_", "-", 1)).state_dict())


def network(model: str, tensors: Mapping[str, torch.Tensor]) -> proof_file.Network:
    """timm's network with the package's tensors, in order."""
    reference = efficientnet.TIMM[model]
    net = timm.create_model(reference.name)
    own = net.state_dict()
    assert [tensor.shape for tensor in own.values()] == [tensor.shape for tensor in tensors.values()]
    net.load_state_dict(dict(zip(own, tensors.values(), strict=True)))
    return lambda images: torch_model.outputs(net.eval(), efficientnet.timm_stages(net), {}, images)


def seeded_tensors(model: str) -> dict[str, torch.Tensor]:
    """Seeded tensors by the package's names."""
    shapes = [tuple(tensor.shape) for tensor in timm.create_model(efficientnet.TIMM[model].name).state_dict().values()]
    tensors = seeded.seeded_torch(dict(zip(names(model), shapes, strict=True)))
    return {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}


def leaves(model: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """The tensors under jft's names, in its layouts."""
    # The package numbers blocks through, timm within stages.
    stages = timm.create_model(efficientnet.TIMM[model].name).blocks
    places = [f"stage{i}/block{j}" for i, stage in enumerate(stages, 1) for j in range(len(stage))]
    found = {}
    for name, tensor in tensors.items():
        *path, layer, kind = name.split(".")
        if kind == "num_batches_tracked":
            continue
        if path:
            layer = f"{places[int(path[1])]}/{NORMS.get(layer) or layer.removeprefix('_').replace('_', '/')}"
        else:
            layer = LAYERS[layer]
        array = tensor.numpy()
        if kind == "weight" and array.ndim > 1:
            found[f"params/{layer}/kernel"] = array.T if array.ndim == 2 else array.transpose(2, 3, 1, 0)
        else:
            found[LEAVES.get(kind, "params/{}/scale").format(layer)] = array
    return found


def real_proof(model: str, path: pathlib.Path) -> dict[str, Any]:
    """Checksums of the leaves and digests of the stages, out of a published file."""
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256[model]:
        raise SystemExit(f"{path} is not the published file, whose SHA-256 is {SHA256[model]}.")
    tensors = torch.load(path, weights_only=True)
    checksums = proof_file.checksums(f"{model}.efficientnet_lite", leaves(model, tensors))
    size = efficientnet.TIMM[model].sizes[0]
    return checksums | proof_file.digests(network(model, tensors), (size,), "real")


def main() -> None:
    """Writes the proofs of the models named, or of all."""
    arguments = argparse.ArgumentParser(description=main.__doc__)
    arguments.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(SHA256))
    arguments.add_argument("--weights", type=pathlib.Path, metavar="FOLDER", help="holds the published files")
    flags = arguments.parse_args()
    for model in flags.models or SHA256:
        name = f"{model}.efficientnet_lite"
        if SHA256[model] and flags.weights:
            file = f"{model.replace('_', '-', 1)}-{SHA256[model][:8]}.pth"
            real = real_proof(model, flags.weights / file)
        else:
            real = proof_file.published(name)
        sizes = efficientnet.TIMM[model].sizes
        proof = proof_file.digests(network(model, seeded_tensors(model)), sizes) | real
        proof_file.write(name, f"{torch_model.versions(timm)}, names of efficientnet_lite_pytorch 0.1.0", proof)


if __name__ == "__main__":
    main()
