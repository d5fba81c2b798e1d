"""Writes tests/golden/step.npz: how torch moves every parameter in one step of SGD, in float64.

    PYTHONPATH=.:tests python scripts/golden/make_step.py

Needs torch and torchvision, which neither jft nor its tests import; made with torchvision 0.29.2 and torch 2.13.
Nesterov momentum 0.9, everything trainable, BatchNorm by the batch, no dropout. Weights and images are drawn by name
and not stored; tests/step_case.py has what the test draws too. Keys: `{model}/loss`; `{model}/names`, torch's, of the
tensors; `{model}/moved`, digests of their movements.
"""

import pathlib

import make_torchvision
import numpy as np
import torch
import torch_model
from step_case import CUT, RATE, SIZES, batch, digest, linear_head

GOLDEN = pathlib.Path(__file__).parents[2] / "tests" / "golden" / "step.npz"


class Averaged(torch.nn.Module):
    """Convolutional features, their average over the map, and a linear head."""

    def __init__(self, features: torch.nn.Module) -> None:
        """Draws the head."""
        super().__init__()
        self.features = features
        channels = [m.out_channels for m in features.modules() if isinstance(m, torch.nn.Conv2d)][-1]
        self.head = torch.nn.Linear(channels, 1)
        kernel, bias = linear_head(channels)
        self.head.weight, self.head.bias = (torch.nn.Parameter(torch.from_numpy(x)) for x in (kernel.T.copy(), bias))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, 3, h, w] -> [batch, classes]."""
        return self.head(self.features(x).mean((2, 3)))


def build(name: str) -> torch.nn.Module:
    """The model in training mode, without dropout and auxiliary heads."""
    network = make_torchvision.build(name)
    if name in ("inception_v3", "googlenet"):
        network.aux_logits, network.AuxLogits, network.aux1, network.aux2 = False, None, None, None
    if name in CUT:
        network.classifier = torch.nn.Identity()
    elif name == "squeezenet1_1":
        network.classifier[1] = torch.nn.Conv2d(512, 10, 1, device="meta")
    else:
        network.fc = torch.nn.Linear(network.fc.in_features, 10, device="meta")
    torch_model.fill(network).train()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return (Averaged(network.features) if name in CUT else network).double()


def step(name: str) -> dict[str, np.ndarray]:
    """The loss, and digests of how far one step moves each tensor but running variances, which torch has unbiased."""
    network = build(name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), RATE, momentum=0.9, nesterov=True)
    images, labels = batch(name)
    logits = network(torch_model.images_to_torch(images).double())
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels).long())
    loss.backward()
    optimizer.step()
    moved = {key: (value - before[key]).numpy() for key, value in network.state_dict().items()}
    digests = {
        key: digest(key, channels_last(value))
        for key, value in moved.items()
        if not key.endswith(("num_batches_tracked", "running_var"))
    }
    return {
        f"{name}/loss": np.float64(loss.item()),
        f"{name}/names": np.array(list(digests)),
        f"{name}/moved": np.stack(list(digests.values())),
    }


def channels_last(x: np.ndarray) -> np.ndarray:
    """A kernel as jft has it: OIHW -> HWIO, [outputs, inputs] -> [inputs, outputs]."""
    return x.transpose(2, 3, 1, 0) if x.ndim == 4 else x.T


if __name__ == "__main__":
    found = {}
    for model_name in SIZES:
        found |= step(model_name)
        print(model_name, found[f"{model_name}/loss"])
    np.savez_compressed(GOLDEN, **found)
    print(f"{GOLDEN.stat().st_size:,} bytes")
