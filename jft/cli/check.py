"""Checks before a run that a config will train, and how long that will take. Writes nothing into the run's folder.

It checks the folder, data, weights and disk, and downloads missing weights. It compiles the steps of the run and prints
their memory per device, FLOPs and time, and the expected duration of the run. Then it overfits one batch, which shows
that the gradient reaches every trainable parameter. Each line says ok, or FAIL with a remedy. Config fields are set as
for train. Exit status: 0 all checks passed, 1 one failed.
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
    parser.add_argument("--workdir", metavar="DIR", help="folder of the run; default: runs/NAME of images or config")
    parser.add_argument(
        "--overfit-steps", type=int, default=30, metavar="N", help="most steps to overfit one batch; default: 30"
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
