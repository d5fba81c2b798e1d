import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jft.data import augment, datasets, transforms
from jft.data.augment import Augmentation
from jft.data.transforms import Preprocess
from jft.features import extract as extraction
from jft.features import store, turn
from jft.features.cache_key import Wanted
from jft.models import abstract_variables, create_model
from jft.utils.interrupt import Interrupt
from jft.utils.mesh import make_parallel

SPEC = Preprocess().at(32)
MODEL = create_model("vgg_tiny", num_classes=10)
WANTED = Wanted("block2", pooled=True, fit="whole")


def arbitrary(seed=0, model=MODEL):
    rng = np.random.default_rng(seed)
    shapes = abstract_variables(model, 32)
    return jax.tree.map(lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32), shapes)


@pytest.fixture(scope="module")
def digits():
    return datasets.load_source("digits", split="all", data_dir=None, validation=0, seed=0).take(np.arange(40))


def run(folder, source, *, model=MODEL, variables=None, spec=SPEC, mode="jit", changes=None, **options):
    variables = arbitrary() if variables is None else variables
    parallel = make_parallel(mode)
    return extraction.extract(
        model.clone(axis_name=parallel.axis_name),
        parallel.place_state(variables),
        source,
        spec,
        dataclasses.replace(WANTED, **(changes or {})),
        **{"folder": folder, "parallel": parallel, "batch_size": 16, **options},
    )


def whole(found):
    return np.asarray(found.gather(np.arange(len(found))), np.float32)


def live(source, *, model=MODEL, variables=None, spec=SPEC, fit="whole", boundary="block2", pooled=True):
    """What the stages give without a store, on one device."""
    x = transforms.to_model_input(source.images, spec, fit=fit)
    x = model.apply(arbitrary() if variables is None else variables, x, train=False, stop=boundary)
    return np.asarray(x.mean((1, 2)) if pooled else x)[:, None]


@pytest.fixture
def computed(monkeypatch):
    """How many images went through the network, call by call."""
    counts, open_feed = [], extraction.open_feed

    def counting(images, *arguments, **options):
        counts.append(len(images.source))
        return open_feed(images, *arguments, **options)

    monkeypatch.setattr(extraction, "open_feed", counting)
    return counts


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_features_are_what_the_stages_compute(tmp_path, digits, mode):
    assert jax.device_count() == 8
    found = run(tmp_path, digits, mode=mode, changes={"pooled": False})
    assert found.shape == (1, 8, 8, 32)
    np.testing.assert_allclose(whole(found), live(digits, pooled=False), atol=1e-5)


def test_every_variant_is_there(tmp_path, digits):
    spec, source = dataclasses.replace(SPEC, resize=40), digits.take(np.arange(16))
    vary = Augmentation(flip=True, crop="five")
    found = whole(run(tmp_path, source, spec=spec, changes={"fit": "crop", "augmentation": vary}))
    assert found.shape[:2] == (16, 10)
    for number in range(10):
        numbers = np.full(16, number, np.int32)
        x = augment.variant(source.images, numbers, spec, fit="crop", augmentation=vary)
        expected = MODEL.apply(arbitrary(), x, train=False, stop="block2").mean((1, 2))
        np.testing.assert_allclose(found[:, number], expected, atol=1e-5)
    np.testing.assert_allclose(found[:, :1], live(source, spec=spec, fit="crop"), atol=1e-5)


def test_bfloat16_is_the_rounded_feature(tmp_path, digits):
    source = digits.take(np.arange(16))
    found = run(tmp_path, source, dtype="bfloat16")
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(whole(found), live(source), rtol=2**-7, atol=1e-3)


@pytest.mark.parametrize(
    "other",
    [
        {"variables": 1},
        {"spec": dataclasses.replace(SPEC, mean=(0.1, 0.2, 0.3))},
        {"fit": "crop"},
        {"boundary": "block1"},
        {"pooled": False},
    ],
)
def test_features_of_something_else_are_never_used(tmp_path, digits, computed, other):
    source = digits.take(np.arange(16))
    if "variables" in other:
        other = {"variables": arbitrary(1)}
    run(tmp_path, source)
    changes = {name: value for name, value in other.items() if name in ("fit", "boundary", "pooled")}
    found = run(tmp_path, source, changes=changes, **{k: v for k, v in other.items() if k not in changes})
    np.testing.assert_allclose(whole(found), live(source, **other), atol=1e-5)
    assert computed == [16, 16]


def test_other_images_are_computed_and_known_ones_are_not(tmp_path, digits, computed):
    images = digits.images[:16].copy()
    run(tmp_path, datasets.from_arrays(images, digits.labels[:16]))
    images[3, 4, 4] ^= 1
    changed = datasets.from_arrays(images, digits.labels[:16], [str(c) for c in range(10)])
    np.testing.assert_allclose(whole(run(tmp_path, changed)), live(changed), atol=1e-5)
    assert computed == [16, 1]


