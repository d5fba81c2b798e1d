"""Writes tests/golden/batchnorm.npz: what torch's running statistics are after two batches in training mode.

    PYTHONPATH=.:tests python scripts/golden/make_batchnorm.py

Needs torch and torchvision, which neither jft nor its tests import; made with torchvision 0.29.2 and torch 2.13.
Weights and images are drawn by name and not stored; tests/batchnorm_case.py has what the test draws too. Keys:
`layer/{height}/{leaf}` for one BatchNorm, `{model}/{name}` for the first and the last of a model, with `n`: how many
values a channel's statistics are taken over.
"""

import pathlib

import make_torchvision
import numpy as np
import torch
import torch_model
from batchnorm_case import MAPS, SIZES, STEPS, batch

GOLDEN = pathlib.Path(__file__).parents[2] / "tests" / "golden" / "batchnorm.npz"


def layer(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """One BatchNorm, which starts as it is made."""
    norm = torch.nn.BatchNorm2d(shape[-1], eps=1e-5, momentum=0.1).train()
    for step in range(STEPS):
        y = norm(torch_model.images_to_torch(batch(str(shape[1]), step, shape)))
    leaves = {"mean": norm.running_mean, "var": norm.running_var, "y": y.permute(0, 2, 3, 1)}
    return {f"layer/{shape[1]}/{leaf}": value.numpy() for leaf, value in leaves.items()}


def model(name: str) -> dict[str, np.ndarray]:
    """The first and the last BatchNorm of a model, and those of its auxiliary heads that take small images."""
    network = make_torchvision.build(name)
    if name == "inception_v3":
        network.aux_logits, network.AuxLogits = False, None
    run = network.features if name == "vgg11_bn" else network  # its fully connected layers come after all BatchNorms
    if name == "vgg11_bn":
        network.classifier = torch.nn.Identity()
    torch_model.fill(network).train()
    norms = {key: module for key, module in run.named_modules() if isinstance(module, torch.nn.BatchNorm2d)}
    prefix = "features." if name == "vgg11_bn" else ""
    chosen = [key for key in norms if not key.startswith("aux")]
    chosen = [chosen[0], chosen[-1], *(key for key in norms if key.startswith("aux"))]
    found = {}

    def count(key: str, x: torch.Tensor) -> None:
        found[f"{name}/{prefix}{key}.n"] = np.int64(x.numel() // x.shape[1])

    for key in chosen:
        norms[key].register_forward_hook(lambda _, inputs, __, key=key: count(key, inputs[0]))
    for step in range(STEPS):
        run(torch_model.images_to_torch(batch(name, step, (4, SIZES[name], SIZES[name], 3))))
    for key in chosen:
        for leaf in ("running_mean", "running_var"):
            found[f"{name}/{prefix}{key}.{leaf}"] = getattr(norms[key], leaf).numpy()
    return found


if __name__ == "__main__":
    with torch.no_grad():
        tensors = {}
        for shape in MAPS:
            tensors |= layer(shape)
        for model_name in SIZES:
            tensors |= model(model_name)
    np.savez_compressed(GOLDEN, **tensors)
    print({key: value.shape or int(value) for key, value in tensors.items()})
