"""What happens before JAX starts."""

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


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("jft", ("tensorflow", "torch", "jax", "numpy")),
        ("jft.train", ("tensorflow", "torch", "keras")),
        ("jft.evaluate", ("tensorflow", "torch", "keras")),
    ],
)
def test_imports_stay_light(module, absent):
    code = f"import sys, {module}; print([m for m in {absent!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
