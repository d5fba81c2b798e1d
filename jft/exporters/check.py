"""Runs the files of an export on images: python -m jft.exporters.check FOLDER IMAGES.npy ANSWERS.npz

It is a separate process, so that the result depends on the files alone. ANSWERS maps the name of each file to its
probabilities, float32 [n, classes].
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jft.utils import runtime


def answers(folder: Path, images: np.ndarray) -> Mapping[str, np.ndarray]:
    """Probabilities of each exported file in a folder, float32 [n, classes], for images uint8 [n, side, side, 3]."""
    from jft.exporters import formats
    from jft.exporters.format import CHECK_BATCH

    found = {}
    for form in formats.FORMATS:
        if (path := folder / form.name).exists():
            predict = form.read(path)
            starts = range(0, len(images), CHECK_BATCH)
            found[form.name] = np.concatenate([np.asarray(predict(images[i : i + CHECK_BATCH])) for i in starts])
    return found


def main() -> None:
    """Writes the probabilities."""
    folder, images, out = map(Path, sys.argv[1:])
    arrays: dict[str, Any] = {**answers(folder, np.load(images))}
    np.savez(out, **arrays)


if __name__ == "__main__":
    runtime.configure()
    main()
