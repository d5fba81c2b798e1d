"""Writes tests/golden/augmentations.npz: what torchvision's transforms.v2 makes of images, and the boxes it draws.

    PYTHONPATH=. python scripts/golden/make_augmentations.py

Needs torch and torchvision, which neither jft nor its tests import; made with torchvision 0.28 and torch 2.13.
"""

from pathlib import Path

import numpy as np
import torch
import torch_model

import torchvision  # isort: skip - only after torch_model
from torchvision.transforms import v2  # isort: skip
from torchvision.transforms.v2 import functional  # isort: skip

OUT = Path(__file__).parents[2] / "tests/golden/augmentations.npz"
DRAWS = 100_000
# Height, width, least and largest share of the area, least and largest ratio.
CROPS = ((48, 48, 0.08, 1.0, 3 / 4, 4 / 3), (32, 80, 0.35, 1.0, 0.5, 2.0), (90, 20, 0.9, 1.0, 3 / 4, 4 / 3))
ERASED = ((32, 32, 0.02, 0.33, 0.3, 3.3), (24, 60, 0.2, 0.8, 0.3, 3.3))
# Brightness, contrast, saturation, hue.
COLORS = (
    *((0.6, 1, 1, 0), (1.4, 1, 1, 0), (1, 0.6, 1, 0), (1, 1.4, 1, 0), (1, 1, 0.0, 0), (1, 1, 1.8, 0)),
    *((1, 1, 1, -0.5), (1, 1, 1, -0.1), (1, 1, 1, 0.07), (1, 1, 1, 0.45), (1.3, 0.7, 1.4, 0.2), (0.7, 1.2, 0.6, -0.3)),
)


def boxes(transform: v2.Transform, names: str, height: int, width: int) -> np.ndarray:
    """Means and covariances of top, left, height and width over many draws: float64 [5, 4]."""
    image = [torch.zeros(3, height, width)]
    drawn = [transform.make_params(image) for _ in range(DRAWS)]
    found = np.array([[params[name] for name in names] for params in drawn], np.float64)
    return np.concatenate([found.mean(axis=0)[None], np.cov(found.T)])


class Crop(v2.RandomResizedCrop):
    """With names of one letter."""

    def make_params(self, flat_inputs: list) -> dict:
        """top, left, height, width."""
        drawn = super().make_params(flat_inputs)
        return {"i": drawn["top"], "j": drawn["left"], "h": drawn["height"], "w": drawn["width"]}


class Erasing(v2.RandomErasing):
    """With size 0 where it erases nothing."""

    def make_params(self, flat_inputs: list) -> dict:
        """top, left, height, width."""
        drawn = super().make_params(flat_inputs)
        return drawn if drawn["v"] is not None else drawn | {"h": 0, "w": 0}


def adjusted(images: torch.Tensor) -> np.ndarray:
    """Each of `COLORS` on images, 0 .. 1: float32 [colors, n, h, w, 3], 0 .. 255."""
    found = []
    for brightness, contrast, saturation, hue in COLORS:
        x = functional.adjust_brightness(images, brightness)
        x = functional.adjust_saturation(functional.adjust_contrast(x, contrast), saturation)
        found.append(255 * functional.adjust_hue(x, hue).permute(0, 2, 3, 1).numpy())
    return np.stack(found)


def main() -> None:
    """Writes the file."""
    torch.manual_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (2, 9, 8, 3), np.uint8)
    images[0, :, 0] = images[0, :, 0, :1]  # gray pixels have no hue
    images[0, 0], images[0, 1] = 0, 255
    tensors = torch.from_numpy(images).permute(0, 3, 1, 2)
    crops = [boxes(Crop(8, scale=row[2:4], ratio=row[4:]), "ijhw", *row[:2]) for row in CROPS]
    erased = [boxes(Erasing(1.0, scale=row[2:4], ratio=row[4:], value="random"), "ijhw", *row[:2]) for row in ERASED]
    np.savez_compressed(
        OUT,
        source=np.array(torch_model.versions(torchvision)),
        draws=np.array(DRAWS),
        images=images,
        colors=np.array(COLORS),
        adjusted=adjusted(tensors.float() / 255).astype(np.float32),
        grayscale=functional.rgb_to_grayscale(tensors.float(), 3).permute(0, 2, 3, 1).numpy(),
        crops=np.array(CROPS),
        crops_moments=np.stack(crops),
        erased=np.array(ERASED),
        erased_moments=np.stack(erased),
    )


if __name__ == "__main__":
    main()
