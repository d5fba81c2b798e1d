"""Runs a stretch of a run again: python scripts/replay.py RUN --step N

Restores the checkpoint before step N, trains on to N, and says whether metrics and the parameters' fingerprint are what
the run logged. Nothing in RUN changes. Exit status: 0 the same, 1 something differs or cannot be compared, 130 stopped.
"""

import argparse
import sys

from jft import runtime

runtime.configure()

from jft import cluster, distributed  # noqa: E402


def main() -> int:
    """Prints the comparison; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="folder that scripts/train.py wrote")
    parser.add_argument("--step", type=int, required=True, help="to train to; one that the run logged")
    cluster.add_arguments(parser)
    args = parser.parse_args()

    from jft.replay import format_replay, replay

    try:
        cluster.join_as(args)
        found = replay(args.run, args.step)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped; nothing was compared.", file=sys.stderr)
        return 130
    distributed.say(format_replay(found, args.run))
    return int(not found.same)


if __name__ == "__main__":
    with cluster.failing_at_once():
        sys.exit(main())
