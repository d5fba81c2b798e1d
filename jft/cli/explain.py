"""Draws Grad-CAM and the nearest training images, or lists training labels that look wrong.

    jft explain runs/flowers photo.jpg other.jpg --out looked.png --stage fire5
    jft explain runs/flowers --labels --out suspects.csv

The first command draws each image with its prediction, Grad-CAM of the predicted class, and the nearest training
images in feature space. An image that cannot be read is reported on stderr and skipped. The second command lists
training images that a cross-validated classifier assigns to another class (confident learning). Check these labels;
some of them are right. Exit status: 0 all images were read, 1 some could not be read, or wrong input.
"""

import argparse
from pathlib import Path

from jft.cli import main
from jft.utils import waiting
from jft.utils.text import RUN


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("run", metavar="RUN", help=RUN)
    parser.add_argument("paths", nargs="*", metavar="IMAGES", help="images, folders of images, patterns, or -")
    parser.add_argument("--labels", action="store_true", help="list labels that look wrong, as CSV")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="a .png, .svg or .pdf file; with --labels a .csv file"
    )
    parser.add_argument("--stage", help="stage for Grad-CAM; default: the last one with a feature map")
    parser.add_argument(
        "--neighbors", type=int, default=3, metavar="K", help="nearest training images to show; default: 3"
    )
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")
    main.add_code_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Draws or lists."""
    import sys

    from jft.data import grid
    from jft.evaluation import gallery, predict
    from jft.evaluation.load import from_trained
    from jft.evaluation.restore import restore
    from jft.utils import files

    waiting.doing("restoring the run and reading the images")
    if bool(args.paths) == args.labels:
        raise ValueError("give either images to explain, or --labels for the training images.")
    files.check_new(args.out, args.force)
    if args.labels and args.out.suffix.lower() != ".csv":
        raise ValueError(f"{args.out} ends in {args.out.suffix or 'nothing'}: the list is written as .csv.")
    if args.paths:
        grid.check_path(args.out)
        paths = predict.find(args.paths, sys.stdin)
    trained = restore(args.run)
    predictor = from_trained(trained, args.run)
    train = trained.images("train") if args.labels or args.neighbors else None
    if args.labels:
        assert train is not None
        print(f"{args.out}: {gallery.write_suspects(predictor, train, args.out):,} of {len(train):,} labels look wrong")
        return 0
    errors = gallery.draw(predictor, paths, args.out, train=train, stage=args.stage, neighbors=args.neighbors)
    print(f"wrote {args.out}")
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    if errors:
        print(f"{len(errors):,} of {len(paths):,} images could not be read", file=sys.stderr)
    return 1 if errors else 0
