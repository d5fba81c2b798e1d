"""`jft VERB`: help that fits a screen, verbs that are there, one line and a status for what is wrong."""

import argparse
import importlib
import io
import os
import pkgutil
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import jft.cli
from jft.cli import main
from jft.utils import cluster
from jft.utils.interrupt import Interrupt
from jft.utils.stopped import Stopped
from jft.utils.version import __version__

SCRIPTS = Path(__file__).parents[2] / "scripts"


def ended(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main.main(arguments)
    printed, error = capsys.readouterr()
    code = end.value.code
    return (1, printed, f"{code}\n") if isinstance(code, str) else (code, printed, error)  # as Python ends with a text


def leave(status):
    """As `os._exit`, but of the test."""
    raise SystemExit(status)


def fits(text, columns=120):
    """Whether it fits a screen; what stands in columns, or is an example, may be as wide as the widest."""
    lines = text.splitlines()
    filled = [line for line in lines if not re.search(r"^ |\S {2}", line)]
    return 3 < len(lines) <= 4800 / columns and max(map(len, filled)) <= columns and max(map(len, lines)) <= 120


@pytest.mark.parametrize("verb", ["predict", "evaluate", "explain", "export", "report", "extract-features"])
def test_help_says_which_checkpoint_is_used(capsys, verb):
    status, printed, _ = ended(capsys, verb, "--help")
    assert status == 0 and "best checkpoint on validation is used, else the newest" in " ".join(printed.split())


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("verb", main.VERBS)
def test_help_fits_a_screen(verb, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    command = importlib.import_module(f"jft.cli.{verb.replace('-', '_')}")
    monkeypatch.setattr("jft.cli.field_flags.add", lambda *_, **__: None)  # the fields follow, a screen a group
    parser = main.Parser(prog=f"jft {verb}", description=command.__doc__)
    command.arguments(parser)
    assert fits(parser.format_help(), columns)
    taken = [action for action in parser._actions if not isinstance(action, argparse._SubParsersAction)]
    assert all(action.help or action.choices for action in taken), [a.dest for a in taken if not a.help]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            assert all(fits(one.format_help(), columns) for one in action.choices.values())


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_all_verbs_on_one_screen(capsys, arguments):
    status, printed, _ = ended(capsys, *arguments)
    assert status == 0 and fits(printed)
    for verb, told in main.VERBS.items():
        assert f"  {verb:<17} {told}\n" in printed


def test_verbs_modules_and_scripts_are_the_same():
    modules = {module.name for module in pkgutil.iter_modules(jft.cli.__path__)}
    twins = {path.stem for path in SCRIPTS.glob("*.py") if "from jft.cli.main import run" in path.read_text()}
    modules -= {"main", "arms", "config_file", "choose_config", "field_flags", "weights_table"}  # what commands share
    assert {verb.replace("-", "_") for verb in main.VERBS} == modules == twins
    for verb in twins:
        text = (SCRIPTS / f"{verb}.py").read_text()
        assert text.startswith(f'"""python scripts/{verb}.py ') and text.endswith(f'    run("{verb}")\n')
        assert f"The same as `jft {verb.replace('_', '-')}`" in text


@pytest.mark.parametrize("verb", main.VERBS)
def test_help_loads_nothing_heavy(verb):
    """So that it appears at once."""
    code = (
        "import sys; from jft.cli import main\n"
        f"try: main.main([{verb!r}, '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'jax', 'numpy', 'flax', 'tensorflow', 'ml_collections', 'scipy'}\n"
        "print(sorted(heavy & {*sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == "[]\n" and f"usage: jft {verb}" in done.stdout


def test_python_m_jft():
    done = subprocess.run([sys.executable, "-m", "jft", "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"jft {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("evaluate", "--checkpoint", "nothing"), "--checkpoint will be removed in the next release, write RUN"),
        (("export", "nothing", "--to", "x"), "--to DIR will be removed in the next release, write --out"),
        (("extract-features", "nothing", "--stage", "x", "--out", "x.npz", "--data_dir", "x"), "--data-dir will be"),
        (("extract_features", "nothing", "--stage", "x", "--out", "x.npz"), "`jft extract_features` will be removed"),
        (("summary", "--model", "vgg20"), "--model will be removed in the next release, write MODEL"),
        (("predict", "--checkpoint", "nothing", str(SCRIPTS / "x.jpg")), "--checkpoint will be removed"),
    ],
)
def test_old_spellings_work_and_say_what_to_write_now(capsys, monkeypatch, tmp_path, arguments, hint):
    monkeypatch.chdir(tmp_path)
    status, _, error = ended(capsys, *arguments)
    assert status == 1 and error.startswith(f"hint: {hint}") and "\nerror: " in error
    assert "unexpected" not in error and "required" not in error


def test_version(capsys):
    assert ended(capsys, "--version") == (0, f"jft {__version__}\n", "")


@pytest.mark.parametrize(
    ("verb", "guess"), [("trian", ", did you mean 'train'?"), ("reprot", ", did you mean 'report'?"), ("xyzzy", ".")]
)
def test_an_unknown_verb(capsys, verb, guess):
    assert ended(capsys, verb, "--help") == (1, "", f"error: unknown command {verb!r}{guess} (jft --help)\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("explain", "RUN"), "the following arguments are required: --out"),
        (("report", "RUN", "--stgae", "x"), "unexpected arguments ['--stgae', 'x']"),
        (("report", "RUN", "--spl", "test"), "unexpected arguments ['--spl', 'test']"),  # no guessing at what is meant
        (("evaluate", "RUN", "--tta", "flop"), "argument --tta: invalid choice: 'flop'"),
        (("evaluate", "RUN", "--batch_size", "x"), "argument --batch-size: invalid int value: 'x'"),
    ],
)
def test_a_wrong_command_line_is_one_line(capsys, arguments, message):
    status, printed, error = ended(capsys, *arguments)
    assert (status, printed) == (1, "") and error.startswith(f"error: {message}")
    assert error.endswith(f"(jft {arguments[0]} --help)\n") and error.count("\n") == 1


@pytest.mark.parametrize(
    ("outcome", "status", "error"),
    [
        (0, 0, ""),
        (3, 3, ""),
        (ValueError("this and that"), 1, "error: this and that\n"),
        (FileNotFoundError("nothing there"), 1, "error: nothing there\n"),
        (KeyboardInterrupt(), 128 + signal.SIGINT, "Stopped.\n"),
        (Stopped(signal.SIGTERM), 128 + signal.SIGTERM, "Interrupted. Run the same command to resume.\n"),
    ],
)
def test_what_a_verb_ends_with(capsys, monkeypatch, outcome, status, error):
    def run(args):
        assert args.run == "RUN" and args.fields == []
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr("jft.cli.report.run", run)
    monkeypatch.setattr(os, "_exit", leave)
    assert ended(capsys, "report", "RUN") == (status, "", error)


def test_ctrl_c_ends_a_process_whose_reader_it_has_ended_too(monkeypatch):
    class Gone(io.StringIO):
        def flush(self):
            raise BrokenPipeError

    def run(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("jft.cli.report.run", run)
    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(sys, "stderr", Gone())
    with pytest.raises(SystemExit) as end:
        main.main(["report", "RUN"])
    assert end.value.code == 128 + signal.SIGINT


def test_a_signal_is_noted_though_nobody_reads(monkeypatch):
    def write(*_):
        raise BrokenPipeError

    monkeypatch.setattr(os, "write", write)
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.check() and interrupt.received == signal.SIGINT


def test_a_mistake_of_jft_s_own_is_not_told_as_the_user_s(capsys, monkeypatch):
    monkeypatch.setattr("jft.cli.report.run", lambda args: {}["no such key"])
    with pytest.raises(KeyError):
        main.main(["report", "RUN"])
    assert "error: " not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("weights", ("list", "squeezenet")),
        ("report", ("nothing",)),
        ("evaluate", ("nothing",)),
        ("summary", ("vgg20",)),
    ],
)
def test_a_script_is_its_verb(capsys, monkeypatch, tmp_path, verb, arguments):
    monkeypatch.chdir(tmp_path)
    by_verb = ended(capsys, verb, *arguments)
    path = str(SCRIPTS / f"{verb}.py")
    monkeypatch.setattr(sys, "argv", [path, *arguments])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(path, run_name="__main__")
    printed, error = capsys.readouterr()
    by_script = end.value.code, printed, error.replace(f"{verb}.py --help", f"jft {verb} --help")
    assert by_script == by_verb and (printed or error)
    assert (by_verb[0] == 0) == (verb == "weights")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("message", "status"),
    [("UNKNOWN: Gloo AllGather failed: Connection closed by peer", cluster.TRY_AGAIN), ("no such file", 1)],
)
def test_a_peer_that_was_lost_is_no_wrong_input(monkeypatch, message, status):
    def fail(args):
        raise ValueError(message)

    monkeypatch.setattr(importlib.import_module("jft.cli.doctor"), "run", fail)
    monkeypatch.setattr(cluster, "_joined", lambda: True)
    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(SystemExit) as end:
        main.run("doctor", [])
    assert end.value.code == status
