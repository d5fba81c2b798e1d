"""How far the perceptual hashes of changed copies and of other images are apart; `jft.data.near.MOST_BITS` follows.

    PYTHONPATH=. python benchmarks/near_copies.py IMAGES [IMAGES ...]

IMAGES as `jft check` takes them. Only training images are read. Images of one group, such as frames of one track, are
no pairs of different images.
"""

import io
import random
import sys
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageEnhance

from jft.config import default_config
from jft.data import content, datasets, looks, near
from jft.data.detect import detect
from jft.data.preprocess import Preprocess
from jft.data.source import Source

COPIED = 300  # images that copies are made of
LIMITS = (16, 24, near.MOST_BITS, 40, 51)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """Saved and read again."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def cropped(image: Image.Image, share: float, rng: random.Random) -> Image.Image:
    """Without up to this share of it on each side, at its size."""
    lost = [rng.random() * share * side for side in (*image.size, *image.size)]
    box = lost[0], lost[1], image.width - lost[2], image.height - lost[3]
    return image.resize(image.size, Image.Resampling.BICUBIC, box=box)


def changes(rng: random.Random) -> dict[str, Callable[[Image.Image], Image.Image]]:
    """What is done to copies."""
    return {
        "JPEG of quality 50": lambda image: jpeg(image, 50),
        "half as large": lambda image: image.resize((max(16, image.width // 2), max(16, image.height // 2))),
        "squashed to 64 x 64": lambda image: image.resize((64, 64)),
        "a fifth brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
        "mirrored, gray": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).convert("L"),
        "up to 2 % cut off each side": lambda image: cropped(image, 0.02, rng),
        "up to 5 % cut off each side": lambda image: cropped(image, 0.05, rng),
    }


def hashed(image: Image.Image) -> np.ndarray:
    """uint64 [4]."""
    image.load()
    return looks.of_thumbnails(looks.thumbnail(image)[None], np.array([min(image.size)]))["hash"][0]


def of_others(source: Source) -> np.ndarray:
    """Pairs of images of different groups by their distance: int64 [256]."""
    hashes, groups = content.image_facts(source)["hash"], source.groups
    counts = np.zeros(256, np.int64)
    for row in range(1, len(source)):
        others = hashes[:row] if groups is None else hashes[:row][groups[:row] != groups[row]]
        turned = looks.mirrored(hashes[row : row + 1])[0]
        bits = np.minimum(looks.distance(others, hashes[row]), looks.distance(others, turned))
        counts += np.bincount(bits, minlength=256)
    return counts


def lines(source: Source) -> Iterator[str]:
    """The rows of the table."""
    counts = of_others(source)
    below = ", ".join(f"{counts[: limit + 1].sum():,} within {limit}" for limit in LIMITS)
    yield f"{source.name}: {counts.sum():,} pairs, the nearest {np.flatnonzero(counts)[:5].tolist()} bits: {below}"
    rows = random.Random(0).sample(range(len(source)), min(COPIED, len(source)))
    images = [Image.fromarray(source.pixels(row, Preprocess())) for row in rows]
    known = np.stack(list(map(hashed, images)))
    for name, change in changes(random.Random(0)).items():
        found = np.stack([hashed(change(image)) for image in images])
        bits = np.minimum(looks.distance(known, found), looks.distance(known, looks.mirrored(found)))
        within = ", ".join(f"{(bits <= limit).mean():.1%} within {limit}" for limit in LIMITS)
        yield f"  {name}: median {np.median(bits):.0f}, 95 % {np.quantile(bits, 0.95):.0f}: {within}"


def main(places: list[str]) -> None:
    """Prints a table of each."""
    for place in places:
        config = {**default_config(), **detect(place), "region_of_interest": False, "validation": 0}
        for line in lines(datasets.of_config(config, "train")):
            print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
