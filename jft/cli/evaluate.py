"""Tests a run on its test images, and writes the figures to RUN/eval.json.

A folder of arms gives a table of its runs. With several runs, RUN1 RUN2 ..., their probabilities are averaged: an
ensemble. With --against, RUN is compared with another on the same images, by McNemar's test.
"""

import argparse

from jft.cli import main
from jft.utils import cluster, waiting
from jft.utils.text import RUN


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("runs", nargs="*", metavar="RUN", help=f"{RUN}; or several runs, or a folder of arms")
    parser.add_argument("--checkpoint", nargs="+", action=main.Renamed, now="RUN without --checkpoint")
    parser.add_argument(
        "--split",
        default="test",
        choices=("train", "validation", "test", "all"),
        help="images to evaluate; all: of other data, unsplit (of the run's own it includes the training images)",
    )
    parser.add_argument("--dataset", help="other data of the same classes: folder, cifar10, digits, a TFDS name")
    parser.add_argument("--data", metavar="DIR", help="where the data lie; default: where they lay in training")
    main.add_column_arguments(parser)
    parser.add_argument("--batch-size", type=int, help="images at a time; default: the run's eval_batch_size")
    parser.add_argument("--skip-unreadable", action="store_true", help="leave out images that cannot be read")
    parser.add_argument("--tta", choices=("flip", "crops"), help="also average over mirrored images; or five crops")
    parser.add_argument("--against", metavar="RUN", help="the run to compare with")
    main.add_code_argument(parser)
    cluster.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the figures."""
    from jft.cli.arms import arms_in, table
    from jft.evaluation.evaluate import evaluate, evaluate_against, evaluate_ensemble
    from jft.evaluation.results import format_evaluation
    from jft.utils import distributed

    images = {
        "split": args.split,
        "dataset": args.dataset,
        "data_dir": args.data,
        "batch_size": args.batch_size,
        "skip_unreadable": args.skip_unreadable,
        "image_column": args.image_column,
        "label_column": args.label_column,
    }
    runs = [*args.runs, *getattr(args, "checkpoint", [])]
    if not runs:
        raise ValueError("no run is given: jft evaluate RUN, the folder that train wrote.")
    cluster.join_as(args, preemptible=False)
    if (args.tta or args.against) and len(runs) > 1:
        raise ValueError(f"--tta and --against are for one run, and {len(runs)} are given: an ensemble.")
    if args.tta and args.against:
        raise ValueError("--tta and --against do not go together: runs are compared without augmentation.")
    waiting.doing("restoring the run and reading the images")
    arms = arms_in(runs[0]) if len(runs) == 1 else {}
    if arms and args.against:
        raise ValueError(f"--against is for one run, and {runs[0]} holds several: give one of {', '.join(arms)} in it.")
    if arms:
        results = {name: evaluate(run, tta=args.tta or "", **images) for name, run in arms.items()}
        distributed.say(table(results, args.split))
        distributed.say(f"\nEach is a run of its own: jft evaluate {next(iter(arms.values()))}")
        return 0
    if args.against:
        result = evaluate_against(args.against, runs[0], **images)
    elif len(runs) == 1:
        result = evaluate(runs[0], tta=args.tta or "", **images)
    else:
        result = evaluate_ensemble(runs, **images)
    distributed.say(format_evaluation(result))
    return 0
