"""One command, `jft VERB ...`; the scripts are the same verbs, one a file.

Exit status of all of them: 0 done; 1 wrong input, or something found wrong, which a line says; 75 another process of
the run failed, start all again; 128 + n stopped by signal n: 130 by Ctrl-C, 143 by SIGTERM, start again to go on.
"""

import argparse
import importlib
import os
import re
import signal
import sys
import textwrap
from collections.abc import Sequence
from typing import NoReturn

from jft.utils import runtime
from jft.utils.text import one_record, terminal_stream
from jft.utils.version import __version__

# verb -> what it does; each is a module of jft.cli with `arguments(parser)` and `run(args) -> exit status`.
VERBS = {
    "train": "train what a config says, or go on with it",
    "evaluate": "figures of a run, alone, in an ensemble or against another",
    "predict": "classes and probabilities of images",
    "explain": "where a run looks, what it learnt from that is like it, which labels look wrong",
    "report": "one self-contained page about a run",
    "export": "a run in forms that work without jft",
    "suggest": "which model suits these images and this machine",
    "check": "whether a config will train: memory, time, data, weights",
    "compare": "configs side by side, over several seeds",
    "probe": "what frozen features are worth by themselves",
    "extract_features": "features of any stage in one file",
    "weights": "list, fetch, convert, verify and export weights",
    "summary": "the table of a model, and a drawing",
    "doctor": "whether these machines can train together",
    "replay": "run a stretch of a run again and compare",
}


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Fills paragraphs to the terminal's width; what is indented or stands in columns stays as it is."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.split("\n\n")
        return "\n\n".join(
            paragraph if re.search(r"^ |\S {2}", paragraph, re.M) else textwrap.fill(paragraph, width)
            for paragraph in paragraphs
        )


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the command line as everything else that is wrong: in one line, with status 1."""

    def __init__(self, **options: object) -> None:
        options = {"formatter_class": _Formatter, "allow_abbrev": False, **options}
        super().__init__(**options)

    def error(self, message: str) -> NoReturn:
        """Ends the process."""
        self.exit(1, f"error: {message} ({self.prog} --help)\n")


def add_column_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --image-column and --label-column, for verbs that read a CSV file which no config describes."""
    told = "of a CSV file, with its images; likewise --label-column, with their labels"  # a screen is short
    for what, help_ in (("image", told), ("label", argparse.SUPPRESS)):
        parser.add_argument(f"--{what}-column", default="", metavar="NAME", help=help_)
        parser.add_argument(
            f"--{what}_column", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )  # as a config's field


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs `jft VERB ...`, with the command line's arguments by default; ends the process."""
    verb, *rest = [*(sys.argv[1:] if argv is None else argv)] or ["--help"]
    if verb in ("-h", "--help", "help"):
        print(usage())
        sys.exit(0)
    if verb == "--version":
        print(f"jft {__version__}")
        sys.exit(0)
    if verb not in VERBS:
        from jft.utils.tree import did_you_mean

        sys.exit(f"error: unknown verb {verb!r}{did_you_mean(verb, VERBS) or '.'} (jft --help)")
    run(verb, rest, prog=f"jft {verb}")


def usage() -> str:
    """All verbs on one screen."""
    verbs = "\n".join(f"  {verb:<17} {told}" for verb, told in VERBS.items())
    return (
        f"usage: jft VERB ...\n\n{verbs}\n\n`jft VERB --help` says more.\n\n{__doc__.partition(chr(10) * 2)[2].strip()}"
    )


def run(verb: str, argv: Sequence[str] | None = None, *, prog: str | None = None) -> NoReturn:
    """Runs one verb and ends the process with its status.

    Args:
      verb: a key of `VERBS`.
      argv: its arguments; None: the command line's.
      prog: what help calls it; None: the name of the script.
    """
    sys.stdout.reconfigure(errors="surrogateescape")  # names of files are bytes
    # Whatever is printed, in tables, errors and warnings, may quote the name of a stranger's file or class.
    sys.stdout, sys.stderr = map(terminal_stream, (sys.stdout, sys.stderr))
    try:
        runtime.configure()
        command = importlib.import_module(f"jft.cli.{verb}")  # may set what JAX reads when it is imported
        from jft.utils import cluster

        with cluster.failing_at_once():
            sys.exit(_status(command, argv, prog))
    except KeyboardInterrupt:
        try:
            print("Stopped.", file=sys.stderr)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:  # an orderly end crashes JAX where it was stopped while it compiled
            os._exit(128 + signal.SIGINT)


def _status(command: object, argv: Sequence[str] | None, prog: str | None) -> int:
    parser = Parser(prog=prog, description=command.__doc__)
    command.arguments(parser)
    args, others = parser.parse_known_args(argv)
    if others and not hasattr(command, "TAKES_FIELDS"):
        parser.error(f"unexpected arguments {others}")
    from jft.utils import cluster
    from jft.utils.interrupt import Stopped

    try:
        return command.run(argparse.Namespace(**vars(args), fields=others))
    except (ValueError, OSError) as error:
        if cluster.lost_a_peer(error):  # nothing is wrong with the input
            raise
        print(one_record(f"error: {error}"), file=sys.stderr)
        return 1
    except Stopped as stopped:
        print("Stopped; the same command goes on.", file=sys.stderr)
        return 128 + stopped.signal
