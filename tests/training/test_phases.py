"""Phases: where each begins and ends, what learns in it and how fast, and what is carried from one into the next."""

import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_chain import Small, images

from jft.config import default_config
from jft.data.augment import Augmentation
from jft.data.preprocess import Preprocess
from jft.metrics.losses import Objective
from jft.models import MODELS, abstract_variables, create_model, initialize
from jft.training import optim, presets
from jft.training.loop import train
from jft.training.phase_table import phase_table
from jft.training.phases import in_force, make_phases
from jft.training.programs import compile_train_step
from jft.training.run import create_run
from jft.training.state import enter_phase, initial_state
from jft.training.step import Input, TrainState, make_train_step
from jft.utils import tree
from jft.utils.logger import Logs

MODEL = Small(num_classes=3)
SHAPES = abstract_variables(MODEL, 8)
STEPS_PER_EPOCH = 12.5


pytestmark = pytest.mark.usefixtures("one_device")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The model by its name."""
    monkeypatch.setitem(MODELS._rows, "small", Small)


def make(**changes):
    config = default_config()
    config.update({"model": "small", "weights": "", "batch_size": 16, "validation": 0.0, "flip": False, **changes})
    return config


def phases_of(num_steps=40, **changes):
    how = {"num_steps": num_steps, "steps_per_epoch": STEPS_PER_EPOCH, "spec": Preprocess().at(8)}
    return make_phases(make(**changes), MODEL, SHAPES, **how)


def spans(phases):
    return [(phase.first, phase.last) for phase in phases]


def test_lengths_are_steps_epochs_or_examples():
    lengths = ({"steps": 7}, {"epochs": 2}, {"epochs": 0.3}, {"examples": 160}, {"examples": 1}, {"epochs": 1.0})
    # 2 x 12.5, 3.75 and 160 / 16 steps; never less than one; 12.5 to even, as Python rounds.
    assert spans(phases_of(phases=lengths)) == [(0, 7), (7, 32), (32, 36), (36, 46), (46, 47), (47, 59)]
    assert spans(phases_of()) == [(0, 40)]
    assert phases_of(phases=({"name": "mine", "steps": 3}, {"steps": 4}))[0].name == "mine"
    assert phases_of(phases=({"name": "mine", "steps": 3}, {"steps": 4}))[1].name == "phase 2"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"phases": ({"steps": 5}, {"name": "top"})},
            r"^phase 'top': a phase needs exactly one length above 0, .* here: none",
        ),
        ({"phases": ({"steps": 5}, {"steps": 5, "epochs": 1})}, r"^phase 2: .* here: steps, epochs"),
        ({"phases": ({"steps": 5}, {"steps": 0})}, r"^phase 2: a phase needs exactly one length above 0"),
        ({"phases": ({"steps": 5, "freez": "a"}, {"steps": 5})}, r"^phase 1: .*'freez', did you mean 'freeze'"),
        ({"phases": ({"steps": 5, "batch_size": 8}, {"steps": 5})}, r"^phase 1: unknown field of a phase 'batch_size'"),
        ({"phases": ({"steps": 5, "freeze": "d"}, {"steps": 5})}, r"^phase 1: freeze: pattern 'd' matches none"),
        ({"phases": ({"steps": 5}, {"steps": 5, "freeze": "head"})}, r"^phase 2: .*nothing is trainable"),
        ({"phases": ({"steps": 5}, {"steps": 5, "optimizer": "adamm"})}, "^phase 2: .*unknown optimizer 'adamm'"),
        ({"phases": ({"steps": 5}, {"steps": 5, "learning_rate": "fast"})}, r"^phase 2: learning_rate = 'fast'"),
        ({"phases": ({"steps": 5}, {"steps": 5, "learning_rate": -1.0})}, r"^phase 2: .*learning_rate = -1.0"),
        ({"phases": ({"steps": 5}, {"steps": 5, "momentum": 0.5})}, r"^phase 2: .*momentum = 0.5 has no effect where"),
        ({"phases": ({"steps": 5},), "preset": "full"}, "phases and preset = 'full' both define"),
        ({"phases": ({"steps": 5},), "steps": 9}, "phases have their own lengths, and steps = 9: leave steps out"),
        ({"phases": ({"steps": 5}, {"steps": 5}), "early_stopping": 2}, "early_stopping = 2 .* a run with 2 phases"),
        ({"preset": "lp_ft", "early_stopping": 2}, "early_stopping = 2 .* a run with 2 phases"),
        ({"preset": "linear_probe", "freeze": "b"}, "'linear_probe' defines what is frozen, and freeze = 'b'"),
        ({"preset": "full", "freeze": "b"}, "'full' defines what is frozen, and freeze = 'b': leave one of them out"),
        ({"preset": "from_scratch", "freeze": "b"}, "'from_scratch' defines what is frozen, and freeze = 'b'"),
        ({"preset": "scales_and_biases", "freeze": "b"}, "'scales_and_biases' defines what is frozen"),
        ({"preset": "scales_and_biases", "batch_norm": "frozen"}, "and batch_norm = 'frozen' freezes them"),
        ({"preset": "gradual_unfreezing", "freeze": "head"}, "a stage before the head, and freeze = 'head'"),
        (
            {"solver": "ridge", "freeze": "b", "validation": 0.2},
            "'ridge' freezes everything before the head, and freeze = 'b'",
        ),
        ({"preset": "gradual_unfreezing", "num_steps": 3}, "has 4 phases, and the run only 3 steps: train longer"),
        ({"preset": "gradual_unfreezing", "freeze": "a/.* b/.*"}, r"unfreezes down to a stage, and freeze = 'a/\.\*"),
    ],
)
def test_what_is_wrong_names_its_phase(changes, message):
    with pytest.raises(ValueError, match=message):
        phases_of(**changes)


def boundaries(phases):
    return [phase.plan.boundary for phase in phases]


def test_presets():
    for freeze in ("", "c"):
        (probe,) = phases_of(preset="linear_probe", freeze=freeze)
        assert (probe.plan.boundary, probe.num_steps) == ("c", 40)
        (solved,) = phases_of(solver="ridge", freeze=freeze, validation=0.25)
        assert (solved.plan.boundary, solved.num_steps) == ("c", 1)
    probe, tuning = phases_of(preset="lp_ft", num_steps=41, learning_rate=1e-2, freeze="a")
    assert spans((probe, tuning)) == [(0, 20), (20, 41)]
    assert boundaries((probe, tuning)) == ["c", "a"]
    assert [float(p.schedule(p.first)) for p in (probe, tuning)] == pytest.approx([1e-2, 1e-3])
    gradual = phases_of(preset="gradual_unfreezing")
    assert spans(gradual) == [(0, 10), (10, 20), (20, 30), (30, 40)]
    assert boundaries(gradual) == ["c", "b", "a", None]
    assert [phase.name for phase in gradual] == ["from head", "from c", "from b", "from a"]
    assert boundaries(phases_of(preset="gradual_unfreezing", freeze="a")) == ["c", "b", "a"]
    for preset in ("full", "from_scratch"):
        (everything,) = phases_of(preset=preset)
        assert (everything.plan.boundary, everything.num_steps) == (None, 40)


def learning(phase):
    return {name for name in tree.flatten(SHAPES["params"]) if name not in phase.plan.frozen}


def test_scales_and_biases_learn_and_nothing_else_of_the_backbone():
    norms = {f"{stage}/{leaf}" for stage in "abc" for leaf in ("conv/bias", "bn/scale", "bn/bias")}
    head = {"head/head/kernel", "head/head/bias"}
    (phase,) = phases_of(preset="scales_and_biases")
    assert learning(phase) == norms | head and not phase.plan.inference_norms
    (phase,) = phases_of(preset="scales_and_biases", fresh="b a/bn", weights="torchvision")
    assert learning(phase) == norms | head | {"b/conv/kernel"}
    given = presets.Given(make(), ("a", "head"), ("head", "aux"), True, 40, 1.0)
    [phase] = presets.PRESETS["scales_and_biases"](given)
    names = ("a/conv/kernel", "a/conv/bias", "aux/conv/kernel", "auxiliary/kernel", "header/bias", "a/scale/kernel")
    assert tree.matching([phase["freeze"]], names, what="freeze") == {
        *("a/conv/kernel", "auxiliary/kernel", "a/scale/kernel")
    }


def test_kernels_stay_bit_identical_where_scales_and_biases_learn():
    (phase,) = phases_of(preset="scales_and_biases", optimizer="adamw", weight_decay=0.1)
    variables = initialize(MODEL, 8, 0)
    state = TrainState(np.int32(0), **variables, opt_state=phase.tx.init(variables["params"]))
    inputs = Input(lambda images, rng: images / 255.0)
    step = make_train_step(
        MODEL, phase.plan, phase.tx, schedule=phase.schedule, objective=Objective("softmax", 3), inputs=inputs, seed=0
    )
    rng = np.random.default_rng(0)
    batch = {"image": rng.integers(0, 256, (6, 8, 8, 3)), "label": np.arange(6) % 3, "mask": np.ones(6, bool)}
    step = jax.jit(step)
    for _ in range(3):
        state, _ = step(state, batch)
    before, after = tree.flatten(variables["params"]), tree.flatten(state.params)
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    # A bias before a BatchNorm has no gradient but rounding errors.
    assert moved | {f"{stage}/conv/bias" for stage in "abc"} == learning(phase)


def test_from_scratch_reads_no_weights(tmp_path):
    config = default_config()
    config.update({"dataset": "digits", "model": "vgg_tiny", "weights": "digits04", "examples_per_class": 4})
    assert create_run(config, tmp_path).row is not None
    config.preset = "from_scratch"
    run = create_run(config, tmp_path)
    assert run.row is None
    assert initial_state(run)[1].pretrained == ()


def test_the_rate_is_a_function_of_the_runs_step():
    cosine = {"schedule": "cosine", "learning_rate": 1e-2, "warmup_epochs": 0.32}  # 4 steps of warm-up
    step = {"schedule": "step", "step_epochs": (0.8,), "learning_rate": 1e-1}  # at step 10 of the phase
    first, second, third = phases_of(phases=({"steps": 20}, {"steps": 24, **cosine}, {"steps": 20, **step}))
    assert float(first.schedule(19)) == pytest.approx(1e-3)
    found = [float(second.schedule(n)) for n in (20, 22, 24, 34, 44)]
    assert found == pytest.approx([0, 5e-3, 1e-2, 5e-3, 0], abs=1e-8)
    assert [float(third.schedule(n)) for n in (44, 53, 55, 63)] == pytest.approx([1e-1, 1e-1, 1e-2, 1e-2])


def test_layer_decay_scales_what_a_stage_moves():
    config = {"optimizer": "sgd", "momentum": 0.0, "layer_decay": 0.5, "weight_decay": 0.1}
    (phase,) = phases_of(phases=({"steps": 5, **config},))
    params = jax.tree.map(lambda x: jnp.full(x.shape, 2.0), SHAPES["params"])
    updates, _ = phase.tx.update(jax.tree.map(jnp.ones_like, params), phase.tx.init(params), params)
    for stage, factor in {"a": 0.125, "b": 0.25, "c": 0.5, "head": 1.0}.items():
        for name, leaf in tree.flatten(updates[stage]).items():
            # Decay of weights is part of the step, and shrinks with it; biases and BatchNorm have none.
            expected = factor * (1 + 0.1 * 2 if leaf.ndim > 1 else 1)
            np.testing.assert_allclose(leaf, -expected, rtol=1e-6, err_msg=f"{stage}/{name}")


def test_the_table_and_the_log_tell_the_phase_in_force():
    phases = phases_of(
        phases=(
            {"name": "head", "steps": 5, "freeze": "c", "learning_rate": 1e-2},
            {"name": "top", "steps": 5, "freeze": "b", "batch_norm": "statistics", "schedule": "cosine"},
            {"name": "still", "steps": 5, "batch_norm": "frozen", "layer_decay": 0.7, "optimizer": "sgd"},
        )
    )
    told = [in_force(phase, SHAPES) for phase in phases]
    assert [one["boundary"] for one in told] == ["c", "b", ""]
    assert [one["batch_norm"] for one in told] == ["frozen", "statistics", "frozen"]
    # 3x3 convolutions of 3 to 4, 4 to 4 and 4 to 4 channels, and the head's 4 to 3; scale and bias learn in none.
    assert [one["learning"] for one in told] == [15, 15 + 148, 15 + 148 + 148 + 112]
    assert in_force(phases_of()[0], SHAPES) == {
        **{"phase": "training", "boundary": "", "batch_norm": "trained"},
        "learning": 423 + 3 * 8,
    }
    lines = phase_table(phases, SHAPES).splitlines()
    assert [line.split()[0] for line in lines] == ["phase", "head", "top", "still"]
    for line, one in zip(lines[1:], told, strict=True):
        assert f" {one['boundary'] or '-'} " in line and f" {one['learning']} " in line and one["batch_norm"] in line
    assert "0.01 to 0.01 (constant)" in lines[1] and "(cosine)" in lines[2]
    assert lines[3].endswith("0.7") and "sgd" in lines[3]


def test_the_table_tells_the_peak_of_a_rate_and_phases_of_one_step():
    head = {"name": "head", "steps": 1, "learning_rate": 0.5}
    rest = {"name": "all", "steps": 40, "schedule": "cosine", "warmup_epochs": 1.6, "learning_rate": 0.25}
    phases = phases_of(phases=(head, rest))
    _, head, everything = phase_table(phases, SHAPES).splitlines()
    assert "0.5 to 0.5 (constant)" in head and " up to 0.25, then " in everything


def begin(tmp_path, **changes):
    """A run, its first state, and `go(state, phase, steps, after)`, which steps through a phase."""
    source = images()
    run = create_run(make(**changes), tmp_path / "run", source)
    batch = {"image": source.images[:16], "label": source.labels[:16], "mask": np.ones(16, bool)}

    def go(state, phase, steps, after=lambda state: None):
        step = compile_train_step(run, phase, batch)
        for _ in range(steps):
            state, _ = step(state, run.parallel.place_batch(batch))
            after(state)
        return state

    return run, initial_state(run)[0], go


def copied(pytree):
    return {name: np.array(leaf) for name, leaf in tree.flatten(pytree).items()}


def changed(before, after):
    return {name for name, leaf in copied(after).items() if not np.array_equal(leaf, before[name])}


@pytest.mark.parametrize("mode", ["trained", "statistics", "frozen"])
def test_batch_norm_modes(tmp_path, mode):
    run, state, go = begin(tmp_path, freeze="a", batch_norm=mode, steps=5, learning_rate=1e-2, weight_decay=0.1)
    params, stats = copied(state.params), copied(state.batch_stats)
    state = go(state, run.phases[0], 3)
    affine = {f"{stage}/bn/{leaf}" for stage in "bc" for leaf in ("scale", "bias")}
    others = {name for name in params if not name.startswith("a/")} - affine
    # A convolution's bias before a BatchNorm that normalizes by the batch has next to no gradient, but Adam's step.
    assert changed(params, state.params) == others | (affine if mode == "trained" else set())
    moving = {name for name in stats if not name.startswith("a/")}
    assert changed(stats, state.batch_stats) == (set() if mode == "frozen" else moving)


def test_a_leaf_that_goes_on_learning_keeps_its_averages_and_a_new_one_starts_anew(tmp_path):
    """Against Adam by itself on each stage, started where the stage begins to learn."""
    phases = ({"steps": 4, "freeze": "b"}, {"steps": 4, "freeze": "a"}, {"steps": 4, "freeze": "a", "weight_decay": 0})
    run, state, _ = begin(tmp_path, phases=phases, optimizer="adam")
    since = {"c": 0, "head": 0, "b": 4}
    alone = optax.scale_by_adam()
    known = {stage: alone.init(state.params[stage]) for stage in since}
    rng = np.random.default_rng(0)
    for phase in run.phases:
        if phase.first:
            before = {name: np.array(leaf) for name, leaf in names_of(state.opt_state).items()}
            state = enter_phase(run, phase, state)
            after = names_of(state.opt_state)
            assert all(np.array_equal(after[name], leaf) for name, leaf in before.items())
        for step in range(phase.first, phase.last):
            grads = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), state.params)
            updates, opt_state = phase.tx.update(grads, state.opt_state, state.params)
            state = state.replace(opt_state=opt_state)
            for stage in since:
                if step >= since[stage]:
                    expected, known[stage] = alone.update(grads[stage], known[stage])
                    jax.tree.map(lambda x, y: np.testing.assert_array_equal(-x, y), updates[stage], expected)
                else:
                    assert not any(leaf.any() for leaf in jax.tree.leaves(updates[stage]))


def names_of(opt_state):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(opt_state)}


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_what_the_optimizer_knows_outlives_clipping_and_decay(optimizer):
    settings = [(0.0, 0.0), (1.0, 0.1), (0.0, 0.1), (1.0, 0.0), (0.0, 0.0)]
    own = tuple({"steps": 2, "clip_norm": norm, "weight_decay": decay} for norm, decay in settings)
    first, *others = phases_of(phases=own, optimizer=optimizer)
    params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), SHAPES["params"])
    state = jax.tree.map(lambda x: np.asarray(x) + 1, first.tx.init(params))
    known = names_of(state)
    assert len(known) == (1 if optimizer == "sgd" else 2) * len(copied(params)) + (optimizer != "sgd")
    for phase in others:
        state = optim.carry_over(state, phase.tx.init(params))
        found = names_of(state)
        assert found.keys() == known.keys()
        assert all(np.array_equal(found[name], leaf) for name, leaf in known.items()), phase.first


def test_another_optimizer_starts_anew(tmp_path):
    phases = ({"steps": 3, "optimizer": "adam"}, {"steps": 3, "optimizer": "sgd"}, {"steps": 3, "optimizer": "adam"})
    run, state, _ = begin(tmp_path, phases=phases)
    for phase in run.phases:
        state = enter_phase(run, phase, state) if phase.first else state
        assert not any(leaf.any() for leaf in jax.tree.leaves(state.opt_state)), phase.name
        state = state.replace(opt_state=jax.tree.map(lambda x: x + 1, state.opt_state))


def test_the_average_is_the_formula_and_is_what_is_evaluated(tmp_path):
    phases = ({"steps": 3, "freeze": "b"}, {"steps": 3, "freeze": "a"})
    run, state, go = begin(tmp_path, phases=phases, ema=0.75, learning_rate=1e-1)
    expected = {name: leaf for name, leaf in copied(state.params).items() if name.startswith(("c/", "head/"))}

    def follow(state):
        for name in expected:
            new = np.asarray(tree.flatten(state.params)[name])
            expected[name] = 0.75 * expected[name] + 0.25 * new

    for phase in run.phases:
        if phase.first:
            state = enter_phase(run, phase, state)
            expected |= {name: leaf for name, leaf in copied(state.params).items() if name.startswith("b/")}
        state = go(state, phase, 3, follow)
        average = copied(state.ema)
        assert average.keys() == expected.keys()
        for name, leaf in average.items():
            np.testing.assert_allclose(leaf, expected[name], rtol=1e-5, atol=1e-7, err_msg=name)
        evaluated, params = copied(state.variables["params"]), copied(state.params)
        assert all(np.array_equal(evaluated[name], average.get(name, params[name])) for name in params)
        assert not np.array_equal(evaluated["head/head/kernel"], params["head/head/kernel"])


def final_digests(workdir):
    newest = max((workdir / "checkpoints").iterdir(), key=lambda path: int(path.name))
    return newest.name, json.loads((newest / "meta" / "metadata").read_text())["digests"]


def test_an_average_is_resumed_bit_for_bit(tmp_path, monkeypatch, compiled_once):
    """Stopped exactly where a phase ends, and within the next."""
    config = make(
        phases=({"steps": 4, "freeze": "b"}, {"steps": 4, "freeze": "a", "schedule": "cosine"}),
        **{"ema": 0.9, "learning_rate": 1e-2, "log_every": 1},
    )
    train(config, tmp_path / "whole", images())
    write = Logs.write
    for stop in (4, 6):

        def stopping(self, step, kind, values, stop=stop):
            write(self, step, kind, values)
            if (step, kind) == (stop, "train"):
                terminate()

        monkeypatch.setattr(Logs, "write", stopping)
        assert train(config, tmp_path / "stopped", images())["step"] == stop
    monkeypatch.setattr(Logs, "write", write)
    assert train(config, tmp_path / "stopped", images())["finished"]
    assert final_digests(tmp_path / "stopped") == final_digests(tmp_path / "whole")


def terminate():
    signal.raise_signal(signal.SIGTERM)


def test_a_phase_has_its_own_images():
    own = ({"steps": 2, "image_size": 12, "resized_crop": (0.5, 1.0), "augment": ("color_jitter",)}, {"steps": 1})
    small, usual = phases_of(phases=own, flip=False)
    assert (small.spec, usual.spec) == (Preprocess().at(12), Preprocess().at(8))
    assert (small.augmentation.resized_crop, len(small.augmentation.augment)) == ((0.5, 1.0), 1)
    assert usual.augmentation == Augmentation(crop="random")


def test_image_sizes_differ_where_the_network_allows_it():
    model = create_model("cnn", num_classes=3)
    how = {"num_steps": 4, "steps_per_epoch": 2, "spec": Preprocess().at(224)}
    config = make(phases=({"steps": 2, "image_size": 160},))
    with pytest.raises(ValueError, match="image_size = 160, and the run's images have 224 pixels: the shape of "):
        make_phases(config, model, abstract_variables(model, 224), **how)
