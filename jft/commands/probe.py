"""What frozen features are worth by themselves.

Ridge, logistic regression (L-BFGS) and nearest neighbours on the features of a config's last stage before the head
(config.cut puts that earlier), each chosen on validation and measured on test. The features are cached.
"""

import argparse
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("--config", required=True, metavar="FILE", help="config file, as of train")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="fields of the config")


def run(args: argparse.Namespace) -> int:
    """Prints a line a method."""
    from jft.baselines import format_baselines, measure
    from jft.compare import arms_of
    from jft.config_file import load_config

    for name, config in arms_of(Path(args.config).stem, load_config(args.config, args.set)):
        baselines = measure(config)
        if baselines is None:
            print("Stopped; the same command goes on.")
            return 130
        print(f"{name}\n{format_baselines(baselines)}")
    return 0
