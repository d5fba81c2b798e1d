"""Repeats some steps of a run, and compares the results with its log.

Restores the checkpoint before step N, trains up to step N, and compares the metrics and a fingerprint of the parameters
with those that the run logged. Nothing in RUN changes. Exit status: 0 all are equal, 1 one differs or cannot be
compared.
"""

import argparse

from jft.cli import main
from jft.utils import cluster


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("run", metavar="RUN", help="folder of a run")
    parser.add_argument("--step", type=int, required=True, metavar="N", help="step to train up to; a logged one")
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
