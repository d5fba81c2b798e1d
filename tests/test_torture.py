"""A few of the kills that tests/torture.py makes many of."""

import os
import re
import subprocess
import sys
from pathlib import Path


def test_killed_at_random_equals_never_killed():
    done = subprocess.run(
        [sys.executable, "tests/torture.py", "--kills", "4", "--seed", "1"],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search("^4 kills: ", done.stdout, re.M)
