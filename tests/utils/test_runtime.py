"""What happens before JAX starts, and what nothing imports before it is needed."""

import json
import os
import subprocess
import sys
import warnings

import jax
import pytest

from jft.cli import main
from jft.training import messages
from jft.utils import doctor, xla_flags

OURS = "--xla_cpu_experimental_ynn_fusion_type="


@pytest.mark.parametrize(
    ("own", "jaxlib", "flags", "told"),
    [
        ("", "0.10.2", OURS, "measured 1.8 times faster with jaxlib 0.10.2"),
        ("--xla_dump_to=x", "0.12.0.1", f"--xla_dump_to=x {OURS}", "with jaxlib 0.12.0.1"),
        # A user's own value stays, and a release nobody has measured is left alone: XLA aborts on unknown flags.
        (f"{OURS}all", "0.10.2", f"{OURS}all", "XLA_FLAGS sets them already"),
        ("", "0.99.0", "", "jaxlib 0.99.0 is not among the releases they were measured with"),
        ("--a=b", "0.9.1", "--a=b", "scripts/measure_xla_flags.py"),
        ("", "0.12.0.dev20261101", "", "not among the releases"),
    ],
)
def test_flags(own, jaxlib, flags, told):
    found = xla_flags.decide(own, jaxlib)
    assert found.flags == flags and told in found.told
    assert found.slow == ("not among" in found.told)


def test_flags_are_left_alone_on_request_and_where_they_do_not_pay(monkeypatch):
    for opt_out, set_ in (("1", False), ("0", True), ("", True)):
        assert (xla_flags.decide("", "0.10.2", opt_out=opt_out).flags == OURS) is set_
    assert not xla_flags.decide("", "0.10.2", opt_out="1").slow  # it was asked for
    monkeypatch.setitem(xla_flags.MEASURED, "0.10.2", 0.9)
    found = xla_flags.decide("", "0.10.2")
    assert (found.flags, found.slow) == ("", False) and "do not pay" in found.told


def test_importing_jft_sets_them():
    """And the environment is where JAX's backend will look, whether jax is imported before or after."""
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", xla_flags.OPT_OUT)}
    program = "import jft, os; print(os.environ.get('XLA_FLAGS', ''))"
    for changes, flags in (({}, OURS), ({"XLA_FLAGS": "--a=b"}, f"--a=b {OURS}"), ({xla_flags.OPT_OUT: "1"}, "")):
        run = [sys.executable, "-c", program]
        done = subprocess.run(run, env=environment | changes, capture_output=True, text=True)
        assert (done.stdout.strip(), done.stderr) == (flags, "")


def test_once_the_backend_has_started_one_warning_names_the_remedy(monkeypatch):
    jax.devices()
    monkeypatch.setenv("XLA_FLAGS", "--a=b")
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.10.2")
    apply = xla_flags.apply.__wrapped__
    with pytest.warns(RuntimeWarning, match=f"Import jft first, or start with XLA_FLAGS='{OURS}'"):
        assert apply().slow
    assert os.environ["XLA_FLAGS"] == "--a=b"
    monkeypatch.setenv(xla_flags.OPT_OUT, "1")
    with warnings.catch_warnings(action="error"):
        apply()
    assert xla_flags.apply() is xla_flags.apply()  # so that it warns once


def test_a_release_nobody_has_measured_is_said(monkeypatch):
    unknown = xla_flags.decide("", "0.99.0")
    monkeypatch.setattr(xla_flags, "apply", lambda: unknown)
    assert "jaxlib 0.99.0" in str(doctor._xla_flags()) and messages.flags_line() == (
        f"XLA's flags for CPU are {unknown.told}."
    )
    monkeypatch.setattr(xla_flags, "apply", lambda: xla_flags.decide("", "0.10.2"))
    assert OURS in str(doctor._xla_flags()) and not messages.flags_line()


NEVER = {"tensorflow", "tensorflow_datasets", "torch", "keras", "sklearn", "scipy", "matplotlib", "jinja2"}
# Commands that answer without JAX, which takes most of a second.
WITHOUT_JAX = [
    *(["--help"], ["--version"], ["weights", "list"], ["weights", "list", "vgg*"], ["train", "--no-such-flag"]),
    *([verb, "--help"] for verb in main.VERBS),
]
# What one process does, in this order, as what is imported stays; and what is not there after it, beside `NEVER`.
STATEMENTS = {
    "import jft": {"jax", "numpy"},
    "from jft.cli import main; main.usage()": {"jax", "numpy"},
    "for verb in main.VERBS: importlib.import_module('jft.cli.' + verb.replace('-', '_'))": {"jax", "numpy"},
    f"for arguments in {WITHOUT_JAX}: command(arguments)": {"jax", "flax", "orbax.checkpoint"},
    "from jft.data import imagenet; imagenet.class_ids()": {"orbax.checkpoint"},
    "import jft.data; import_all(jft.data)": {"orbax.checkpoint"},
    "import jft.evaluation.predict": set(),
    "import jft.evaluation.evaluate": set(),
    "import jft.training.loop": set(),
}
PROGRAM = """
import importlib, json, pkgutil, sys

def command(arguments):
    try:
        main.main(arguments)
    except SystemExit as end:
        assert end.code == (1 if "--no-such-flag" in arguments else 0)

def import_all(package):
    for found in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{found.name}")

for statement in sys.argv[1:]:
    exec(statement)
    bridge = sys.modules.get("jax._src.xla_bridge")
    print("==", json.dumps([*sys.modules, *(["a backend"] if bridge and bridge._backends else [])]))
"""


def test_imports_stay_light():
    """Of commands and rooms; TensorFlow and what only some results need are imported by what needs them."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, *STATEMENTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [set(json.loads(line[3:])) for line in done.stdout.splitlines() if line.startswith("== ")]
    for (statement, absent), modules in zip(STATEMENTS.items(), found, strict=True):
        assert not modules & {*NEVER, *absent, "a backend"}, statement
    assert found[-1] > {"jax", "numpy", "orbax.checkpoint", "jft.data.gtsrb", "jft.cli.train"}
