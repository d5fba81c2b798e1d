"""Which pretrained model suits these images and this machine.

Every weight set that is here (trained on ImageNet; `jft weights fetch NAME` gets more) is probed on a sample of the
training images: logistic regression on its frozen features, which are cached, accuracy by 5-fold cross-validation
with its 95 % interval. The forward pass is timed and its memory counted. Prints the table, * on the Pareto front of
accuracy and speed, and writes OUT/suggest.png and OUT/suggested.py, a config of the pick: of those within one standard
error of the highest accuracy, the fastest. Sets that cannot be loaded whole, or are too large for the memory, are said
and left out.
"""

import argparse
from pathlib import Path

from jft.cli import main


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("data", nargs="?", default="", metavar="DATA", help="a folder with a folder for each class")
    parser.add_argument("--dataset", default="folder", help="other kinds, as in a config: csv, cifar10, gtsrb, digits")
    main.add_column_arguments(parser)
    parser.add_argument("--weights_path", default="", metavar="DIR", help="folder of weight files as published")
    parser.add_argument("--models", nargs="+", default=[], metavar="PATTERN", help="such as 'vgg*' resnet50.keras")
    parser.add_argument("--images", type=int, default=500, metavar="N", help="of the sample; default: 500")
    parser.add_argument("--batch_size", type=int, default=32, metavar="N", help="to compute features; default: 32")
    parser.add_argument(
        "--fit", default="whole", choices=("whole", "crop"), help="squash the image, or crop it; default: whole"
    )
    parser.add_argument("--out", default="runs/suggest", type=Path, metavar="DIR", help="default: runs/suggest")
    parser.add_argument("--force", action="store_true", help="replace the files if they exist")


def run(args: argparse.Namespace) -> int:
    """Prints the table, writes the plot and the config."""
    from jft.config import default_config
    from jft.training import suggest_report

    for name in ("images", "batch_size"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} {getattr(args, name)}: at least 1.")
    data_dir = str(Path(args.data).expanduser().absolute()) if args.data else ""
    config = default_config()
    config.update({"dataset": args.dataset, "data_dir": data_dir, "fit": args.fit, "eval_batch_size": args.batch_size})
    config.update({"image_column": args.image_column, "label_column": args.label_column})
    suggest_report.write(
        config,
        args.out,
        patterns=args.models,
        weights_path=args.weights_path,
        images=args.images,
        force=args.force,
    )
    return 0
