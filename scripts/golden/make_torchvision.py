"""Writes jft/weights/proven/<model>.torchvision.npz: what torchvision's models compute from seeded weights.

    PYTHONPATH=. python scripts/golden/make_torchvision.py [MODEL ...]

Needs torch and torchvision, which neither jft nor its tests import; made with torchvision 0.29.2 and torch 2.13.
"""

import sys

import families
import numpy as np
import proof_file
import torch
import torch_model

import torchvision  # isort: skip - only after torch_model

# The published size and another: where AlexNet pools adaptively, and SqueezeNet and GoogLeNet round pools up.
SIZES = {
    "alexnet": (224, 160),
    **torch_model.SIZES,
    "googlenet": (224, 112),
    **{f"squeezenet1_{n}": (224, 161) for n in (0, 1)},
}
# GoogLeNet's stages that a pool ends.
GOOGLENET_POOLS = {"stem": "maxpool2", "3b": "maxpool3", "4e": "maxpool4"}


FAMILIES = families.find("TORCHVISION")
SIZES |= {model: reference.sizes for model, (reference, _) in FAMILIES.items()}


def stages(name: str, model: torch.nn.Module) -> dict[str, str]:
    """jft's name of each stage -> the module that ends it."""
    if name in FAMILIES:
        return FAMILIES[name][1].torchvision_stages(model)
    if name == "alexnet":
        ends = dict(zip((f"conv{i}" for i in range(1, 6)), (2, 5, 7, 9, 12), strict=True))
        features = {stage: f"features.{i}" for stage, i in ends.items()}
        return {**features, "fc6": "classifier.2", "fc7": "classifier.5", "head": "classifier.6"}
    if name.startswith("vgg"):
        return torch_model.vgg(model, "classifier.1", "classifier.4", "classifier.6")
    if name == "googlenet":
        names = ("stem", "3a", "3b", *(f"4{letter}" for letter in "abcde"), "5a", "5b")
        return {**{stage: GOOGLENET_POOLS.get(stage, f"inception{stage}") for stage in names}, "head": "fc"}
    if name == "inception_v3":
        return torch_model.inception_v3("maxpool2")
    # A stage of SqueezeNet ends with a Fire or, where one follows, with its pool; its first two layers end none.
    layers = [*model.features, None]
    ends = [i for i in range(2, len(layers) - 1) if not isinstance(layers[i + 1], torch.nn.MaxPool2d)]
    names = ("conv1", *(f"fire{i}" for i in range(2, 10)))
    fires = {stage: f"features.{i}" for stage, i in zip(names, ends, strict=True)}
    return {**fires, "head": "classifier.3"}


def auxiliary(name: str, size: int) -> dict[str, tuple[str, str]]:
    """jft's name of each auxiliary head -> its module and the stage that it reads. Inception's reads large maps."""
    if name == "googlenet":
        return {"aux1": ("aux1", "4a"), "aux2": ("aux2", "4d")}
    return {"aux": ("AuxLogits", "mixed_6e")} if (name, size) == ("inception_v3", 299) else {}


def build(name: str) -> torch.nn.Module:
    """The model without the change of range that its weights ask for, which jft's catalog has as preprocessing."""
    options = {"aux_logits": True, "transform_input": False, "init_weights": False}
    if name in FAMILIES:
        reference = FAMILIES[name][0]
        with torch.device(reference.device):
            return torchvision.models.get_model(reference.name, weights=None, **reference.options)
    with torch.device("meta"):
        wants = options if name in ("googlenet", "inception_v3") else {}
        return torchvision.models.get_model(name, weights=None, **wants)


def main(name: str) -> None:
    """Writes the proof of one model."""
    model = torch_model.fill(build(name))

    def network(images: np.ndarray) -> list[tuple[str, np.ndarray]]:
        if adapt := getattr(FAMILIES.get(name, (None, None))[1], "torchvision_at", None):
            adapt(model, images.shape[1])
        return list(torch_model.outputs(model, stages(name, model), auxiliary(name, images.shape[1]), images))

    source = torch_model.versions(torchvision)
    proof_file.write(f"{name}.torchvision", source, proof_file.digests(network, SIZES[name]))


if __name__ == "__main__":
    for model_name in sys.argv[1:] or SIZES:
        main(model_name)
