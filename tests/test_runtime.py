"""What happens before JAX starts, and what nothing imports before it is needed."""

import json
import subprocess
import sys

import pytest

from jft import runtime

OURS = "--xla_cpu_experimental_ynn_fusion_type="


@pytest.mark.parametrize(
    ("own", "jaxlib", "expected"),
    [
        ("", "0.10.2", OURS),
        ("--xla_dump_to=x", "0.11.0", f"--xla_dump_to=x {OURS}"),
        # A user's own value stays, and a release nobody has tried is left alone: XLA aborts on unknown flags.
        (f"{OURS}all", "0.10.2", f"{OURS}all"),
        ("", "0.11.1", ""),
        ("--a=b", "0.9.1", "--a=b"),
        ("", "0.12.0.dev20261101", ""),
    ],
)
def test_flags(own, jaxlib, expected):
    assert runtime.xla_flags(own, jaxlib) == expected


NEVER = {"tensorflow", "tensorflow_datasets", "torch", "keras", "sklearn", "matplotlib", "jinja2"}
LIST = """
import jax
eval_shape, jax.eval_shape = jax.eval_shape, None  # what shapes are found with: no model is built
try:
    cli.main(["weights", "list"])
except SystemExit as end:
    assert end.code == 0
jax.eval_shape = eval_shape
"""
# What one process does, in this order, as what is imported stays; and what is not there after it, beside `NEVER`.
STATEMENTS = {
    "import jft": {"jax", "numpy"},
    "from jft import cli; cli.usage()": {"jax", "numpy"},
    "from jft.data import imagenet; imagenet.class_ids()": {"orbax.checkpoint"},
    "import jft.data; import_all(jft.data)": {"orbax.checkpoint"},
    "import jft.commands; import_all(jft.commands)": {"orbax.checkpoint"},
    LIST: {"orbax.checkpoint"},
    "import jft.evaluate": set(),
    "import jft.train": set(),
}
PROGRAM = """
import importlib, json, pkgutil, sys

def import_all(package):
    for found in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{found.name}")

for statement in sys.argv[1:]:
    exec(statement)
    bridge = sys.modules.get("jax._src.xla_bridge")
    print("==", json.dumps([*sys.modules, *(["a backend"] if bridge and bridge._backends else [])]))
"""


def test_imports_stay_light():
    done = subprocess.run([sys.executable, "-c", PROGRAM, *STATEMENTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [set(json.loads(line[3:])) for line in done.stdout.splitlines() if line.startswith("== ")]
    for (statement, absent), modules in zip(STATEMENTS.items(), found, strict=True):
        assert not modules & {*NEVER, *absent, "a backend"}, statement
    assert found[-1] > {"jax", "numpy", "orbax.checkpoint", "jft.data.gtsrb", "jft.commands.train"}
