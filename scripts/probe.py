"""What frozen features are worth by themselves: python scripts/probe.py --config CONFIG [--set field=value ...]

Ridge, logistic regression (L-BFGS) and nearest neighbours on the features of a config's last stage before the head
(config.cut puts that earlier), each chosen on validation and measured on test. The features are cached.
"""

import argparse
import sys
from pathlib import Path

from jft import runtime

runtime.configure()


def main() -> int:
    """Prints a line a method; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, metavar="FILE", help="config file, as of scripts/train.py")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="fields of the config")
    args = parser.parse_args()

    from jft.baselines import format_baselines, measure
    from jft.compare import arms_of, load_config

    try:
        for name, config in arms_of(Path(args.config).stem, load_config(args.config, args.set)):
            baselines = measure(config)
            if baselines is None:
                print("Stopped; the same command goes on.")
                return 130
            print(f"{name}\n{format_baselines(baselines)}")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
