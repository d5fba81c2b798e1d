"""Compares probes of frozen features by cross-validation, and tests the best one.

Ridge regression, logistic regression (lbfgs), shrinkage LDA, class means and nearest neighbors on the features of the
last stage before the head (--cut STAGE chooses an earlier one), and three of them on the averaged features of all
stages, which one forward pass gives. The best one is also tried with mirrored images, in training and in both. 5 folds
of the training images give each method's score, its interval, log loss and seconds; the one of the smallest log loss
is fitted on all of them and tested. Features are cached. Config fields are set as for train.
"""

import argparse

from jft.cli import field_flags, main
from jft.utils import waiting

TAKES_FIELDS = True  # of the config, --config.field=value


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("what", nargs="?", metavar="IMAGES|CONFIG", help=field_flags.WHAT)
    parser.add_argument("--config", action=main.Renamed, now="CONFIG without --config", default=None)
    parser.add_argument(
        "--also",
        nargs="+",
        default=[],
        metavar="NAME[=FILE]",
        help="further weight sets, such as resnet50.torchvision, whose features join those of the network",
    )
    field_flags.add(parser)


def run(args: argparse.Namespace) -> int:
    """Prints a line a method, and the test figure of the chosen one."""
    from jft.cli.choose_config import choose_config
    from jft.config import arms_of
    from jft.training.baselines import format_baselines, measure

    chosen = choose_config(args.what, args.config, args.settings, args.fields, command="probe")
    also = []
    for named in args.also:
        name, _, path = named.partition("=")
        model, _, tag = name.partition(".")
        if not tag:
            raise ValueError(f"--also {named}: name a weight set as MODEL.TAG, such as resnet50.torchvision.")
        also.append((model, tag, path))
    waiting.doing("reading the images and the weights")
    for name, config in arms_of(*chosen):
        print(f"{name}\n{format_baselines(measure(config, also))}")
    return 0
