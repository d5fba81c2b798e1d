"""Measures how fast images are read: python scripts/benchmark_input.py FOLDER [--rounds 7] [--workers 2]

FOLDER holds a sub-folder of JPEGs, or other images, for each class. Every reader resizes the shorter side to 256 pixels
and cuts the central square, to uint8. Readers take turns; a turn reads every image once. It prints images/s of

- jft's threads, and its tf.data where TensorFlow is installed;
- torchvision's ImageFolder in a DataLoader with `--workers` processes, where torch and torchvision are installed;
- jft's resizing of 32-pixel arrays to 224 on the host, by threads and by tf.data.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

from jft.utils import runtime

runtime.configure()

_BATCH = 32


def main() -> int:
    """Prints a table; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="the folder of class folders")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each reader")
    parser.add_argument("--workers", type=int, default=2, help="processes of torch's DataLoader")
    args = parser.parse_args()
    try:
        compare(f"files of {args.folder}", {**of_files(args.folder), **of_torch(args)}, args.rounds)
        compare("arrays of 32 pixels to 224", of_arrays(), args.rounds)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def compare(what: str, readers: dict[str, Callable[[], int]], rounds: int) -> None:
    """Lets the readers take turns, and prints the median rate of each and its ratio to the first."""
    rates: dict[str, list[float]] = {name: [] for name in readers}
    for number in range(rounds + 1):
        for name, read in readers.items():
            start = time.perf_counter()
            count = read()
            if number:  # the first warms up
                rates[name].append(count / (time.perf_counter() - start))
    print(f"{what}, median of {rounds} turns, images/s:")
    first = next(iter(rates.values()))
    for name, found in rates.items():
        ratios = sorted(one / other for one, other in zip(first, found, strict=True))
        spread = f"first / this {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"  {name:<40} {statistics.median(found):8,.0f}  {spread}", flush=True)


def of_files(folder: str) -> dict[str, Callable[[], int]]:
    """jft's readers of all images of a folder, whole batches of them."""
    from jft.data import datasets
    from jft.data.transforms import Preprocess

    source = datasets.load_source("folder", split="all", data_dir=folder, validation=0, seed=0)
    return jft_readers(source, Preprocess(), "crop", "device")


def of_arrays() -> dict[str, Callable[[], int]]:
    """jft's readers of 2,048 arrays of noise, which the host resizes."""
    import numpy as np

    from jft.data import datasets
    from jft.data.transforms import Preprocess

    noise = np.random.default_rng(0).integers(0, 256, (2048, 32, 32, 3), dtype=np.uint8)
    return jft_readers(datasets.from_arrays(noise, np.arange(2048) % 10), Preprocess(), "whole", "host")


def jft_readers(source, spec, fit: str, resize_on: str) -> dict[str, Callable[[], int]]:  # noqa: ANN001
    """jft's feeds, that read every image of a source once, again each time."""
    from jft.data import lazy_tf, loader

    def reader(name: str) -> Callable[[], int]:
        how = {"batch_size": _BATCH, "fit": fit, "resize_on": resize_on, "cache_bytes": 0, "input": name}
        return lambda: sum(len(batch["label"]) for batch in loader.eval_batches(source, spec, **how))

    names = ["threads", *(["tf.data"] if lazy_tf.is_installed() else [])]
    return {f"jft, {name}": reader(name) for name in names}


def of_torch(args: argparse.Namespace) -> dict[str, Callable[[], int]]:
    """torchvision's reader in worker processes that stay; {} where it is not installed."""
    try:
        import torch

        # Where torchvision's wheel has no operators for this torch, their names are all that its import asks for.
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        from torchvision import datasets, transforms
    except ImportError:
        return {}
    steps = [transforms.Resize(256), transforms.CenterCrop(256), transforms.PILToTensor()]
    images = datasets.ImageFolder(args.folder, transforms.Compose(steps))
    batches = torch.utils.data.DataLoader(images, _BATCH, num_workers=args.workers, persistent_workers=True)
    return {f"torchvision, {args.workers} workers": lambda: sum(len(labels) for _, labels in batches)}


if __name__ == "__main__":
    sys.exit(main())
