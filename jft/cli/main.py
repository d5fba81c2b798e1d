"""One command, `jft COMMAND ...`; the scripts are the same commands, one a file.

Exit status: 0 success; 1 wrong input or a failed check, with a message that says why; 75 another process of the run
failed, start all of them again; 128 + n stopped by signal n (130 by Ctrl-C, 143 by SIGTERM), run the same command
again to resume.
"""

import argparse
import importlib
import io
import os
import re
import signal
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, NoReturn, cast

from jft.cli import field_flags
from jft.utils import option_names, runtime, waiting
from jft.utils.text import one_record, terminal_stream
from jft.utils.version import __version__

# verb -> what it does; each is a module of jft.cli with `arguments(parser)` and `run(args) -> exit status`.
VERBS = {
    "train": "train a model on images, or resume a run",
    "fit": "train the best model for your images within a time budget",
    "evaluate": "test a run, an ensemble or a folder of arms; compare two runs",
    "predict": "predict classes and probabilities of images",
    "explain": "draw Grad-CAM and nearest training images; list suspicious labels",
    "report": "write a self-contained HTML page about a run",
    "export": "export a run as StableHLO, ONNX and safetensors",
    "serve": "answer over HTTP with a run's predictions",
    "suggest": "compare pretrained models on your images, and choose one",
    "check": "check that a config will train: memory, time, data, weights",
    "compare": "train several configs with several seeds, and compare them",
    "soup": "average the weights of runs into a new run",
    "probe": "measure linear-probe and k-NN accuracy of frozen features",
    "extract-features": "write features of any stage to one file",
    "weights": "list, fetch, convert, verify and export weights",
    "summary": "print the stages and layers of a model, and draw it",
    "doctor": "check that these machines can train together",
    "replay": "repeat some steps of a run, and compare the results",
}


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Fills paragraphs to the terminal's width; what is indented or stands in columns stays as it is."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.split("\n\n")
        return "\n\n".join(
            paragraph if re.search(r"^ |\S {2}", paragraph, re.M) else textwrap.fill(paragraph, width)
            for paragraph in paragraphs
        )


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the command line as everything else that is wrong: in one line, with status 1."""

    def __init__(self, **options: Any) -> None:
        options = {"formatter_class": _Formatter, "allow_abbrev": False, **options}
        super().__init__(**options)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """As argparse, with flags spelled with dashes or underscores."""
        return super().parse_known_args([*map(self._spelled, sys.argv[1:] if args is None else args)], namespace)

    def flags(self) -> list[str]:
        """All that it knows."""
        return [*self._option_string_actions]

    def _spelled(self, argument: str) -> str:
        name, equals, value = argument.partition("=")
        dashed = name.replace("_", "-")
        known = name.startswith("--") and name not in self._option_string_actions
        return f"{dashed}{equals}{value}" if known and dashed in self._option_string_actions else argument

    def error(self, message: str) -> NoReturn:
        """Ends the process."""
        self.exit(1, f"error: {message} ({self.prog} --help)\n")


class Renamed(argparse.Action):
    """A flag of before, which goes on working for a release: it says what to write now, and does the same."""

    def __init__(self, *arguments: Any, now: str, **options: Any) -> None:
        self._now = now
        super().__init__(*arguments, **{"help": argparse.SUPPRESS, "default": argparse.SUPPRESS, **options})

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *flags: Any
    ) -> None:
        """Says what to write now, and sets the value."""
        hint(str(flags[0]), self._now)
        setattr(namespace, self.dest, values)


def hint(before: str, now: str) -> None:
    """Says on standard error that a spelling will go."""
    print(f"hint: {before} will be removed in the next release, write {now}", file=sys.stderr)


def add_column_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --image-column and --label-column, for verbs that read a CSV file which no config describes."""
    told = "image column of a CSV file; --label-column NAME is the label column"  # a screen is short
    parser.add_argument("--image-column", default="", metavar="NAME", help=told)
    parser.add_argument("--label-column", default="", metavar="NAME", help=argparse.SUPPRESS)


def add_code_argument(parser: argparse.ArgumentParser) -> None:
    """Adds --allow-code, for commands on a run that may name its images, metrics or model as "module:function"."""
    parser.add_argument(
        "--allow-code", action="store_true", help="import the code that the run names as module:function"
    )


