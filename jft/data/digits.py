"""Dataset 'digits': 1,797 handwritten digits, 8x8, included in jft. E. Alpaydin, C. Kaynak, UCI (1998), CC BY 4.0.

https://archive.ics.uci.edu/dataset/80, as in scikit-learn's load_digits; made by scripts/make_digits.py.
"""

from collections.abc import Callable
from importlib import resources

import numpy as np


def find() -> tuple[tuple[str, ...], dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]]]:
    """The class names, and {'train': function} that returns images, uint8 [1797, 8, 8, 3], and labels."""
    return tuple("0123456789"), {"train": _read}


def _read() -> tuple[np.ndarray, np.ndarray]:
    with resources.files("jft.data").joinpath("digits.npz").open("rb") as file, np.load(file) as arrays:
        grays = np.rint(arrays["images"] * (255 / 16)).astype(np.uint8)  # the file holds 0 .. 16
        return np.repeat(grays[..., None], 3, axis=-1), arrays["labels"]
