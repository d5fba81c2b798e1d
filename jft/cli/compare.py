"""Trains and tests configs side by side, each with several seeds.

Writes a table (compare.md, compare.csv) and a plot (compare.png) into --out. Features that runs have in common are
computed once; what is trained there already is not trained again, so the same command goes on where it was stopped.
Fields of every config are set as for train, --config.field=value.
"""

import argparse

from jft.cli import field_flags

TAKES_FIELDS = True  # of every config, --config.field=value


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("config", nargs="+", metavar="CONFIG", help="config files, or names of configs, as of train")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each config; default: 3")
    parser.add_argument("--out", default="runs/compare", metavar="DIR", help="default: runs/compare")
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
