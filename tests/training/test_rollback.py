"""Steps at fault, by design: what a run makes of them, and that nothing depends on when they were found."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from on_demand import on_demand
from small_chain import Small, images
from small_vgg import SMALL, config_of, killing, records, saved_meta

from jft.data import loader
from jft.evaluation.restore import restore
from jft.models import MODELS
from jft.training import programs, rollback
from jft.training.loop import train
from jft.training.programs import compile_train_step
from jft.training.progress import NonFiniteLossError, Window, all_finite, check_finite
from jft.training.replay import replay
from jft.training.run import create_run
from jft.training.state import abstract_state
from jft.training.step import make_train_step
from jft.utils import tree
from jft.utils.mesh import make_parallel

pytestmark = pytest.mark.xdist_group("rollback")
PHASES = (
    {"name": "top", "steps": 14, "freeze": "block2"},  # on cached features
    {"name": "all", "steps": 6, "freeze": "", "optimizer": "sgd", "learning_rate": 1e-3},
)
# The first before there is a checkpoint; the last is the end of the run.
FAULTS = {3: "objective", 9: "moving", 20: "grad_norm"}
OFTEN = {"checkpoint_every": 4, "keep_every": 4, "log_every": 3, "eval_batch_size": 24, "ema": 0.9}


def broken(step, faults):
    """A training step that is at fault at some numbers, in what it tells or in what it moves, whatever the images."""

    def train_step(state, batch):
        after, told = step(state, batch)
        for number, where in faults.items():
            now = state.step == number - 1
            if where != "moving":
                told[where] = jnp.where(now, jnp.nan, told[where])
            params = jax.tree.map(lambda x, now=now: jnp.where(now, jnp.nan, x), after.params["head"])
            after = after.replace(params={**after.params, "head": params})
        return after, told

    return train_step


@pytest.fixture(scope="module")
def small(one_device, compile_once):
    """The runs of `config` can be trained, and break at `FAULTS`; they share what is compiled."""

    def make(*args, **options):
        return broken(make_train_step(*args, **options), FAULTS)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS._rows, "small", SMALL)
        patch.setattr(programs, "make_train_step", make)
        patch.setattr(programs, "compile_train_step", compile_once)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("rollback")


def config_in(folder):
    return config_of(phases=PHASES, features_dir=str(folder / "features"), on_nan="rollback", **OFTEN)


@pytest.fixture
def config(small, folder):
    return config_in(folder)


def digests(workdir):
    return saved_meta(workdir)["digests"]


@pytest.fixture(scope="module")
def never_at_fault(small, folder):
    """A run that knows from the beginning which steps to leave out."""
    config, workdir = config_in(folder), folder / "control"
    run = create_run(config, workdir)
    workdir.mkdir()
    (workdir / "config.json").write_text(json.dumps(config.to_dict()))
    for step in FAULTS:
        rollback.record(run, NonFiniteLossError(step, "known", "none"))
    assert train(config, workdir)["finished"]
    return workdir


def test_a_run_goes_back_and_equals_one_that_never_took_these_steps(config, never_at_fault, tmp_path, capsys):
    workdir = tmp_path / "run"
    assert train(config, workdir)["step"] == 20
    skipped = rollback.read(workdir)
    assert [(one.step, one.fault) for one in skipped] == [
        (3, "the loss of step 3 is nan"),
        (9, "the parameters or statistics are not finite after step 9"),
        (20, "the gradient norm of step 20 is nan"),
    ]
    told = capsys.readouterr().out
    assert "WARNING: steps skipped because of NaN, infinity or a spike: 3, 9, 20." in told
    assert (
        "WARNING: the loss of step 3 is nan. Going back to the newest checkpoint and skipping step 3 (1 of at most 3"
        in told
    )
    assert digests(workdir) == digests(never_at_fault)
    assert records(workdir) == records(never_at_fault)
    assert saved_meta(workdir)["skipped"] == [3, 9, 20]
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "skipped"] == [3, 9, 20]
    assert [line["step"] for line in lines if line["kind"] == "train"] == [3, 6, 9, 12, 14, 15, 18, 20]
    source = create_run(config, workdir).train_source
    rows, _ = loader.train_rows(source, batch_size=16, seed=0)(2)  # of the third step
    assert skipped[0].images == tuple(source.image_name(int(row)) for row in rows)

    # A replay from before a step that is left out, with checkpoints that knew nothing of it yet.
    for step, start in ((9, 8), (12, 8), (20, 16)):
        found = replay(workdir, step)
        assert (found.start, found.exact, found.same) == (start, True, True)


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_been(config, never_at_fault, tmp_path, monkeypatch):
    """Killed as it goes back, and after it has, before the next checkpoint."""
    workdir = tmp_path / "run"
    for owner, name, number in ((rollback, "record", 1), (Window, "add", 11)):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, killing(getattr(owner, name), number))
            with pytest.raises(KeyboardInterrupt):
                train(config, workdir)
    assert train(config, workdir)["finished"]
    assert digests(workdir) == digests(never_at_fault) and records(workdir) == records(never_at_fault)


def test_so_many_times_and_no_more(config, never_at_fault, tmp_path):
    workdir = tmp_path / "run"
    config.on_nan = "stop"
    with pytest.raises(
        NonFiniteLossError, match=r"the loss of step 3 is nan: .* skip such steps with on_nan = 'rollback'"
    ):
        train(config, workdir)
    config.update({"on_nan": "rollback", "max_rollbacks": 1})
    with pytest.raises(NonFiniteLossError, match=r"after step 9, and 1 steps are skipped already \(3; see "):
        train(config, workdir)
    config.max_rollbacks = 3
    assert train(config, workdir)["finished"]
    assert digests(workdir) == digests(never_at_fault)
    (workdir / rollback.FILE).write_text('[{"step": 3, "fau')
    with pytest.raises(ValueError, match=r"skipped_steps.json.*restore it, or delete it"):
        rollback.read(workdir)


CHAIN = {"model": "chain", "image_size": 8, "classes": (), "examples_per_class": 0, "validation": 0.0, "steps": 3}


def poisoned(make):
    """Transforms as `make` makes them, but that a white image is made not a number."""

    def made(*args, **options):
        transform = make(*args, **options)

        def nan_where_white(images, rng):
            white = (images == 255).all(axis=(1, 2, 3), keepdims=True)
            return jnp.where(white, jnp.nan, transform(images, rng))

        return nan_where_white

    return made


@pytest.mark.parametrize(
    ("parallel", "accumulate"), [("jit", 2), pytest.param("pmap", 1, marks=on_demand("under jit it is always run"))]
)
def test_images_left_out_contribute_nothing_on_any_number_of_devices(tmp_path, monkeypatch, parallel, accumulate):
    """Two runs whose images differ in the step that is left out alone; in one of them a loss is not finite for it."""
    monkeypatch.setitem(MODELS._rows, "chain", Small)
    monkeypatch.setattr(jax, "devices", jax.local_devices)
    monkeypatch.setattr(programs, "make_train_step", make_train_step)
    monkeypatch.setattr(programs, "compile_train_step", compile_train_step)
    monkeypatch.setattr(programs, "make_train_transform", poisoned(programs.make_train_transform))
    config = config_of(**CHAIN, parallel=parallel, accumulate=accumulate, on_nan="rollback", checkpoint_every=1)
    run, data = create_run(config, tmp_path, images()), images()
    rows = loader.train_rows(run.train_source, batch_size=16, seed=0)
    image = next(row for row in rows(1)[0] if row not in rows(0)[0] and row not in rows(2)[0])
    found = {}
    for name, value in (("white", 255), ("black", 0)):
        kept = data.images.copy()
        kept[run.train_source.indices[image]] = value
        workdir = tmp_path / name
        if found:  # from the beginning, though nothing would be wrong with it
            workdir.mkdir()
            for file in ("config.json", rollback.FILE):
                shutil.copy(tmp_path / "white" / file, workdir)
        assert train(config, workdir, dataclasses.replace(data, images=kept))["finished"]
        assert [skipped.step for skipped in rollback.read(workdir)] == [2]
        found[name] = tree.flatten(restore(workdir, make_parallel("jit")).variables)
    for name, leaf in found["white"].items():
        np.testing.assert_array_equal(leaf, found["black"][name], err_msg=name)
        assert np.isfinite(leaf).all()


GOOD = {"objective": 8.0, "grad_norm": 3.0, "correct": 4.0, "count": 16.0, "learning_rate": 0.1, "finite": True}


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"objective": np.inf}, "the loss of step 2 is inf"),
        ({"grad_norm": np.nan}, "the gradient norm of step 2 is nan"),  # what it moves shows in the next loss alone
        ({"finite": False}, "the parameters or statistics are not finite after step 2"),
        ({"grad_norm": 10.5}, "the gradient norm of step 2 is 10.5, above spike_norm = 10"),
        ({"grad_norm": 10.0}, None),
    ],
)
def test_the_first_step_at_fault_is_named(config, tmp_path, wrong, fault):
    config.spike_norm = 10.0
    run = create_run(config, tmp_path / "run")
    window = Window(run, run.phases[0], abstract_state(run, run.phases[0]), {})
    for step, sums in enumerate((GOOD, {**GOOD, **wrong}, {**GOOD, "objective": np.nan}), 1):
        window.add(step, sums)
    with pytest.raises(NonFiniteLossError) as error:
        window.check()
    assert error.value.step == (2 if fault else 3)
    assert str(error.value).startswith(fault or "the loss of step 3 is nan")


def test_statistics_are_checked_as_parameters_are(config, tmp_path):
    run = create_run(config, tmp_path / "run")
    phase = run.phases[1]
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), abstract_state(run, phase))
    check_finite(phase, 5, state)
    assert all_finite(phase, state)
    state.batch_stats["block3"]["bn3_1"]["var"] = jnp.full(8, jnp.inf)
    assert not all_finite(phase, state)
    with pytest.raises(NonFiniteLossError, match="block3/bn3_1/var is not finite after step 5"):
        check_finite(phase, 5, state)
