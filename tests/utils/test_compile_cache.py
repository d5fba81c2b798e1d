"""The cache of compiled programs: where it is used and where not, its key and size, and that its programs compute the
same bits."""

import json
import os
import re
import stat
import subprocess
import sys
import zlib
from pathlib import Path

import hasty
import jax
import pytest
import small_digits

from jft.utils import compile_cache, doctor
from jft.utils.logger import read_metrics


@pytest.fixture
def unset(monkeypatch):
    """As where the user has set nothing; the suite has a cache of its own."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.delenv(compile_cache.LIMIT, raising=False)
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_its_folder_is_private_whatever_the_umask(unset, tmp_path, monkeypatch):
    monkeypatch.setenv("JFT_CACHE", str(tmp_path / "cache"))
    before = os.umask(0)
    try:
        found = compile_cache.decide()
    finally:
        os.umask(before)
    assert found.folder.parent == tmp_path / "cache" / "xla" and not found.wrong
    assert (mode(found.folder), mode(found.folder.parent), mode(tmp_path / "cache")) == (0o700, 0o700, 0o755)
    assert jax.config.jax_compilation_cache_dir is None  # deciding sets nothing


def test_a_folder_that_others_may_write_is_not_used(unset, monkeypatch):
    folder = compile_cache.decide().folder
    for path in (folder, folder.parent):
        path.chmod(0o770)
        found = compile_cache.decide()
        assert found.folder is None and found.wrong and f"rm -r {path} (" in found.told
        assert f"{path} may be written by others, who could change what is run" in found.told
        path.chmod(0o700)
    monkeypatch.setattr("os.geteuid", lambda: 4321)
    assert "belongs to user" in compile_cache.not_private(folder)
    found = compile_cache.decide()
    assert found.wrong and " belongs to " in found.told


def test_where_it_cannot_be_written_one_line_warns_and_nothing_fails(unset, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("JFT_CACHE", str(tmp_path / "file"))
    warnings = []
    monkeypatch.setattr(compile_cache.logging, "warning", lambda text, *more: warnings.append(text % more))
    monkeypatch.setattr(compile_cache, "use", compile_cache.functools.cache(compile_cache.use.__wrapped__))
    found = compile_cache.use(), compile_cache.use()
    assert found[0] is found[1] and found[0].folder is None and jax.config.jax_compilation_cache_dir is None
    (warning,) = warnings
    assert warning.startswith("compiled programs are not kept: ") and "\n" not in warning and "file" in warning
    assert str(doctor._compiled()).endswith(f"not kept: {found[0].told}")


def test_what_the_user_has_set_goes_first(unset, tmp_path, monkeypatch):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    assert compile_cache.decide() == compile_cache.Decision(None, f"JAX's own setting, {tmp_path}")
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv(compile_cache.LIMIT, "0")
    assert compile_cache.decide() == compile_cache.Decision(None, "switched off by JFT_XLA_CACHE_MIB=0")
    monkeypatch.setenv(compile_cache.LIMIT, "lots")
    with pytest.raises(ValueError, match="JFT_XLA_CACHE_MIB is 'lots': give a whole number of MiB, or 0 to switch"):
        compile_cache.decide()
    monkeypatch.delenv(compile_cache.LIMIT)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert "set JAX_COMPILATION_CACHE_DIR to a folder that all share" in compile_cache.decide().told
    assert not compile_cache.decide().wrong


CPUINFO = "processor : 0\nmodel name : EPYC\nflags : avx2 fma\ncpu MHz : 1\n\nprocessor : 1\nmodel name : EPYC\n"


def test_another_processor_or_flag_has_another_folder(monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    seen = compile_cache._processor(tmp_path / "cpuinfo")
    assert seen[2:] == ["flags : avx2 fma", "model name : EPYC"]  # no clock, nor how many there are
    assert len(compile_cache._processor(tmp_path / "none")) == 2
    keys = {compile_cache._key()}
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_max_isa=AVX2")
    keys.add(compile_cache._key())
    monkeypatch.setattr(compile_cache, "_processor", lambda: seen)
    keys.add(compile_cache._key())
    monkeypatch.setattr(compile_cache, "_cores", lambda: 1000)
    keys.add(compile_cache._key())
    monkeypatch.setattr(compile_cache, "__version__", "99")
    keys.add(compile_cache._key())
    assert len(keys) == 5 and all(f"-jax{jax.__version__}-" in key for key in keys)


def test_what_was_not_used_for_longest_is_deleted_first(tmp_path):
    ages = {"old/a": 1, "old/b": 4, "new/c": 2, "new/deep/d": 3}
    for name, age in ages.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
        os.utime(path, (age, 0))

    def left():
        return {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}

    compile_cache.trim(tmp_path, 4000)
    assert left() == {*ages}
    compile_cache.trim(tmp_path, 3999)  # down to four fifths
    assert left() == {"old/b", "new/deep/d", "new/c"}
    compile_cache.trim(tmp_path, 2000)
    assert left() == {"old/b"}


COMPILE = """
import json, sys
import jft
import jax
import numpy as np

