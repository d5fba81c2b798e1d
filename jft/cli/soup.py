"""Averages the weights of several runs into a new one, greedily (Wortsman et al., 2022).

Runs are tried from the best on validation to the worst; each stays in the average if validation does not get worse by
it. They must be of the same network, classes, training and validation images, such as those of a sweep with one seed.
The new run is then tested, and is a run like any other; its soup.json says what was tried.
"""

import argparse
from pathlib import Path

from jft.cli import main


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of the runs, two or more")
    parser.add_argument("--to", required=True, type=Path, metavar="NEW_RUN", help="folder of the new run")
    main.add_code_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Makes the soup, prints what was tried, and tests it."""
    from jft.evaluation.evaluate import evaluate
    from jft.evaluation.results import format_evaluation
    from jft.training.soup import soup, table

    if missing := [one for one in args.runs if not Path(one).is_dir()]:
        raise ValueError(f"there is no run {missing[0]}: give the folders of finished runs.")
    print(table(soup(args.runs, args.to)), flush=True)
    print(format_evaluation(evaluate(args.to)))
    return 0
