"""ResNet and VGG in torch, as torchvision has them, for machines without torchvision."""

from typing import Any

import torch
from torch import nn

VGG = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
RESNET = {"resnet18": (1, 2, 2, 2, 2), "resnet50": (4, 3, 4, 6, 3)}  # expansion of a block, then blocks of each stage


def make(model: str, classes: int) -> nn.Module:
    """The network with random weights.

    Raises:
      ValueError: it is none of these.
    """
    if model in VGG:
        return Vgg(VGG[model], classes)
    if model in RESNET:
        return ResNet(*RESNET[model], classes=classes)
    raise ValueError(f"without torchvision there is no {model!r}, only {', '.join((*RESNET, *VGG))}")


def _conv(inputs: int, outputs: int, window: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, window, stride, window // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """Two 3x3 convolutions, or with expansion 4 a bottleneck, whose stride is in the 3x3 one; and a shortcut."""

    def __init__(self, inputs: int, width: int, expansion: int, stride: int) -> None:
        """[batch, inputs, h, w] to [batch, expansion * width, h / stride, w / stride]."""
        super().__init__()
        outputs, relu = expansion * width, nn.ReLU(inplace=True)
        if expansion == 1:
            layers = [_conv(inputs, width, 3, stride), relu, _conv(width, outputs, 3)]
        else:
            layers = [_conv(inputs, width, 1), relu, _conv(width, width, 3, stride), relu, _conv(width, outputs, 1)]
        self.body, self.relu = nn.Sequential(*layers), relu
        self.shortcut = _conv(inputs, outputs, 1, stride) if inputs != outputs or stride > 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See `__init__`."""
        return self.relu(self.body(x) + self.shortcut(x))


class ResNet(nn.Sequential):
    """ResNet; its head is `fc`."""

    def __init__(self, expansion: int, *blocks: int, classes: int) -> None:
        """[batch, 3, h, w] to [batch, classes]."""
        super().__init__()
        self.stem = nn.Sequential(_conv(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1))
        stages, inputs = [], 64
        for stage, count in enumerate(blocks):
            for block in range(count):
                stages.append(Block(inputs, 64 << stage, expansion, 2 if stage and not block else 1))
                inputs = expansion * (64 << stage)
        self.stages = nn.Sequential(*stages)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(inputs, classes)


class Vgg(nn.Sequential):
    """VGG without BatchNorm; its head is the last of `classifier`."""

    def __init__(self, convolutions: tuple[int, ...], classes: int) -> None:
        """[batch, 3, h, w] to [batch, classes]; `convolutions` of each stage."""
        super().__init__()
        layers: list[Any] = []
        inputs = 3
        for stage, count in enumerate(convolutions):
            for _ in range(count):
                width = min(64 << stage, 512)
                layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(inplace=True)]
                inputs = width
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(7), nn.Flatten())
        hidden = [nn.Linear(512 * 49, 4096), nn.ReLU(True), nn.Dropout(), nn.Linear(4096, 4096)]
        self.classifier = nn.Sequential(*hidden, nn.ReLU(True), nn.Dropout(), nn.Linear(4096, classes))
