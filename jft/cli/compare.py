"""Trains and tests several configs, each with several seeds, and compares them.

    jft compare configs/few_squeezenet.py configs/few_resnet18.py --seeds 5 --data-dir DIR
    jft compare my_config.py --sweep learning_rate=1e-4,3e-4,1e-3 --sweep flip=yes,no

With --halving it searches instead: all arms are trained a little, the better half by validation loss twice as far, and
so on (successive halving), and the one that is left is tested. Writes halving.json to --out.

Otherwise it writes tables (compare.md, .tex, .csv, pairs.csv) and plots (compare.png, curves.png) to --out. Runs share
cached features. To resume, run the same command again: finished runs are not repeated. Config fields are set for all
configs, as for train.
"""

import argparse
from typing import TYPE_CHECKING

from jft.cli import field_flags

if TYPE_CHECKING:
    from jft.config import Config

TAKES_FIELDS = True  # of every config, --config.field=value


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument(
        "config", nargs="+", metavar="CONFIG", help="config files, or names of configs that come with jft"
    )
    parser.add_argument("--seeds", type=int, help="number of seeds for each config; default: 3, with --halving 1")
    parser.add_argument(
        "--sweep",
        action="append",
        default=[],
        metavar="FIELD=A,B",
        help="train each config with each of these values of a field; several --sweep make a grid",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        help="runs at a time, each in a process of its own on one GPU; default: 1, on all devices",
    )
    parser.add_argument(
        "--halving",
        action="store_true",
        help="search: train all a little, the better half by validation loss twice as far, and so on; test the best",
    )
    parser.add_argument("--out", default="runs/compare", metavar="DIR", help="output folder; default: runs/compare")
    field_flags.add(parser)


def run(args: argparse.Namespace) -> int:
    """Compares, and prints the table."""
    from jft.cli.choose_config import choose_config
    from jft.training.comparison.compare import compare
    from jft.training.comparison.sweep import with_sweep
    from jft.training.comparison.table import markdown

    if args.halving and (args.workers != 1 or args.seeds is not None):
        raise ValueError("--halving trains one arm after the other, with one seed: leave --workers and --seeds out.")
    args.seeds = 3 if args.seeds is None else args.seeds
    for name in ("seeds", "workers"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} {getattr(args, name)}: at least 1.")
    sweep = dict(map(field_flags.parse_values, args.sweep))
    if len(sweep) < len(args.sweep):
        raise ValueError(f"--sweep {' --sweep '.join(args.sweep)}: give each field once, with all of its values.")
    configs = [choose_config(path, None, args.settings, args.fields, command="compare") for path in args.config]
    if sweep:
        configs = [(name, with_sweep(config, sweep)) for name, config in configs]
    if args.halving:
        return _search(configs, args.out)
    rows, _ = compare(configs, args.out, seeds=args.seeds, workers=args.workers)
    print(f"\n{markdown(rows)}\n\n{args.out} holds the tables, as Markdown, LaTeX and CSV, and the plots.")
    return 0


def _search(configs: "list[tuple[str, Config]]", out: str) -> int:
    """Searches, prints the losses, and tests the winner."""
    from jft.evaluation.evaluate import evaluate
    from jft.evaluation.results import format_evaluation
    from jft.training.comparison.halving import search, table

    rounds, winner = search(configs, out)
    print(f"\nvalidation loss, by the share of the steps\n{table(rounds)}\n\n{rounds[-1].kept[0]} in {winner}:")
    print(format_evaluation(evaluate(winner)))
    return 0
