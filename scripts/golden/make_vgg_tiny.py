"""Writes jft/weights/proven/vgg_tiny.jft.npz: the quickstart's network, written anew in torch.

    PYTHONPATH=. python scripts/golden/make_vgg_tiny.py

Needs torch (made with 2.13) and safetensors, no jax.
"""

import pathlib
from collections.abc import Iterator, Mapping

import numpy as np
import proof_file
import safetensors.numpy
import torch
import torch.nn.functional as F
import torch_model

from jft.weights import seeded

PUBLISHED = pathlib.Path(__file__).parents[2] / "jft" / "weights" / "packaged" / "vgg_tiny-digits04.safetensors"
SIZES = (32, 44)


def network(leaves: Mapping[str, np.ndarray]) -> proof_file.Network:
    """Three 3x3 convolutions and three fully connected layers with these weights."""
    weights = {name.removeprefix("params/"): torch.from_numpy(leaf) for name, leaf in leaves.items()}

    def dense(layer: str, x: torch.Tensor) -> torch.Tensor:
        return x @ weights[f"{layer}/kernel"] + weights[f"{layer}/bias"]

    def run(images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        x = torch_model.images_to_torch(images)
        for i in (1, 2, 3):
            conv = f"block{i}/conv{i}_1"
            x = F.conv2d(x, weights[f"{conv}/kernel"].permute(3, 2, 0, 1), weights[f"{conv}/bias"], padding=1)
            x = F.max_pool2d(torch.relu(x), 2)
            yield f"block{i}", torch_model.channels_last(x)
        x = F.adaptive_avg_pool2d(x, 4).permute(0, 2, 3, 1).flatten(1)
        for stage in ("fc6", "fc7"):
            x = torch.relu(dense(f"{stage}/dense", x))
            yield stage, x.numpy()
        yield "head", dense("head/head", x).numpy()

    return run


if __name__ == "__main__":
    published = safetensors.numpy.load_file(PUBLISHED)
    drawn = seeded.seeded_leaves({name: leaf.shape for name, leaf in published.items()})
    proof = {
        **proof_file.digests(network(drawn), SIZES),
        **proof_file.checksums("vgg_tiny.digits04", published),
        **proof_file.digests(network(published), SIZES[:1], "real"),
    }
    proof_file.write("vgg_tiny.jft", f"the same layers in {torch_model.versions()}", proof)
