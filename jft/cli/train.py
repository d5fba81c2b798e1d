"""Trains a model on images. To resume an interrupted run, run the same command again.

    jft train flower_photos                         the best weights on this machine; ends with report.html
    jft train flower_photos --model resnet50 --epochs 5
    jft train quickstart                            a config that comes with jft
    jft train my_config.py --learning-rate 0.01     a config file with a field changed

With images, the head is solved for, and the whole network trained from there (--preset fine_tune). Every config field
below can be set as a flag, or as --config.field=value. With several processes (--distributed), start each with the same
command.
"""

import argparse
from pathlib import Path

from jft.cli import field_flags
from jft.utils import cluster, waiting

TAKES_FIELDS = True  # of the config


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("what", nargs="?", metavar="IMAGES|CONFIG", help=field_flags.WHAT)
    parser.add_argument("--config", metavar="FILE", help="a config file, in place of IMAGES|CONFIG")
    parser.add_argument("--workdir", metavar="DIR", help="folder of the run; default: runs/NAME of images or config")
    parser.add_argument("--no-report", dest="report", action="store_false", help="do not write report.html at the end")
    cluster.add_arguments(parser)
    field_flags.add(parser)


def run(args: argparse.Namespace) -> int:
    """Trains."""
    from jft.cli.arms import train_arms
    from jft.cli.choose_config import choose_config

    name, config = choose_config(args.what, args.config, args.settings, args.fields)
    timeouts = {name: config[name] for name in ("initialization_timeout", "heartbeat_timeout")}
    cluster.join_as(args, **timeouts)
    waiting.doing("reading the images, the weights and the run's folder")
    return train_arms(config, args.workdir or str(Path("runs") / name), report=args.report)
