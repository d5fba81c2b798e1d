"""The pre-flight: whether a config will train, and what that takes. Leaves nothing in the run's folder.

Looks at folder, data, weights, input and disk; compiles what the run would, and prints its memory on each device, FLOPs
and time, and from that the run's duration; and learns one batch by heart, which shows whether the gradient reaches all
that is to learn. A line each, ok or FAIL with the remedy. Weights that are not here are downloaded. Fields of the
config are set as for train, --config.field=value.
Exit status: 0 all is ok, 1 something failed.
"""

import argparse
from pathlib import Path

from jft.cli.config_file import read_config

TAKES_FIELDS = True  # of the config, --config.field=value


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("config", metavar="CONFIG", help="the config file; each of its arms is checked")
    parser.add_argument("--workdir", metavar="DIR", help="folder of the run; default: runs/<name of the config file>")
    parser.add_argument(
        "--overfit_steps", type=int, default=30, metavar="N", help="to learn one batch by heart; default: 30"
    )


def run(args: argparse.Namespace) -> int:
    """Prints a line a finding; 1 if something is wrong."""
    from jft.config import arms_of
    from jft.training.check import check

    if args.overfit_steps < 1:
        raise ValueError(f"--overfit_steps {args.overfit_steps}: at least 1.")
    config = read_config(args.config, args.fields)
    workdir = args.workdir or str(Path("runs") / Path(args.config.split(":")[0]).stem)
    failed = 0
    for folder, arm in arms_of(workdir, config):
        if config.arms:
            print(f"\n== {folder}", flush=True)
        for finding in check(arm, folder, overfit_steps=args.overfit_steps):
            print(finding, flush=True)
            failed += finding.wrong
    print(f"\n{failed} failed." if failed else "\nAll is ok.")
    return int(failed > 0)
