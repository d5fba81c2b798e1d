"""Writes jft/weights/proven/<model>.robustness.npz: what the robustness library's networks compute from seeded weights.

    PYTHONPATH=.:ROBUSTNESS python scripts/golden/make_robustness.py [MODEL ...] [--checkpoint FILE]

ROBUSTNESS: a copy of github.com/MadryLab/robustness, which needs torch, dill, pandas and cox; made with commit a954124,
torch 2.13 and dill 0.4. The tensors have the names of its checkpoints; the change of range of its wrapper is jft's
preprocessing. FILE: also writes a checkpoint of a small network as the library's training does, for tests.
"""

import argparse
import pathlib
import types

import dill
import families
import numpy as np
import proof_file
import torch
import torch_model
from robustness import imagenet_models
from robustness.attacker import AttackerModel

from jft.weights import seeded

FAMILIES = families.find("ROBUSTNESS")
# What robustness.datasets.ImageNet has, without torchvision.
IMAGENET = types.SimpleNamespace(mean=torch.tensor([0.485, 0.456, 0.406]), std=torch.tensor([0.229, 0.224, 0.225]))


def filled(model: torch.nn.Module) -> AttackerModel:
    """The library's wrapper of a model, with seeded tensors, which the attacker shares."""
    wrapper = AttackerModel(model, IMAGENET)
    shapes = {name: tuple(x.shape) for name, x in wrapper.state_dict().items() if name.startswith("model.")}
    tensors = {name.removeprefix("model."): torch.from_numpy(x) for name, x in seeded.seeded_torch(shapes).items()}
    wrapper.model.load_state_dict(tensors)
    assert wrapper.attacker.model is wrapper.model
    return wrapper.eval()


def prove(name: str) -> None:
    """Writes the proof of one model."""
    reference, family = FAMILIES[name]
    model = filled(getattr(imagenet_models, reference.name)()).model

    def network(images: np.ndarray) -> list[tuple[str, np.ndarray]]:
        return list(torch_model.outputs(model, family.torchvision_stages(model), {}, images))

    source = f"MadryLab/robustness, {torch_model.versions()}"
    proof_file.write(f"{name}.robustness", source, proof_file.digests(network, reference.sizes))


def save_checkpoint(path: pathlib.Path) -> None:
    """What robustness.train.train_model saves after a step of SGD, of a network of one layer."""
    model = torch.nn.DataParallel(filled(torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.BatchNorm2d(2))))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=30, gamma=0.1)
    model.module.model(torch.ones(1, 3, 4, 4)).sum().backward()
    optimizer.step()
    schedule.step()
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "epoch": 1,
        "amp": None,
        "nat_prec1": torch.tensor(0.5),
    }
    torch.save(state, path, pickle_module=dill, _use_new_zipfile_serialization=False)


def main() -> None:
    """Writes the proofs of the models named, or of all."""
    arguments = argparse.ArgumentParser(description=main.__doc__)
    arguments.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(FAMILIES))
    arguments.add_argument("--checkpoint", type=pathlib.Path, metavar="FILE")
    flags = arguments.parse_args()
    for name in flags.models or FAMILIES:
        prove(name)
    if flags.checkpoint:
        save_checkpoint(flags.checkpoint)


if __name__ == "__main__":
    main()
