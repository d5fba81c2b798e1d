"""What scripts/golden/make_batchnorm.py runs torch on and tests/models/test_batchnorm.py jft. Needs NumPy alone."""

import numpy as np

from jft.weights import seeded

# Feature maps [batch, height, width, channels] of one layer; model -> side of the images; batches.
MAPS = ((2, 5, 5, 4), (8, 3, 7, 6))
SIZES = {"resnet18": 64, "vgg11_bn": 64, "googlenet": 64, "inception_v3": 107}
STEPS = 2


def batch(name: str, step: int, shape: tuple[int, ...]) -> np.ndarray:
    """Values of mean 1 and standard deviation 2, drawn by the name and the number of the step."""
    return 1 + 2 * seeded.generator(f"batchnorm {name} {step}").standard_normal(shape, np.float32)
