"""Trains what a config says, or goes on with what an interrupted run began: the same command resumes it.

Fields of the config, which jft/config.py lists, are set as --config.field=value, such as --config.learning_rate=0.01 or
--config.data_dir=DIR. Of several processes (--distributed), each is started with the same command.
"""

import argparse
from pathlib import Path

from jft.cli.config_file import read_config
from jft.utils import cluster

TAKES_FIELDS = True  # of the config, --config.field=value


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("--config", required=True, metavar="FILE", help="the config file")
    parser.add_argument("--workdir", metavar="DIR", help="folder of the run; default: runs/<name of the config file>")
    parser.add_argument("--no_report", dest="report", action="store_false", help="do not write report.html at the end")
    cluster.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Trains."""
    from jft.cli.arms import train_arms

    config = read_config(args.config, args.fields)
    timeouts = {name: config[name] for name in ("initialization_timeout", "heartbeat_timeout")}
    cluster.join_as(args, **timeouts)
    workdir = args.workdir or str(Path("runs") / Path(args.config.split(":")[0]).stem)
    return train_arms(config, workdir, report=args.report)
