"""Torch models for the scripts beside this file: seeded weights, and the outputs of named modules."""

from collections.abc import Iterator, Mapping
from types import ModuleType

import numpy as np
import torch

from jft.weights import seeded

# The wheel's compiled operators need not fit the installed torch; the models use none, but importing asks for two.
_LIBRARY = torch.library.Library("torchvision", "DEF")
_LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

# The published size and another, of the families that both torchvision and timm have. At even ones SAME would differ.
# torchvision's VGG pools adaptively; fc6 of timm's is a convolution that slides over maps larger than 7x7, so 224
# pixels at most.
SIZES = {
    **{f"vgg{n}{bn}": (224, 160) for n in (11, 13, 16, 19) for bn in ("", "_bn")},
    "inception_v3": (299, 75),
}


def vgg(model: torch.nn.Module, *ends: str) -> dict[str, str]:
    """jft's name of each stage of a VGG -> the module that ends it; `ends` are those of fc6, fc7 and head."""
    pools = [i for i, layer in enumerate(model.features) if isinstance(layer, torch.nn.MaxPool2d)]
    blocks = {f"block{block}": f"features.{i}" for block, i in enumerate(pools, 1)}
    return {**blocks, **dict(zip(("fc6", "fc7", "head"), ends, strict=True))}


def inception_v3(stem: str) -> dict[str, str]:
    """As `vgg`, for Inception; `stem` is the module that ends its stem."""
    mixed = [f"{block}{letter}" for block, letters in {5: "bcd", 6: "abcde", 7: "abc"}.items() for letter in letters]
    return {"stem": stem, **{f"mixed_{block}": f"Mixed_{block}" for block in mixed}, "head": "fc"}


def versions(*packages: ModuleType) -> str:
    """Names and versions of the packages, and of torch."""
    return ", ".join(f"{package.__name__} {package.__version__.split('+')[0]}" for package in (*packages, torch))


def fill(model: torch.nn.Module) -> torch.nn.Module:
    """Gives a model, made on the meta device, its seeded tensors; inference mode."""
    tensors = seeded.seeded_torch({key: tuple(value.shape) for key, value in model.state_dict().items()})
    model.load_state_dict({key: torch.from_numpy(value) for key, value in tensors.items()}, assign=True)
    return model.eval()


def images_to_torch(images: np.ndarray) -> torch.Tensor:
    """[batch, h, w, c] -> [batch, c, h, w]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def channels_last(x: torch.Tensor) -> np.ndarray:
    """[batch, c, h, w] -> [batch, h, w, c]; [batch, c] stays; [batch, c, 1, 1] -> [batch, c]."""
    x = torch.flatten(x, 1) if x.shape[2:] == (1, 1) else x
    return (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).numpy()


@torch.no_grad()
def outputs(
    model: torch.nn.Module, stages: Mapping[str, str], auxiliary: Mapping[str, tuple[str, str]], images: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Runs the whole model once and yields what passes by.

    Args:
      model: in inference mode.
      stages: jft's name of a stage -> name of the module that ends it; 'module:input' for what a module reads, and
        'module:relu' for a ReLU after it that is no module.
      auxiliary: jft's name of an auxiliary head -> its module, and the stage that it reads.
      images: [batch, h, w, 3].
    """
    seen: dict[str, torch.Tensor] = {}

    def watch(stage: str, module: str) -> torch.utils.hooks.RemovableHandle:
        # Cloned, for the next layer may work in place.
        name, _, side = module.partition(":")
        if side == "input":
            return model.get_submodule(name).register_forward_pre_hook(lambda _, x: seen.update({stage: x[0].clone()}))
        after = torch.relu if side == "relu" else torch.clone
        return model.get_submodule(name).register_forward_hook(lambda _, __, y: seen.update({stage: after(y)}))

    hooks = [watch(stage, module) for stage, module in stages.items()]
    logits = model(images_to_torch(images))
    for hook in hooks:
        hook.remove()
    assert torch.equal(torch.flatten(seen["head"], 1), logits)
    for stage in stages:
        yield stage, channels_last(seen[stage])
    for head, (module, stage) in auxiliary.items():
        yield head, channels_last(model.get_submodule(module)(seen[stage]))
