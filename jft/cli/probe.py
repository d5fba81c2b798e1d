"""Measures linear-probe and k-NN accuracy of frozen features.

Fits ridge regression, logistic regression (L-BFGS) and nearest neighbors to the features of the last stage before the
head (--cut STAGE chooses an earlier one). Hyperparameters are chosen on validation, and accuracy is measured on test.
Features are cached. Config fields are set as for train.
"""

import argparse

from jft.cli import field_flags, main
from jft.utils import waiting

TAKES_FIELDS = True  # of the config, --config.field=value


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("what", nargs="?", metavar="IMAGES|CONFIG", help=field_flags.WHAT)
    parser.add_argument("--config", action=main.Renamed, now="CONFIG without --config", default=None)
    field_flags.add(parser)


def run(args: argparse.Namespace) -> int:
    """Prints a line a method."""
    from jft.cli.choose_config import choose_config
    from jft.config import arms_of
    from jft.training.baselines import format_baselines, measure

    chosen = choose_config(args.what, args.config, args.settings, args.fields, command="probe")
    waiting.doing("reading the images and the weights")
    for name, config in arms_of(*chosen):
        print(f"{name}\n{format_baselines(measure(config))}")
    return 0
