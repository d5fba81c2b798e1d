"""Writes a report of a run, RUN/report.html: one HTML file that needs no network.

It shows the model, data and settings; training curves; ten example images; the confusion matrix; calibration; the
images with the largest losses, with Grad-CAM and the nearest training images; training labels that look wrong; where
the time went; and the commands that reproduce the run.
"""

import argparse

from jft.cli import main
from jft.utils import waiting
from jft.utils.text import RUN


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("run", metavar="RUN", help=RUN)
    parser.add_argument(
        "--split", default="test", choices=("test", "validation"), help="split to evaluate; default: test"
    )
    parser.add_argument("--out", metavar="FILE", help="default: RUN/report.html")
    parser.add_argument("--stage", help="stage for Grad-CAM; default: the last one with a feature map")
    main.add_code_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Writes it."""
    from jft.evaluation.report import write_report
    from jft.evaluation.results import seen_warning

    waiting.doing("restoring the run and reading the images")
    path, result = write_report(args.run, split=args.split, out=args.out, stage=args.stage)
    print(f"wrote {path}, {path.stat().st_size / 1e6:.1f} MB")
    if told := seen_warning(result):
        print(told)
    return 0
