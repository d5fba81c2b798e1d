"""Checks before a run that a config will train, and how long that will take. Writes nothing into the run's folder.

It checks the folder, data, weights and disk, and downloads missing weights. It compiles the steps of the run and prints
their memory per device, FLOPs and time, and the expected duration of the run. Then it overfits one batch, which shows
that the gradient reaches every trainable parameter. Each line says ok, or FAIL with a remedy. Config fields are set as
for train. Exit status: 0 all checks passed, 1 one failed.

With --rate it does a learning-rate range test instead: at most 100 steps at rates that rise from 1e-7 to 10, on a copy
of the state. It prints the losses and the rates to take, and draws the curve as a page.

With --images-only it looks at the images alone, without weights: how many there are of each class and size, which
cannot be read, which occur twice or look almost alike, within and across splits, and which are odd.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from jft.cli import field_flags, main
from jft.utils import waiting

if TYPE_CHECKING:
    from jft.config import Config

TAKES_FIELDS = True  # of the config, --config.field=value


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("what", nargs="?", metavar="IMAGES|CONFIG", help=field_flags.WHAT)
    parser.add_argument("--config", action=main.Renamed, now="CONFIG without --config", default=None)
    parser.add_argument("--workdir", metavar="DIR", help="folder of the run; default: runs/NAME of images or config")
    parser.add_argument(
        "--overfit-steps", type=int, default=30, metavar="N", help="most steps to overfit one batch; default: 30"
    )
    parser.add_argument("--images-only", action="store_true", help="look at the images alone")
    parser.add_argument("--rate", action="store_true", help="test learning rates instead")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="with --images-only: write what was found as .json, or the copies as .csv; with --rate: the page",
    )
    field_flags.add(parser)


def run(args: argparse.Namespace) -> int:
    """Prints a line a finding; 1 if something is wrong."""
    from jft.cli.choose_config import choose_config
    from jft.config import arms_of
    from jft.training.check import check

    if args.overfit_steps < 1:
        raise ValueError(f"--overfit-steps {args.overfit_steps}: at least 1.")
    if args.rate and args.images_only:
        raise ValueError("--rate trains and --images-only does not: give one of them.")
    if args.out and not (args.images_only or args.rate):
        raise ValueError("--out goes with --images-only or --rate, whose findings it writes.")
    if args.out and args.images_only and args.out.suffix.lower() not in (".json", ".csv"):
        raise ValueError(f"--out {args.out}: give a .json file, or a .csv file for the copies alone.")
    settings = {**args.settings, "weights": ""} if args.images_only else args.settings
    name, config = choose_config(args.what, args.config, settings, args.fields, command="check")
    if args.images_only:
        return _look(config, args.out)
    if args.out and config.arms:
        raise ValueError(
            f"--out {args.out} is one page, and the config has {len(config.arms)} arms: leave --out out, and each "
            "arm's page is written beside its folder."
        )
    workdir = args.workdir or str(Path("runs") / name)
    if args.rate:
        for folder, arm in arms_of(workdir, config):
            _rates(arm, folder, args.out)
        return 0
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


def _rates(config: "Config", workdir: str, out: Path | None) -> None:
    """Prints and draws a learning-rate range test."""
    from jft.evaluation.report.page import check_out
    from jft.evaluation.report.rate_page import write_rate_page
    from jft.training.check import planned
    from jft.training.rate_test import phase_of, rate_test

    out = out or Path(f"{workdir}-rate.html")
    out.parent.mkdir(parents=True, exist_ok=True)
    check_out(out)
    waiting.doing("reading the images and the weights")
    run = planned(config)
    found = rate_test(run, phase_of(run))
    about = f"Phase {found.phase!r}, {len(found.rates)} steps of {config.batch_size} images"
    about += f"; {found.ended}." if found.ended else "."
    print(f"\n     rate      loss\n{found.table()}\n\n{about}\n{found.told()}")
    marked = [rate for rate in (found.steepest, found.tenth_of_minimum) if rate is not None]
    write_rate_page(out, workdir, found.told(), about, (found.rates, found.losses, found.smoothed), marked)
    print(f"wrote {out}")


def _look(config: "Config", out: Path | None) -> int:
    """Prints what the images are, and writes it; 1 if some cannot be read."""
    from jft.data import survey
    from jft.utils.logger import write_json
    from jft.utils.registry import code_allowed

    waiting.doing("looking at the images")
    with code_allowed():  # a data set of the user's own
        found = survey.of_config(config)
    print(found)
    if out and out.suffix.lower() == ".csv":
        found.duplicates.write_csv(out)
    elif out:
        write_json(out, found.to_json())
    if out:
        print(f"wrote {out}")
    return int(bool(found.unreadable))
