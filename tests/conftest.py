"""Eight CPU devices for every test, real data where there are any, and caches of its own."""

import atexit
import gc
import itertools
import os
import shutil
import tempfile
from pathlib import Path

import hasty

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {hasty.flags(devices=8)}"
os.environ["JAX_PLATFORMS"] = "cpu"

# Tests compile much and run little: compiling well would take longer than running what comes of it saves.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

# What one test, or a script that it starts, has compiled the next need not: a folder for this run of the suite alone.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="jft-tests-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

from jft.cli import main
from jft.data import notes
from jft.utils import runtime, waiting

# Collections of a heap as large as compiled programs make it take a twentieth of the time; they come less often.
gc.set_threshold(100_000, 20, 50)
runtime.configure()
waiting.PATIENCE = float("inf")  # what is printed does not depend on how busy the machine is

import jax  # noqa: E402 - has read its environment now
import pytest  # noqa: E402

_numbers = itertools.count()

DATA = Path(os.environ.get("JFT_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def pytest_configure(config):
    """`pytest -m ...` asks for what it likes; JFT_TEST_ALL for the long tests among all."""
    if os.environ.get("JFT_TEST_ALL") and config.option.markexpr == "not slow":
        config.option.markexpr = ""


@pytest.fixture
def optimizing_compiler():
    """Optimizes as users' compilers do; with `hasty.AS_USERS` as options a program is compiled entirely as theirs."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def real_data():
    """Folder of real images and weights; the test is skipped where there is none."""
    if not DATA.is_dir():
        pytest.skip(f"no real data at {DATA}; set JFT_TEST_DATA")
    return DATA


@pytest.fixture(scope="session", autouse=True)
def shared_cache(tmp_path_factory):
    """Nothing reads or fills the user's cache: what is made for all tests of a module has this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test reads what another has put into the cache. `mktemp` would list all folders there are, for each test."""
    monkeypatch.setenv("JFT_CACHE", str(tmp_path_factory.getbasetemp() / f"own_cache{next(_numbers)}"))


@pytest.fixture(autouse=True)
def nothing_was_said():
    """What is said once in a process is said in each test: none depends on which came before."""
    notes.forget()


@pytest.fixture(scope="module")
def one_device():
    """For which XLA compiles faster than for eight."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "devices", lambda *a: jax.local_devices()[:1])
        yield


@pytest.fixture(scope="module")
def quick():
    """One device, and what is not pretrained drawn without XLA."""
    import small_digits

    with small_digits.quick():
        yield


@pytest.fixture
def compilations(monkeypatch):
    """Names of the functions that are compiled, in order."""
    from jft.utils.mesh import Parallel

    names, compile_ = [], Parallel.compile

    def compile_and_note(self, function, *args, **options):
        names.append(function.__name__)
        return compile_(self, function, *args, **options)

    monkeypatch.setattr(Parallel, "compile", compile_and_note)
    return names


@pytest.fixture(scope="module")
def compile_once():
    """`compile_train_step` for a module whose runs have the same phases: what is compiled for one is kept for all."""
    from jft.training.programs import compile_train_step

    programs = {}

    def compile_or_recall(run, phase, batch):
        key = phase.first, "feature" in batch
        if key not in programs:
            programs[key] = compile_train_step(run, phase, batch)
        return programs[key]

    return compile_or_recall


@pytest.fixture
def compiled_once(compile_once, monkeypatch):
    """Runs are compiled by `compile_once`."""
    monkeypatch.setattr("jft.training.programs.compile_train_step", compile_once)


@pytest.fixture
def command(capsys):
    """Runs `jft VERB arguments...` in this process: (status, stdout, stderr)."""

    def run(verb, *arguments):
        with pytest.raises(SystemExit) as end:
            main.run(verb, list(map(str, arguments)), prog=f"jft {verb}")
        return end.value.code, *capsys.readouterr()

    return run
