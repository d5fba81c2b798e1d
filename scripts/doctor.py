"""Checks whether these machines can train together: python scripts/doctor.py [--workdir DIR] [--distributed]

Versions, devices, a timed all-reduce, and a folder that every host sees. Start it on each host, as the training is.
Exit status: 0 all well, 1 something is wrong, which its line says.
"""

import argparse
import sys
import time
from pathlib import Path

from jft import runtime

runtime.configure()

from jft import cluster, distributed  # noqa: E402


def main() -> int:
    """Prints a line a check; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", default="runs", metavar="DIR", help="where runs are to be written; default: runs")
    parser.add_argument("--timeout", type=int, default=60, help="seconds to wait for the others; default: 60")
    cluster.add_arguments(parser)
    args = parser.parse_args()

    from jft.doctor import Finding, examine

    start = time.monotonic()
    try:
        cluster.join_as(args, initialization_timeout=args.timeout, heartbeat_timeout=args.timeout, preemptible=False)
    except (ValueError, OSError) as error:
        print(Finding("processes", str(error), wrong=True))
        return 1
    if args.distributed or args.coordinator:
        distributed.say(str(Finding("processes", f"all came within {time.monotonic() - start:.1f} s")))
    findings = examine(Path(args.workdir))
    for finding in findings:
        distributed.say(str(finding))
    return int(any(finding.wrong for finding in findings))


if __name__ == "__main__":
    with cluster.failing_at_once():
        sys.exit(main())
