"""What frozen features are worth by themselves.

Ridge, logistic regression (L-BFGS) and nearest neighbors on the features of a config's last stage before the head
(config.cut puts that earlier), each chosen on validation and measured on test. The features are cached. Fields of the
config are set as for train, --config.field=value.
"""

import argparse
from pathlib import Path

from jft.cli.config_file import read_config

TAKES_FIELDS = True  # of the config, --config.field=value


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("--config", required=True, metavar="FILE", help="config file, as of train")


def run(args: argparse.Namespace) -> int:
    """Prints a line a method."""
    from jft.config import arms_of
    from jft.training.baselines import format_baselines, measure

    for name, config in arms_of(Path(args.config).stem, read_config(args.config, args.fields)):
        print(f"{name}\n{format_baselines(measure(config))}")
    return 0
