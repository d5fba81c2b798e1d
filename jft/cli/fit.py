"""Trains the best model for your images within a time budget.

    jft fit flower_photos                     ten minutes; ends with runs/flower_photos/report.html
    jft fit flower_photos --minutes 60

It looks at the images and says what is odd about them; compares the pretrained networks on this machine by probes
(`jft weights fetch NAME` gets more); fine-tunes the best one from its probe for as long as the budget allows, and keeps
the average of the two that is best on images held out, so that the probe is what it falls back to; then tests it once
and writes the report. The run's folder also holds images.json and config.py, which trains the same again without a
clock. On Ctrl-C it saves; `jft train DIR/config.py --workdir DIR` goes on. Config fields are set as for train.
"""

import argparse
from pathlib import Path

from jft.cli import field_flags
from jft.utils import waiting
from jft.utils.fields import DECIDED_BY_FIT

TAKES_FIELDS = True  # of the config


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument(
        "data", metavar="IMAGES", help="a folder of class folders, a .csv file, CIFAR-10, GTSRB, digits"
    )
    parser.add_argument("--minutes", type=float, default=10.0, metavar="N", help="the budget; default: 10")
    parser.add_argument(
        "--models",
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="models or weight sets to compare, such as 'vgg*' resnet50.keras; default: all on this machine",
    )
    parser.add_argument("--workdir", metavar="DIR", help="folder of the run; default: runs/NAME of the images")
    field_flags.add(parser, skip=DECIDED_BY_FIT)


def run(args: argparse.Namespace) -> int:
    """Fits, tests and reports."""
    from jft.cli.arms import write_page
    from jft.config import default_config, run_name
    from jft.data.detect import detect
    from jft.training.fit import fit

    if not args.minutes > 0:
        raise ValueError(f"--minutes {args.minutes:g}: give a budget above 0.")
    settings, config = dict(args.settings), default_config()
    found = {"data_dir": str(Path(args.data).absolute())} if settings.get("dataset") else detect(args.data)
    config.update(found)
    field_flags.apply(config, settings)
    workdir = Path(args.workdir or Path("runs") / run_name(config))
    waiting.doing("looking at the images")
    weights_path = settings.get("weights_path", "")
    result = fit(config, workdir, minutes=args.minutes, patterns=args.models, weights_path=weights_path)
    if not result["finished"]:
        return 128 + result["signal"]
    write_page(workdir)
    return 0
