"""Evaluates a run: python scripts/evaluate.py --checkpoint RUN [--split test] [--dataset NAME] [--data DIR]

With several runs, --checkpoint RUN1 RUN2 ..., their probabilities are averaged: an ensemble.
"""

import argparse
import sys

from jft import runtime

runtime.configure()

from jft import cluster, distributed  # noqa: E402


def main() -> int:
    """Prints the figures, of one run also into RUN/eval.json; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--checkpoint", required=True, nargs="+", metavar="RUN", help="folder that scripts/train.py wrote, or several"
    )
    parser.add_argument(
        "--split",
        default="test",
        choices=("train", "validation", "test", "all"),
        help="pictures to evaluate; all: of other data, unsplit (of the run's own it includes the training pictures)",
    )
    parser.add_argument("--dataset", help="other data of the same classes: folder, cifar10, digits, a TFDS name")
    parser.add_argument("--data", metavar="DIR", help="where the data lie; default: where they lay in training")
    parser.add_argument("--batch_size", type=int, help="pictures at a time; default: the run's eval_batch_size")
    parser.add_argument("--skip_unreadable", action="store_true", help="leave out pictures that cannot be read")
    cluster.add_arguments(parser)
    args = parser.parse_args()

    from jft.evaluate import evaluate, evaluate_ensemble, format_evaluation

    pictures = {
        "split": args.split,
        "dataset": args.dataset,
        "data_dir": args.data,
        "batch_size": args.batch_size,
        "skip_unreadable": args.skip_unreadable,
    }
    try:
        cluster.join_as(args, preemptible=False)
        if len(args.checkpoint) == 1:
            result = evaluate(args.checkpoint[0], **pictures)
        else:
            result = evaluate_ensemble(args.checkpoint, **pictures)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    distributed.say(format_evaluation(result))
    return 0


if __name__ == "__main__":
    with cluster.failing_at_once():
        sys.exit(main())
