"""What the scripts beside this file share: the digests of a network's stages, and the file they go to."""

import pathlib
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from jft.utils.files import written_whole
from jft.weights import seeded

FOLDER = pathlib.Path(__file__).parents[2] / "jft" / "weights" / "proven"

# Images [batch, size, size, 3] to (jft's name of a stage, its output [batch, …, channels]), in any order.
Network = Callable[[np.ndarray], Iterable[tuple[str, np.ndarray]]]


def digests(network: Network, sizes: Iterable[int], kind: str = "seeded", spread: float = 1.0) -> dict[str, Any]:
    """What a proof says of a network.

    Args:
      network: runs images through its stages.
      sizes: of the images, in pixels.
      kind: 'seeded' or 'real', the weights.
      spread: standard deviation of the images.

    Returns:
      '{kind}/{size}/{stage}' -> digest, and 'spread/{kind}'.
    """
    found: dict[str, Any] = {f"spread/{kind}": np.float32(spread)}
    for size in sizes:
        for stage, x in network(seeded.seeded_images(size, spread=spread)):
            found[f"{kind}/{size}/{stage}"] = seeded.digest(f"{size}/{stage}", x)
    return found


def checksums(weights: str, leaves: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What a proof says of a published file.

    Args:
      weights: name of the weight set in the catalog.
      leaves: what jft's leaves shall be, by their names.

    Returns:
      'weights'; and 'leaves', names, beside 'crc32', of their bytes as float32, little-endian.
    """
    crc32 = [zlib.crc32(np.ascontiguousarray(leaf, "<f4")) for leaf in leaves.values()]
    return {"weights": weights, "leaves": np.array(list(leaves)), "crc32": np.array(crc32, np.uint32)}


def published(name: str) -> dict[str, Any]:
    """What the proof called `name`, if there is one, says of a published file: to be kept where that is not at hand."""
    path = FOLDER / f"{name}.npz"
    if not path.exists():
        return {}
    with np.load(path) as file:
        return {key: file[key] for key in file if key != "source" and "seeded" not in key.split("/")}


def write(name: str, source: str, proof: Mapping[str, Any]) -> None:
    """Writes the proof called `name`, '{model}.{dialect}', and says what is in it.

    Args:
      name: of the file.
      source: the frameworks and their versions.
      proof: see `digests` and `checksums`.
    """
    path = FOLDER / f"{name}.npz"
    with written_whole(path) as aside, aside.open("wb") as file:
        np.savez_compressed(file, source=source, **proof)
    print(f"{name}: {path.stat().st_size:,} bytes, {source}")
    for key, value in proof.items():
        if "/" in key and np.ndim(value):
            print(f"  {key}: mean {value[0]:.3g}, deviation {value[1]:.3g}")
