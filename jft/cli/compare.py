"""Trains and tests several configs, each with several seeds, and compares them.

Writes a table (compare.md, compare.csv) and a plot (compare.png) to --out. Runs share cached features. To resume, run
the same command again: finished runs are not repeated. Config fields are set for all configs, as for train.
"""

import argparse

from jft.cli import field_flags

TAKES_FIELDS = True  # of every config, --config.field=value


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument(
        "config", nargs="+", metavar="CONFIG", help="config files, or names of configs that come with jft"
    )
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds for each config; default: 3")
    parser.add_argument("--out", default="runs/compare", metavar="DIR", help="output folder; default: runs/compare")
    field_flags.add(parser)


def run(args: argparse.Namespace) -> int:
    """Compares, and prints the table."""
    from jft.cli.choose_config import choose_config
    from jft.training.compare import compare, markdown

    if args.seeds < 1:
        raise ValueError(f"--seeds {args.seeds}: at least 1.")
    configs = [choose_config(path, None, args.settings, args.fields, command="compare") for path in args.config]
    rows = compare(configs, args.out, seeds=args.seeds)
    print(f"\n{markdown(rows)}\n\n{args.out} holds the table, as Markdown and CSV, and the plot.")
    return 0
