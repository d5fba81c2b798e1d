"""Writes one self-contained page about a run: RUN/report.html, images inline, no network needed.

What was trained on what, curves, ten images, confusions, how sure it is, the largest losses with where it looked and
the training images nearest to them, training labels that look wrong, where the time went, how to do it again.
"""

import argparse

from jft.cli import main
from jft.utils import waiting
from jft.utils.text import RUN


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("run", metavar="RUN", help=RUN)
    parser.add_argument("--split", default="test", choices=("test", "validation"), help="images to judge it by")
    parser.add_argument("--out", metavar="FILE", help="default: RUN/report.html")
    parser.add_argument("--stage", help="whose Grad-CAM is drawn; default: the last one with a map")
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
