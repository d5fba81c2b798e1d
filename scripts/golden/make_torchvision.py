"""Writes tests/golden/<model>.npz: what torchvision's models compute from seeded weights.

    PYTHONPATH=tests python scripts/golden/make_torchvision.py [MODEL ...]

Needs torch and torchvision, which neither jft nor its tests import; made with torchvision 0.29.2 and torch 2.13.
Weights and pictures come from tests/seeded.py by name; a file holds only digests, '{size}/{stage}' -> float32 [258].
"""

import pathlib
import sys
from collections.abc import Iterator

import numpy as np
import seeded
import torch

# The wheel's compiled operators need not fit the installed torch; the models use none, but importing asks for two.
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import torchvision  # noqa: E402

FOLDER = pathlib.Path(__file__).parents[2] / "tests" / "golden"
# 224 and another size: where VGG pools adaptively and SqueezeNet rounds its pools up. At even ones SAME would differ.
SIZES = {
    **{f"vgg{n}{bn}": (224, 160) for n in (11, 13, 16, 19) for bn in ("", "_bn")},
    **{f"resnet{n}": (224, 96) for n in (18, 34, 50, 101, 152)},
    **{f"squeezenet1_{n}": (224, 161) for n in (0, 1)},
}


def stages(model: torch.nn.Module, x: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """jft's name of each stage, and its output."""
    if isinstance(model, torchvision.models.VGG):
        block = 1
        for layer in model.features:
            x = layer(x)
            if isinstance(layer, torch.nn.MaxPool2d):
                yield f"block{block}", x
                block += 1
        x = torch.flatten(model.avgpool(x), 1)
        for name, part in {"fc6": slice(0, 3), "fc7": slice(3, 6), "head": slice(6, 7)}.items():
            x = model.classifier[part](x)
            yield name, x
    elif isinstance(model, torchvision.models.ResNet):
        x = model.maxpool(model.relu(model.bn1(model.conv1(x))))
        yield "stem", x
        for name in ("layer1", "layer2", "layer3", "layer4"):
            x = getattr(model, name)(x)
            yield name, x
        yield "head", model.fc(torch.flatten(model.avgpool(x), 1))
    else:
        # A stage ends with a Fire or, where one follows, with its pool.
        layers = list(model.features)
        names = iter(["conv1", *(f"fire{i}" for i in range(2, 10))])
        for layer, following in zip(layers, [*layers[1:], None], strict=True):
            x = layer(x)
            ends = not isinstance(layer, torch.nn.Conv2d | torch.nn.ReLU)
            if ends and not isinstance(following, torch.nn.MaxPool2d):
                yield next(names), x
        yield "head", torch.flatten(model.classifier(x), 1)


@torch.no_grad()
def golden(name: str) -> dict[str, np.ndarray]:
    """Digests of every stage at every size."""
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None).eval()
    tensors = seeded.seeded_torch({key: tuple(value.shape) for key, value in model.state_dict().items()})
    model.load_state_dict({key: torch.from_numpy(value) for key, value in tensors.items()}, assign=True)
    digests = {}
    for size in SIZES[name]:
        images = torch.from_numpy(seeded.seeded_images(size)).permute(0, 3, 1, 2).contiguous()
        for stage, x in stages(model, images):
            channels_last = x.permute(0, 2, 3, 1) if x.ndim == 4 else x
            key = f"{size}/{stage}"
            digests[key] = seeded.digest(key, channels_last.numpy())
        whole = model(images).numpy()
        assert np.array_equal(digests[f"{size}/head"], seeded.digest(f"{size}/head", whole)), name
    return digests


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or SIZES:
        digests = golden(name)
        np.savez_compressed(FOLDER / f"{name}.npz", **digests)
        print(name, {key: [round(float(v), 3) for v in value[:2]] for key, value in digests.items()})
