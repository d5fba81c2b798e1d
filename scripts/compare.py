"""Trains and tests configs side by side: python scripts/compare.py CONFIG... [--seeds 3] [--set field=value ...]

Writes a table (compare.md, compare.csv) and a plot (compare.png) into --out. Features that runs have in common are
computed once; what is trained there already is not trained again, so the same command goes on where it was stopped.
"""

import argparse
import sys
from pathlib import Path

from jft import runtime

runtime.configure()


def main() -> int:
    """Compares; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="+", help="config files, as of scripts/train.py")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each config; default: 3")
    parser.add_argument("--out", default="runs/compare", metavar="DIR", help="default: runs/compare")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="in every config")
    args = parser.parse_args()

    from jft.compare import compare, load_config, markdown

    try:
        if args.seeds < 1:
            raise ValueError(f"--seeds {args.seeds}: at least 1.")
        rows = compare(
            [(Path(path).stem, load_config(path, args.set)) for path in args.config], args.out, seeds=args.seeds
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if rows is None:
        print("Stopped; the same command goes on.")
        return 130
    plot = ", and the plot" if (Path(args.out) / "compare.png").exists() else ""
    print(f"\n{markdown(rows)}\n\n{args.out} holds the table, as Markdown and CSV{plot}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
