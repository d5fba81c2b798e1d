"""Checks the installation, and whether several machines can train together.

It prints versions and devices, times an all-reduce, and checks that every host can write to the folder of the runs.
Start it on each host, as you start training. Each line says ok, or FAIL with the reason.
"""

import argparse
import time
from pathlib import Path

from jft.utils import cluster


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("--workdir", default="runs", metavar="DIR", help="folder of the runs; default: runs")
    parser.add_argument("--timeout", type=int, default=60, help="seconds to wait for the other processes; default: 60")
    cluster.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Prints a line a check; 1 if something is wrong."""
    from jft.utils import distributed
    from jft.utils.doctor import examine
    from jft.utils.findings import Finding

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
