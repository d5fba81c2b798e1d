"""Compares pretrained models on your images and this machine, and picks one.

For every ImageNet weight set on this machine (`jft weights fetch NAME` gets more), it fits logistic regression and
shrinkage LDA to the frozen features of a sample of the training images, of the last stage and of all stages, and
measures the accuracy of the best of them by 5-fold cross-validation, with a 95 % interval, and the time and memory of
the forward pass. Features are cached. It prints a table, with * for models on the Pareto front of accuracy and speed,
and writes OUT/suggest.png and OUT/suggested.py, a config of its pick: the fastest model within one standard error of
the highest accuracy. Weights that cannot be loaded, or do not fit in memory, are reported and skipped.
"""

import argparse
from pathlib import Path

from jft.cli import field_flags
from jft.utils import waiting

TAKES_FIELDS = True  # of the config


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument(
        "data",
        nargs="?",
        default="",
        metavar="IMAGES",
        help="a folder of class folders, a .csv file, CIFAR-10, GTSRB, digits",
    )
    parser.add_argument(
        "--models",
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="models or weight sets to compare, such as 'vgg*' resnet50.keras; default: all",
    )
    parser.add_argument("--images", type=int, default=500, metavar="N", help="images in the sample; default: 500")
    parser.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="batch size of feature extraction; default: 32"
    )
    parser.add_argument(
        "--out", default="runs/suggest", type=Path, metavar="DIR", help="output folder; default: runs/suggest"
    )
    parser.add_argument("--force", action="store_true", help="replace files that exist")
    field_flags.add(parser, skip=("batch_size", "eval_batch_size"))


def run(args: argparse.Namespace) -> int:
    """Prints the table, writes the plot and the config."""
    from jft.config import default_config
    from jft.data.detect import detect
    from jft.training import suggest_report
    from jft.utils.files import check_folder

    for name in ("images", "batch_size"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} {getattr(args, name)}: at least 1.")
    check_folder(args.out, "give another --out")
    settings = dict(args.settings)
    config = default_config()
    if args.data and "dataset" in settings:
        config.data_dir = str(Path(args.data).expanduser().absolute())
    elif args.data:
        config.update(detect(args.data))
    elif "dataset" not in settings:
        raise ValueError("give images: jft suggest IMAGES, or --dataset NAME.")
    config.eval_batch_size = args.batch_size
    field_flags.apply(config, settings)
    waiting.doing("reading the images")
    suggest_report.write(
        config,
        args.out,
        patterns=args.models,
        weights_path=settings.get("weights_path", ""),
        images=args.images,
        force=args.force,
    )
    return 0
