"""Prints the stages and layers of a model with shapes, parameters and FLOPs, and draws its chain of stages."""

import argparse
import os
from pathlib import Path

from jft.cli import main

os.environ["JAX_PLATFORMS"] = "cpu"  # shapes alone: no accelerator's memory is claimed for them


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument(
        "model", nargs="?", default=argparse.SUPPRESS, metavar="MODEL", help="name of a model, such as vgg16"
    )
    parser.add_argument("--model", action=main.Renamed, now="MODEL without --model")
    parser.add_argument("--num-classes", type=int, metavar="N", help="default: the weight set's, or 1000")
    parser.add_argument(
        "--freeze", default="", metavar="STAGE", help="as in a config: a stage, or patterns over parameter names"
    )
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="default: the weight set's or the model's own")
    parser.add_argument("--weights", metavar="TAG", help="the variant of the model for this weight set, such as keras")
    parser.add_argument(
        "--aux-heads", action="store_true", help="include the auxiliary heads, which are used only in training"
    )
    parser.add_argument("--graph", type=Path, metavar="FILE", help="also draw the chain to a .svg or .png file")


def run(args: argparse.Namespace) -> int:
    """Prints the table and draws the chain."""
    from jft.models import plot
    from jft.models.summary import format_summary
    from jft.training import summary

    if "model" not in args:
        raise ValueError("give a model, such as `jft summary vgg16`.")
    if args.graph:
        plot.check_path(args.graph)
    model, size = summary.choose_model(
        args.model,
        num_classes=args.num_classes,
        weights=args.weights,
        image_size=args.image_size,
        aux_heads=args.aux_heads,
    )
    title = f"{args.model}.{args.weights}" if args.weights else args.model
    result = summary.summarize(title, model, size, args.freeze)
    print(format_summary(result))
    if args.graph:
        plot.write_graph(result, args.graph)
        print(f"wrote {args.graph}")
    return 0
