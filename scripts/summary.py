"""The table of a model: python scripts/summary.py --model vgg16 [--num_classes 10] [--freeze fc7] [--graph FILE.svg]"""

import argparse
import os
import sys
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"  # shapes alone: no accelerator's memory is claimed for them

from jft import runtime

runtime.configure()


def main() -> int:
    """Prints the table and draws the chain; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="such as vgg16")
    parser.add_argument("--num_classes", type=int, help="default: the weight set's, or 1000")
    parser.add_argument("--freeze", default="", help="as in a config: a stage, or patterns over parameter names")
    parser.add_argument("--image_size", type=int, metavar="PIXELS", help="default: the weight set's or the model's own")
    parser.add_argument("--weights", metavar="TAG", help="the model in the form that these weights need, such as keras")
    parser.add_argument("--aux_heads", action="store_true", help="with the auxiliary heads, which only training runs")
    parser.add_argument("--graph", type=Path, metavar="FILE", help="also draw the chain: a .svg or a .png")
    args = parser.parse_args()

    from jft import graph, summary

    try:
        if args.graph:
            graph.check_path(args.graph)
        model, size = summary.choose_model(
            args.model,
            num_classes=args.num_classes,
            weights=args.weights,
            image_size=args.image_size,
            aux_heads=args.aux_heads,
        )
        title = f"{args.model}.{args.weights}" if args.weights else args.model
        result = summary.summarise(title, model, size, args.freeze)
        print(summary.format_summary(result))
        if args.graph:
            graph.write_graph(result, args.graph)
            print(f"wrote {args.graph}")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
