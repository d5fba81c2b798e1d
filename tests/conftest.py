"""Eight CPU devices for every test, real data where there are any, and caches of its own."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

# Tests compile much and run little: compiling well would take longer than running what comes of it saves.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

# What one test, or a script that it starts, has compiled the next need not: a folder for this run of the suite alone.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="jft-tests-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

from jft import cli, runtime

runtime.configure()

import jax  # noqa: E402 - has read its environment now
import pytest  # noqa: E402

DATA = Path(os.environ.get("JFT_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


@pytest.fixture
def optimising_compiler():
    """Compiles as users do."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def real_data():
    """Folder of real pictures and weights; the test is skipped where there is none."""
    if not DATA.is_dir():
        pytest.skip(f"no real data at {DATA}; set JFT_TEST_DATA")
    return DATA


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test reads or fills the user's cache."""
    monkeypatch.setenv("JFT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def command(capsys):
    """Runs `jft VERB arguments...` in this process: (status, stdout, stderr)."""

    def run(verb, *arguments):
        with pytest.raises(SystemExit) as end:
            cli.run(verb, list(map(str, arguments)), prog=f"jft {verb}")
        return end.value.code, *capsys.readouterr()

    return run