before = jax.config.jax_compilation_cache_dir
from jft.utils.mesh import make_parallel

hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name) if "cache_hits" in name else None)
x = np.random.default_rng(0).standard_normal((8, 12, 12, 16), np.float32)
parallel = make_parallel("jit")

def step(kernel, batch):
    maps = jax.lax.conv_general_dilated(batch["x"], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jax.nn.softmax(jax.numpy.tanh(maps).sum((1, 2)))

kernel = parallel.place_state(np.random.default_rng(1).standard_normal((3, 3, 16, 8), np.float32))
batch = parallel.place_batch({"x": x})
computed = np.asarray(parallel.compile(step, kernel, batch, donate=False)(kernel, batch))
print(json.dumps([before, jax.config.jax_compilation_cache_dir, len(hits), computed.tobytes().hex()]))
"""


def start(program, *arguments, **variables):
    """What a program prints, started where the user has set nothing but `variables`; and standard error."""
    environment = {k: v for k, v in hasty.environment().items() if not k.startswith(("JAX_COMPIL", "JAX_PERSISTENT"))}
    command = [sys.executable, *(["-c", program] if "\n" in program else ["-m", program]), *map(str, arguments)]
    done = subprocess.run(command, env=environment | variables, capture_output=True, text=True)
    assert done.returncode in (0, 143), done.stderr
    return done.stdout, done.stderr


def test_the_second_start_finds_the_programs_of_the_first(tmp_path):
    """Silently; importing jft sets nothing; a damaged entry is compiled again, and one that was cut off replaced."""

    def compiled(**variables):
        kept = {"JFT_CACHE": str(tmp_path / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        told, error = start(COMPILE, **{**kept, **variables})
        assert not error
        return json.loads(told)

    before, folder, hits, computed = compiled()
    assert before is None and folder.startswith(f"{tmp_path}/cache/xla/jft") and not hits
    assert compiled() == [None, folder, 1, computed]
    (entry,) = Path(folder).glob("*-cache")
    entry.write_bytes(entry.read_bytes()[:-100])  # as by a full disk
    assert compiled() == [None, folder, 0, computed]
    assert compiled() == [None, folder, 1, computed]
    entry.write_bytes(zlib.compress(b"none of XLA's"))
    assert compiled() == [None, folder, 0, computed]
    own = str(tmp_path / "own")
    assert compiled(JAX_COMPILATION_CACHE_DIR=own)[:2] == [own, own]


@pytest.mark.slow
def test_a_run_whose_programs_were_kept_has_the_same_bits(tmp_path):
    """Trained by freshly compiled programs; then by those, stopped in the middle, and resumed."""
    config = small_digits.make(tmp_path / "features", steps=6, log_every=1)
    small_digits.write_config(tmp_path / "config.py", config)
    config.callbacks = ("stop:at_three",)
    small_digits.write_config(tmp_path / "stopped.py", config)
    (tmp_path / "stop.py").write_text(
        "import os, signal\n\n\ndef at_three(event):\n"
        "    if event.kind == 'step' and event.step == 3:\n        os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"

    def train(config, run):
        _, error = start(
            *("jft", "train", tmp_path / config, "--workdir", tmp_path / run, "--no-report"),
            **{"PYTHONPATH": path, "JFT_CACHE": str(tmp_path / "cache")},
        )
        return error

    train("config.py", "straight")
    steps = [*(tmp_path / "cache" / "xla").rglob("jit_train_step-*-cache")]
    assert len(steps) == 1
    error = train("stopped.py", "stopped")
    assert read_metrics(tmp_path / "stopped")[-1]["step"] == 3
    error += train("stopped.py", "stopped")
    assert not re.search("^[EW]\\d{4} ", error, re.M)  # of XLA, of machines that differ
    assert [*(tmp_path / "cache" / "xla").rglob("jit_train_step-*-cache")] == steps  # not compiled again
    straight, stopped = (
        json.loads((tmp_path / run / "checkpoints" / "6" / "meta" / "metadata").read_text())["digests"]
        for run in ("straight", "stopped")
    )
    assert straight == stopped and len(straight) > 10
