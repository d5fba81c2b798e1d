"""The pre-flight: whether a config will train, and what that takes. Leaves nothing in the run's folder.

Looks at folder, data, weights, input and disk; compiles what the run would, and prints its memory on each device, FLOPs
and time, and from that the run's duration; and learns one batch by heart, which shows whether the gradient reaches all
that is to learn. A line each, ok or FAIL with the remedy. Weights that are not here are downloaded. Fields of the
config are set as for train, --config.field=value.
Exit status: 0 all is ok, 1 something failed.
"""

import argparse
from pathlib import Path

from jft.cli import field_flags, main
from jft.utils import waiting

TAKES_FIELDS = True  # of the config, --config.field=value


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("what", nargs="?", metavar="IMAGES|CONFIG", help=field_flags.WHAT)
    parser.add_argument("--config", action=main.Renamed, now="CONFIG without --config", default=None)
    parser.add_argument("--workdir", metavar="DIR", help="folder of the run; default: runs/<name of the config file>")
    parser.add_argument(
        "--overfit-steps", type=int, default=30, metavar="N", help="to learn one batch by heart; default: 30"
    )
    field_flags.add(parser)


def run(args: argparse.Namespace) -> int:
    """Prints a line a finding; 1 if something is wrong."""
    from jft.cli.choose_config import choose_config
    from jft.config import arms_of
    from jft.training.check import check

    if args.overfit_steps < 1:
        raise ValueError(f"--overfit-steps {args.overfit_steps}: at least 1.")
    name, config = choose_config(args.what, args.config, args.settings, args.fields, command="check")
    workdir = args.workdir or str(Path("runs") / name)
    waiting.doing("reading the images and the weights")
    failed = 0
    for folder, arm in arms_of(workdir, config):
        if config.arms:
            print(f"\n== {folder}", flush=True)
        for finding in check(arm, folder, overfit_steps=args.overfit_steps):
            print(finding, flush=True)
            failed += finding.wrong
    print(f"\n{failed} failed." if failed else "\nAll checks passed.")
    return int(failed > 0)
