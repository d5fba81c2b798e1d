"""Writes jft/weights/proven/<model>.timm.npz: what timm's models compute from seeded weights.

    PYTHONPATH=. python scripts/golden/make_timm.py [MODEL ...]

Needs torch, torchvision and timm, which neither jft nor its tests import; made with timm 1.0.31 and torch 2.13.
"""

import sys

import families
import numpy as np
import proof_file
import torch
import torch_model

import timm  # isort: skip - only after torch_model


FAMILIES = families.find("TIMM")
SIZES = torch_model.SIZES | {model: reference.sizes for model, (reference, _) in FAMILIES.items()}


def stages(name: str, model: torch.nn.Module) -> dict[str, str]:
    """jft's name of each stage -> the module that ends it."""
    if name in FAMILIES:
        return FAMILIES[name][1].timm_stages(model)
    if name.startswith("vgg"):
        return torch_model.vgg(model, "pre_logits.act1", "pre_logits.act2", "head")
    return torch_model.inception_v3("Pool2")


def main(name: str) -> None:
    """Writes the proof of one model."""
    with torch.device("meta"):
        reference = FAMILIES[name][0] if name in FAMILIES else families.Reference(name, SIZES[name])
        model = timm.create_model(reference.name, **reference.options)
    torch_model.fill(model)

    def network(images: np.ndarray) -> list[tuple[str, np.ndarray]]:
        return list(torch_model.outputs(model, stages(name, model), {}, images))

    digests = proof_file.digests(network, reference.sizes)
    architecture, *variant = name.split(".")
    proof_file.write(".".join([architecture, "timm", *variant]), torch_model.versions(timm), digests)


if __name__ == "__main__":
    for model_name in sys.argv[1:] or SIZES:
        main(model_name)