def test_subsets_other_orders_and_repeats_are_known(tmp_path, digits, computed):
    run(tmp_path, digits)
    rows = np.random.default_rng(0).permutation(40)[:25]
    rows[7] = rows[3]
    again = digits.take(rows)
    np.testing.assert_allclose(whole(run(tmp_path, again)), live(again), atol=1e-5)
    assert computed == [40]
    # Another head on the same stages knows them too.
    other = create_model("vgg_tiny", num_classes=3, dropout=0.9)
    assert len(run(tmp_path, again, model=other, variables=arbitrary(0) | {"batch_stats": {}})) == 25
    assert computed == [40]


def test_repeats_are_computed_once(tmp_path, digits, computed):
    again = digits.take(np.array([5, 1, 5, 5, 2]))
    np.testing.assert_allclose(whole(run(tmp_path, again)), live(again), atol=1e-5)
    assert computed == [3]


def test_a_damaged_shard_is_computed_anew(tmp_path, digits, computed, monkeypatch, caplog):
    monkeypatch.setattr(store, "SHARD_IMAGES", 12)
    expected = whole(run(tmp_path, digits))
    damaged = next(tmp_path.glob("*/shard-*/features.npy"))
    content = bytearray(damaged.read_bytes())
    content[200] ^= 4
    damaged.write_bytes(content)
    lost = len(np.load(damaged.parent / "pictures.npy"))
    with caplog.at_level("WARNING", logger="absl"):
        np.testing.assert_allclose(whole(run(tmp_path, digits)), expected, atol=1e-6)
    assert computed == [40, lost] and "has changed since it was written" in caplog.text


def test_a_signal_stops_it_and_nothing_computed_is_lost(tmp_path, digits, computed):
    interrupt = Interrupt()
    interrupt.received = signal.SIGTERM
    assert run(tmp_path, digits, interrupt=interrupt) is None
    interrupt.received = None
    np.testing.assert_allclose(whole(run(tmp_path, digits, interrupt=interrupt)), live(digits), atol=1e-5)
    assert computed == [40, 24]


def test_errors(tmp_path, digits, monkeypatch):
    variables = arbitrary()
    variables["params"]["block1"]["conv1_1"]["bias"][:] = np.nan
    with pytest.raises(ValueError, match="features of image 0 of digits at stage 'block2' are NaN or infinite"):
        run(tmp_path, digits, variables=variables)
    assert not list(tmp_path.glob("*/shard-*"))
    with pytest.raises(ValueError, match="batch_size = 12 does not divide over 8 devices"):
        run(tmp_path, digits, batch_size=12)
    with pytest.raises(ValueError, match="fc6 reads a 4x4 map"):
        wanted = dataclasses.replace(WANTED, boundary="fc6")
        model = create_model("vgg_tiny", adaptive_pool=False)
        extraction.open_store(tmp_path, model, arbitrary(model=model), SPEC.at(64), wanted)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=r"features of 40 images take [\d,]+ bytes and .* has 1,000 left: free space"):
        run(tmp_path, digits)


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
import test_extract
from jft.features import store, turn

store.SHARD_IMAGES = 8
written = store.write_json

def write(path, value):
    if path.name == "manifest.json" and len(list(path.parents[1].glob("shard-*"))) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    written(path, value)

store.write_json = write
digits = test_extract.datasets.load_source("digits", split="all", data_dir=None, validation=0, seed=0)
test_extract.run(sys.argv[1], digits.take(test_extract.np.arange(40)))
"""


def test_killed_while_extracting_it_resumes(tmp_path, digits, computed):
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(Path(__file__).parent)]
    died = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120)
    assert died.returncode == -signal.SIGKILL, died.stderr
    (folder,) = (tmp_path / "killed").iterdir()
    assert len(list(folder.glob("shard-*"))) == 2 and len(list(folder.glob(".writing-*"))) == 1
    resumed = whole(run(tmp_path / "killed", digits))
    assert computed == [40 - 16] and not list(folder.glob(".writing-*"))
    np.testing.assert_allclose(resumed, live(digits), atol=1e-5)
    assert os.listdir(tmp_path / "killed") == [folder.name]


def test_runs_take_turns(tmp_path, monkeypatch):
    waited, first = [], turn.of(tmp_path / "store", None)
    first.__enter__()

    def sleep(seconds):
        waited.append(seconds)
        first.__exit__(None, None, None)

    monkeypatch.setattr(turn.time, "sleep", sleep)
    with turn.of(tmp_path / "store", None):
        assert len(waited) == 1
        with turn.of(tmp_path / "store", SimpleNamespace(check=lambda: True)):  # a signal came
            assert len(waited) == 1


def test_what_another_run_computed_meanwhile_is_not_computed_again(digits, tmp_path, monkeypatch):
    computed, compute = [], extraction._run

    def counted(*args):
        computed.append(args)
        compute(*args)

    @contextlib.contextmanager
    def waiting(folder, interrupt):
        monkeypatch.undo()
        run(tmp_path, digits)
        monkeypatch.setattr(extraction, "_run", counted)
        yield

    monkeypatch.setattr(extraction.turn, "of", waiting)
    assert len(run(tmp_path, digits)) == 40 and not computed