def add_license_argument(parser: argparse.ArgumentParser) -> None:
    """Adds --accept-license, for commands that read published weights and take no fields of a config."""
    parser.add_argument(
        "--accept-license", action="store_true", help="use weights whose license forbids commercial use"
    )


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs `jft VERB ...`, with the command line's arguments by default; ends the process."""
    verb, *rest = [*(sys.argv[1:] if argv is None else argv)] or ["--help"]
    if verb in ("-h", "--help", "help"):
        print(usage())
        sys.exit(0)
    if verb == "--version":
        print(f"jft {__version__}")
        sys.exit(0)
    if verb == "extract_features":
        hint("`jft extract_features`", "`jft extract-features`")
        verb = "extract-features"
    if verb not in VERBS:
        from jft.utils.tree import did_you_mean

        sys.exit(f"error: unknown command {verb!r}{did_you_mean(verb, VERBS) or '.'} (jft --help)")
    run(verb, rest, prog=f"jft {verb}")


def usage() -> str:
    """All verbs on one screen."""
    verbs = "\n".join(f"  {verb:<17} {told}" for verb, told in VERBS.items())
    more = (__doc__ or "").partition("\n\n")[2].strip()
    return f"usage: jft COMMAND ...\n\n{verbs}\n\nRun `jft COMMAND --help` for the options of a command.\n\n{more}"


def run(verb: str, argv: Sequence[str] | None = None, *, prog: str | None = None) -> NoReturn:
    """Runs one verb and ends the process with its status.

    Args:
      verb: a key of `VERBS`; underscores stand for dashes.
      argv: its arguments; None: the command line's.
      prog: what help calls it; None: the name of the script.
    """
    cast(io.TextIOWrapper, sys.stdout).reconfigure(errors="surrogateescape")  # names of files are bytes
    # Whatever is printed, in tables, errors and warnings, may quote the name of a stranger's file or class.
    sys.stdout, sys.stderr = map(terminal_stream, (sys.stdout, sys.stderr))
    try:
        runtime.configure()
        command, args = parse(verb, argv, prog=prog)
        from jft.utils import cluster

        waiting.doing("loading JAX")
        with cluster.failing_at_once():
            with waiting.told_while_silent():
                status = _status(command, args)
            sys.exit(status)
    except KeyboardInterrupt:
        try:
            print("Stopped.", file=sys.stderr)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:  # an orderly end crashes JAX where it was stopped while it compiled
            os._exit(128 + signal.SIGINT)


def parse(verb: str, argv: Sequence[str] | None = None, *, prog: str | None = None) -> tuple[Any, argparse.Namespace]:
    """Reads a verb's arguments; arguments as of `run`. Ends the process where they are wrong.

    Returns:
      The verb's module, and its arguments: if it takes fields of a config, those as `--config.field=value` in `fields`.
    """
    command = importlib.import_module(f"jft.cli.{verb.replace('-', '_')}")  # may set what JAX reads at its import
    parser = Parser(prog=prog, description=command.__doc__)
    command.arguments(parser)
    argv, dotted = sys.argv[1:] if argv is None else argv, []
    if takes := hasattr(command, "TAKES_FIELDS"):
        argv, dotted = field_flags.separate(argv)
    args, others = parser.parse_known_args(argv)
    if others:
        guess = ""
        if others[0].startswith("--"):
            from jft.utils.tree import did_you_mean

            guess = did_you_mean(others[0].partition("=")[0].replace("_", "-"), parser.flags()) if takes else ""
        parser.error(f"unexpected arguments {others}{guess}")
    return command, argparse.Namespace(**vars(args), fields=dotted)


def _status(command: Any, args: argparse.Namespace) -> int:
    from jft.utils import cluster
    from jft.utils.registry import code_allowed
    from jft.utils.stopped import Stopped
    from jft.weights import licenses

    # A config that the user gives is the user's own; a run that the user opens may be a stranger's.
    allowed = hasattr(command, "TAKES_FIELDS") or getattr(args, "allow_code", False)
    try:
        accepted = licenses.accepting(getattr(args, "accept_license", False))
        with code_allowed(allowed), accepted, option_names.as_flags():
            return command.run(args)
    except (ValueError, OSError) as error:
        if cluster.lost_a_peer(error):  # nothing is wrong with the input
            raise
        print(one_record(f"error: {error}"), file=sys.stderr)
        return 1
    except Stopped as stopped:
        print("Interrupted. Run the same command to resume.", file=sys.stderr)
        return 128 + stopped.signal
