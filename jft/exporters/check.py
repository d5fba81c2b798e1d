"""Runs the files of an export on images: python -m jft.exporters.check FOLDER IMAGES.npy ANSWERS.npz

It is a separate process, so that the result depends on the files alone. ANSWERS maps the name of each file to its
probabilities, float32 [n, classes].
"""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jft.utils import runtime

_BATCH = 20  # another batch size than in the export; the last batch is usually smaller, which checks a second size


def answers(folder: Path, images: np.ndarray) -> Mapping[str, np.ndarray]:
    """Probabilities of each exported file in a folder, float32 [n, classes], for images uint8 [n, side, side, 3]."""
    found = {}
    for name, read in _readers().items():
        if (path := folder / name).exists():
            predict = read(path)
            starts = range(0, len(images), _BATCH)
            found[name] = np.concatenate([np.asarray(predict(images[i : i + _BATCH])) for i in starts])
    return found


def _readers() -> dict[str, Callable[[Path], Callable[[np.ndarray], Any]]]:
    from jft.exporters import onnx_file, stablehlo

    return {
        "model.stablehlo": stablehlo.read,
        "model.onnx": onnx_file.read,
        "weights.safetensors": _own,
        "weights_torchvision.safetensors": _torchvision,
    }


def _own(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    from jft.evaluation.load import load

    return load(path, batch_size=_BATCH).predict


def _torchvision(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Reads it like any torchvision file; preprocessing and class names come from weights.safetensors beside it."""
    from jft.evaluation.load import from_weights
    from jft.evaluation.open_model import open_source

    own = open_source(str(path.with_name("weights.safetensors")))
    opened = open_source(str(path), model=own.model)
    how = {name: getattr(own, name) for name in ("spec", "fit", "class_names", "objective")}
    return from_weights(dataclasses.replace(opened, **how), path.name, batch_size=_BATCH).predict


def main() -> None:
    """Writes the probabilities."""
    folder, images, out = map(Path, sys.argv[1:])
    arrays: dict[str, Any] = {**answers(folder, np.load(images))}
    np.savez(out, **arrays)


if __name__ == "__main__":
    runtime.configure()
    main()
