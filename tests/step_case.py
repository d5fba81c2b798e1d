"""What scripts/golden/make_step.py runs torch on and tests/models/test_step.py jft. Needs NumPy alone."""

import numpy as np

from jft.weights import seeded

# Model -> side of the images, at which the last BatchNorm has 16 values or more.
SIZES = {
    "alexnet": 80,
    "vgg11_bn": 64,
    "googlenet": 64,
    "inception_v3": 139,
    "resnet18": 64,
    "resnet50": 64,
    "squeezenet1_1": 64,
}
# Model -> the stage that a linear head follows, in place of a hundred million parameters that are plain dense layers.
CUT = {"alexnet": "conv5", "vgg11_bn": "block5"}
BATCH, CLASSES, RATE = 4, 10, 0.01


def batch(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Normalized images float32 [batch, size, size, 3] and labels int32 [batch], drawn by the name."""
    size = SIZES[name]
    rng = seeded.generator(f"step {name}")
    images = rng.standard_normal((BATCH, size, size, 3), np.float32)
    return images, rng.integers(0, CLASSES, BATCH).astype(np.int32)


def linear_head(inputs: int) -> tuple[np.ndarray, np.ndarray]:
    """The head of `CUT` models: kernel float32 [inputs, classes] and bias float32 [classes]."""
    kernel = seeded.seeded_tensor("step head kernel", (inputs, CLASSES), "hwio")
    return kernel, seeded.seeded_tensor("step head bias", (CLASSES,), "bias")


def digest(name: str, movement: np.ndarray) -> np.ndarray:
    """The norm of a movement, laid out as jft has the leaf, and 32 of its values, drawn by the name; float32 [33]."""
    values = np.asarray(movement, np.float64).ravel()
    sample = seeded.generator(name).choice(values.size, 32, replace=values.size < 32)
    return np.concatenate([[np.linalg.norm(values)], values[sample]]).astype("f4")
