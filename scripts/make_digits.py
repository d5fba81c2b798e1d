"""Writes jft/data/digits.npz, the digits that come with jft, from scikit-learn's copy of them.

    python scripts/make_digits.py

1,797 handwritten digits of 8x8 pixels and 17 grays, the test part of "Optical Recognition of Handwritten Digits"
(E. Alpaydin, C. Kaynak, UCI Machine Learning Repository 1998, https://doi.org/10.24432/C50P49), license CC BY 4.0.
"""

import pathlib

import numpy as np
from sklearn.datasets import load_digits

if __name__ == "__main__":
    digits = load_digits()
    target = pathlib.Path(__file__).parents[1] / "jft/data/digits.npz"
    np.savez_compressed(target, images=digits.images.astype(np.uint8), labels=digits.target.astype(np.uint8))
    print(f"{target}: {len(digits.images)} digits, {target.stat().st_size} bytes")
