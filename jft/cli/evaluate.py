"""Evaluates a run on its test images, and writes the metrics to RUN/eval.json.

For a folder of arms, such as runs/quickstart, it prints one table of all arms. For several runs, RUN1 RUN2 ..., it
evaluates their ensemble: the average of their probabilities. With --against, it compares RUN with another run on the
same images, by McNemar's test.
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
        help="split to evaluate; all: every image of other data, or of the run's own, training images included",
    )
    parser.add_argument("--dataset", help="other data with the same classes: folder, cifar10, digits, a TFDS name")
    parser.add_argument("--data", metavar="DIR", help="folder of the images; default: where they were in training")
    main.add_column_arguments(parser)
    parser.add_argument("--batch-size", type=int, help="images at a time; default: the run's eval_batch_size")
    parser.add_argument("--skip-unreadable", action="store_true", help="skip images that cannot be read")
    parser.add_argument(
        "--tta",
        choices=("flip", "crops"),
        help="test-time augmentation: average over mirrored images, or over five crops",
    )
    parser.add_argument("--against", metavar="RUN", help="another run to compare RUN with")
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
