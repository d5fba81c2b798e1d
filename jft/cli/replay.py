"""Runs a stretch of a run again.

Restores the checkpoint before step N, trains on to N, and says whether metrics and the parameters' fingerprint are what
the run logged. Nothing in RUN changes. Exit status: 0 the same, 1 something differs or cannot be compared.
"""

import argparse

from jft.cli import main
from jft.utils import cluster


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("run", metavar="RUN", help="folder that train wrote")
    parser.add_argument("--step", type=int, required=True, help="to train to; one that the run logged")
    main.add_code_argument(parser)
    cluster.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the comparison; 1 if it differs."""
    from jft.training.replay import format_replay, replay
    from jft.utils import distributed

    cluster.join_as(args)
    found = replay(args.run, args.step)
    distributed.say(format_replay(found, args.run))
    return int(not found.same)
