"""Writes jft/weights/proven/<model>.dinov2.npz: what DINOv2's authors' own code computes from seeded weights.

    PYTHONPATH=.:DINOV2 python scripts/golden/make_dinov2.py [MODEL ...]

DINOV2: a copy of github.com/facebookresearch/dinov2. Needs torch too, which neither jft nor its tests import; made with
commit b8931f7 and torch 2.13. The published networks have no classifier; a seeded one is proved beside the rest.
"""

import sys

import families
import numpy as np
import proof_file
import torch
import torch_model
from dinov2.hub import backbones

FAMILIES = families.find("DINOV2")


def main(name: str) -> None:
    """Writes the proof of one model."""
    reference, family = FAMILIES[name]
    model = getattr(backbones, reference.name)(pretrained=False)
    model.head = torch.nn.Linear(model.num_features, 1000)
    torch_model.fill(model)

    def network(images: np.ndarray) -> list[tuple[str, np.ndarray]]:
        return list(torch_model.outputs(model, family.dinov2_stages(model), {}, images))

    source = f"facebookresearch/dinov2, {torch_model.versions()}"
    proof_file.write(f"{name}.dinov2", source, proof_file.digests(network, reference.sizes))


if __name__ == "__main__":
    for model_name in sys.argv[1:] or FAMILIES:
        main(model_name)
