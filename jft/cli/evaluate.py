"""Figures of a run on its test images, also into RUN/eval.json.

With several runs, --checkpoint RUN1 RUN2 ..., their probabilities are averaged: an ensemble. With --against, RUN is
compared with another on the same images, by McNemar's test.
"""

import argparse

from jft.cli import main
from jft.utils import cluster, distributed
from jft.utils.registry import code_allowed
from jft.utils.text import RUN


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("--checkpoint", required=True, nargs="+", metavar="RUN", help=f"{RUN}; or several runs")
    parser.add_argument(
        "--split",
        default="test",
        choices=("train", "validation", "test", "all"),
        help="images to evaluate; all: of other data, unsplit (of the run's own it includes the training images)",
    )
    parser.add_argument("--dataset", help="other data of the same classes: folder, cifar10, digits, a TFDS name")
    parser.add_argument("--data", metavar="DIR", help="where the data lie; default: where they lay in training")
    main.add_column_arguments(parser)
    parser.add_argument("--batch_size", type=int, help="images at a time; default: the run's eval_batch_size")
    parser.add_argument("--skip_unreadable", action="store_true", help="leave out images that cannot be read")
    parser.add_argument("--tta", choices=("flip", "crops"), help="also average over mirrored images; or five crops")
    parser.add_argument("--against", metavar="RUN", help="the run to compare with")
    parser.add_argument("--allow-code", action="store_true", help="import the run's own metrics (module:function)")
    cluster.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the figures."""
    from jft.evaluation.evaluate import evaluate, evaluate_against, evaluate_ensemble
    from jft.evaluation.results import format_evaluation

    images = {
        "split": args.split,
        "dataset": args.dataset,
        "data_dir": args.data,
        "batch_size": args.batch_size,
        "skip_unreadable": args.skip_unreadable,
        "image_column": args.image_column,
        "label_column": args.label_column,
    }
    cluster.join_as(args, preemptible=False)
    if (args.tta or args.against) and len(args.checkpoint) > 1:
        raise ValueError("--tta and --against are for one run, and --checkpoint names several: an ensemble.")
    if args.tta and args.against:
        raise ValueError("--tta and --against do not go together: runs are compared without augmentation.")
    with code_allowed(args.allow_code):
        if args.against:
            result = evaluate_against(args.against, args.checkpoint[0], **images)
        elif len(args.checkpoint) == 1:
            result = evaluate(args.checkpoint[0], tta=args.tta or "", **images)
        else:
            result = evaluate_ensemble(args.checkpoint, **images)
    distributed.say(format_evaluation(result))
    return 0
