"""What the user gives in place of a name: by "module:function" and as a function, with resume bit for bit."""

import functools
import json
import signal
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_chain
import small_digits
from PIL import Image

import jft
from jft.config import default_config
from jft.data import datasets
from jft.evaluation.evaluate import evaluate
from jft.evaluation.results import format_evaluation
from jft.models import MODELS
from jft.training.loop import train
from jft.utils import registry
from jft.utils.registry import GIVEN


def focal(logits, targets):
    """Lin et al., 2017, with gamma 2."""
    p = jax.nn.softmax(logits)
    return -jnp.sum(targets * (1 - p) ** 2 * jnp.log(p), axis=-1)


def heavy_ball(learning_rate, momentum):
    return optax.chain(optax.trace(momentum), optax.scale_by_learning_rate(learning_rate))


def plain(learning_rate):
    return optax.sgd(learning_rate)


@pytest.fixture(scope="module", autouse=True)
def small():
    """The small network by name, one device, and the functions here in a module that a config can name."""
    module = types.ModuleType("own_parts")
    module.focal, module.heavy_ball, module.darker = focal, heavy_ball, darker
    module.margin, module.ramp, module.plain = margin, ramp, plain
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS._rows, "small", small_chain.Small)
        patch.setitem(sys.modules, "own_parts", module)
        patch.setattr(jax, "devices", lambda *a: jax.local_devices()[:1])
        yield


def make(**changes):
    config = default_config()
    config.update({"model": "small", "weights": "", "steps": 4, "batch_size": 12, "eval_batch_size": 16, "flip": False})
    config.update({"validation": 12, "cache_features": False, "log_every": 2, "evaluate_every": 100.0, **changes})
    return config


def parameters(workdir):
    """The fingerprint of what learned, at each line of the log."""
    return [line["parameters"] for line in small_digits.records(workdir, "train")]


def interrupted(monkeypatch, config, workdir, then=lambda: None, **own):
    """Trains two of four steps, as if a signal had come, and `then` the others."""
    data = {"data": own.pop("data", small_chain.images())}

    def check(self):
        log = workdir / "metrics.jsonl"
        if log.exists() and '"train"' in log.read_text():
            self.received = signal.SIGTERM
        return self.received is not None

    with monkeypatch.context() as patch:
        patch.setattr("jft.utils.interrupt.Interrupt.check", check)
        stopped = train(config, workdir, **data, **own)
        assert (stopped["finished"], stopped["step"]) == (False, 2)
    then()
    assert train(config, workdir, **data, **own)["finished"]


def test_an_own_loss_trains_and_resumes_bit_for_bit(tmp_path, monkeypatch):
    train(make(loss="own_parts:focal"), tmp_path / "whole", small_chain.images())
    interrupted(
        monkeypatch,
        make(loss="own_parts:focal"),
        tmp_path / "parts",
    )
    assert parameters(tmp_path / "whole") == parameters(tmp_path / "parts") and len(parameters(tmp_path / "parts")) == 2
    train(make(), tmp_path / "usual", small_chain.images())
    assert parameters(tmp_path / "usual") != parameters(tmp_path / "whole")


def test_a_function_that_no_module_names_must_be_given_again(tmp_path, capsys):
    own = lambda logits, targets: focal(logits, targets)  # noqa: E731
    result = train(make(), tmp_path / "run", small_chain.images(), loss=own)
    assert result["finished"] and "cannot record loss, which no module defines: pass" in capsys.readouterr().out
    assert GIVEN in (tmp_path / "run" / "config.json").read_text()
    with pytest.raises(ValueError, match="loss: '<given in Python>' -> 'softmax'"):
        train(make(), tmp_path / "run", small_chain.images())
    with pytest.raises(ValueError, match=r"given in Python .* again as loss="):
        train(make(loss=GIVEN), tmp_path / "run", small_chain.images())
    assert train(make(), tmp_path / "run", small_chain.images(), loss=own)["finished"]


@pytest.mark.parametrize(
    "own",
    [
        pytest.param({"optimizer": "lion", "schedule": "cosine"}, marks=pytest.mark.slow),
        {"optimizer": "own_parts:heavy_ball", "momentum": 0.8, "clip_norm": 1.0, "layer_decay": 0.5, "freeze": "a"},
    ],
)
def test_an_optimizer_by_name_trains_and_resumes_bit_for_bit(tmp_path, monkeypatch, own):
    train(make(**own), tmp_path / "whole", small_chain.images())
    interrupted(monkeypatch, make(**own), tmp_path / "parts")
    assert parameters(tmp_path / "whole") == parameters(tmp_path / "parts") and len(parameters(tmp_path / "parts")) == 2


def test_an_optimizer_given_in_python_does_what_optax_does(tmp_path, monkeypatch):
    """A made one, a function of the rate, and jft's own by name go the same way; frozen leaves stay."""
    rate, frozen = {"learning_rate": 0.05}, {"freeze": "a", "cache_features": False}
    usual = train(make(optimizer="adam", **rate, **frozen), tmp_path / "usual", small_chain.images())
    train(make(**frozen), tmp_path / "made", small_chain.images(), optimizer=optax.adam(0.05))
    interrupted(monkeypatch, make(**frozen), tmp_path / "parts", optimizer=optax.adam(0.05))
    asked = lambda learning_rate: optax.adam(learning_rate)  # noqa: E731
    train(make(**rate, **frozen), tmp_path / "asked", small_chain.images(), optimizer=asked)
    lines = [small_digits.records(tmp_path / name, "train")[-1] for name in ("usual", "made", "parts", "asked")]
    assert len({line["loss"] for line in lines}) == 1 and usual["finished"]
    assert lines[1]["parameters"] == lines[2]["parameters"] and lines[0]["parameters"] == lines[3]["parameters"]
    assert ["learning_rate" in line for line in lines] == [True, False, False, True]
    with pytest.raises(ValueError, match=r"optimizer: '<given in Python>' -> 'adamw'"):
        train(make(**frozen), tmp_path / "made", small_chain.images())


def test_an_optimizer_whose_state_became_another_is_refused_on_resume(tmp_path, monkeypatch):
    config = make(optimizer="own_parts:heavy_ball")
    changed = functools.partial(monkeypatch.setitem, registry._imported, "own_parts:heavy_ball", plain)
    with pytest.raises(ValueError, match=r"checkpoint 2.*The state of optimizer = .* is not what it was when"):
        interrupted(monkeypatch, config, tmp_path / "run", then=changed)


def darker(images, key):
    return images // jax.random.randint(key, (len(images), 1, 1, 1), 1, 3).astype(images.dtype)


def test_augmentations_train_and_resume_bit_for_bit(tmp_path, monkeypatch):
    config = make(augment=("random_erasing", "own_parts:darker"), resized_crop=(0.3, 0.9))
    train(config, tmp_path / "whole", small_chain.images())
    interrupted(monkeypatch, config, tmp_path / "parts")
    given = make(resized_crop=(0.3, 0.9))
    train(given, tmp_path / "given", small_chain.images(), augment=["random_erasing", darker])
    assert parameters(tmp_path / "whole") == parameters(tmp_path / "parts") == parameters(tmp_path / "given")
    train(make(augment=config.augment), tmp_path / "usual", small_chain.images())
    assert parameters(tmp_path / "usual") != parameters(tmp_path / "whole")
    with pytest.raises(ValueError, match=r"augment: .*random_erasing.* -> \[\]"):
        train(given, tmp_path / "given", small_chain.images())


def margin(logits, targets):
    return jnp.sum(targets * logits, axis=-1) - jnp.max(logits, axis=-1)


def ramp(peak, steps):
    return optax.linear_schedule(peak, 0.0, steps)


def test_metrics_are_in_the_log_the_evaluation_and_choose_the_best(tmp_path, monkeypatch, caplog):
    config = make(metrics=("brier_score", "own_parts:margin"), select_by="brier_score", evaluate_every=0.5)
    result = train(config, tmp_path / "run", small_chain.images())
    lines = small_digits.records(tmp_path / "run", "validation")
    assert len(lines) == 3 and all(line["margin"] <= 0 <= line["brier_score"] for line in lines)
    assert [line["score"] for line in lines] == [line["brier_score"] for line in lines]
    best = max(result["history"], key=lambda values: values["brier_score"])  # not the one of the best accuracy
    found = evaluate(tmp_path / "run", dataset=small_chain.images())
    assert found["step"] == best["step"] and found["metrics"] == ["brier_score", "margin"] and found["margin"] <= 0
    assert f"brier_score {found['brier_score']:.4f}, margin" in format_evaluation(found)
    monkeypatch.setattr(registry, "_imported", {})  # as in another process: its code is not run unasked
    assert evaluate(tmp_path / "run", dataset=small_chain.images())["metrics"] == ["brier_score"]
    assert "metric own_parts:margin is code of the run's owner" in caplog.text


def test_a_schedule_of_the_users_own(tmp_path, monkeypatch):
    config = make(schedule="own_parts:ramp", learning_rate=0.1, log_every=1, steps=4)
    train(config, tmp_path / "run", small_chain.images())
    rates = [line["learning_rate"] for line in small_digits.records(tmp_path / "run", "train")]
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025])
    own = lambda peak, steps: optax.linear_schedule(peak, 0.0, steps)  # noqa: E731
    train(make(learning_rate=0.1), tmp_path / "given", small_chain.images(), schedule=own)
    assert small_digits.records(tmp_path / "given", "train")[-1]["learning_rate"] == pytest.approx(0.025)
    for wrong, message in (
        (lambda count: 0.1, r"schedule = .* needs count, which jft does not give.*peak, steps"),
        (lambda peak: lambda count: float(count), r"schedule = .* fails \(Concretization"),
        (lambda peak: lambda count: jnp.ones(2), r"gives \[2\] for a step: give one rate"),
    ):
        with pytest.raises(ValueError, match=message):
            train(make(), tmp_path / "wrong", small_chain.images(), schedule=wrong)


def pairs(data_dir):
    source = small_chain.images()
    for image, label in zip(source.images, source.labels, strict=True):
        yield image, f"{data_dir}{'abc'[label]}"


def test_a_dataset_of_the_users_own(tmp_path, monkeypatch):
    module = sys.modules["own_parts"]
    monkeypatch.setattr(module, "pairs", pairs, raising=False)
    monkeypatch.setattr(module, "number", lambda: 3, raising=False)
    config = make(dataset="own_parts:pairs", data_dir="x")
    train(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupted(patch, config, tmp_path / "parts", data=None)
    assert parameters(tmp_path / "whole") == parameters(tmp_path / "parts")
    found = evaluate(tmp_path / "whole")
    assert {*found["per_class"]} == {"xa", "xb", "xc"} and (found["learnt"], found["count"]) == (0, 10)
    with pytest.raises(ValueError, match=r"dataset = 'own_parts:number' gives int: give pairs \(image, label\)"):
        train(make(dataset="own_parts:number"), tmp_path / "wrong")
    monkeypatch.setattr(registry, "_imported", {})  # as in another process
    with pytest.raises(registry.CodeRefusedError, match=r"dataset = 'own_parts:pairs' names code.* --allow-code"):
        evaluate(tmp_path / "whole")


def test_a_model_of_the_users_own(tmp_path, monkeypatch, command):
    """It trains, resumes and opens as one of jft's, and its code is imported only where that is allowed."""
    monkeypatch.setattr(sys.modules["own_parts"], "Net", small_chain.Small, raising=False)
    monkeypatch.setattr(registry, "_imported", {})
    train(make(), tmp_path / "named", small_chain.images())
    interrupted(monkeypatch, make(model="own_parts:Net"), tmp_path / "own")
    assert parameters(tmp_path / "named") == parameters(tmp_path / "own")
    image = small_chain.images().images[:1]
    Image.fromarray(image[0]).save(tmp_path / "image.png")
    expected = np.asarray(jft.load(tmp_path / "own", allow_code=True)(image))
    np.testing.assert_array_equal(expected, np.asarray(jft.load(tmp_path / "named")(image)))
    jft.load(tmp_path / "own", allow_code=True).save(tmp_path / "own.safetensors")
    monkeypatch.setattr(registry, "_imported", {})
    for path in ("own", "own.safetensors"):
        with pytest.raises(registry.CodeRefusedError, match=r"model = 'own_parts:Net' names code.* --allow-code"):
            jft.load(tmp_path / path)
    status, _, error = command("predict", tmp_path / "own", tmp_path / "image.png")
    assert status == 1 and "own_parts:Net" in error
    status, printed, error = command("predict", tmp_path / "own", tmp_path / "image.png", "--allow-code")
    assert status == 0 and "image.png" in printed, error
    monkeypatch.delattr(sys.modules["own_parts"], "Net")
    monkeypatch.setattr(registry, "_imported", {})
    with pytest.raises(registry.CodeError, match=r"there is no 'Net' in own_parts"):
        jft.load(tmp_path / "own", allow_code=True)
    assert [*(tmp_path / "own" / "checkpoints").glob("[0-9]*")]  # whole, and not set aside


def test_a_class_given_in_python_is_a_model(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.modules["own_parts"], "Net", small_chain.Small, raising=False)
    monkeypatch.setattr(MODELS, "_rows", dict(MODELS))

    class Local(small_chain.Small):
        """Of no module."""

    fields = {"data": small_chain.images(), "weights": "", "steps": 1, "batch_size": 12, "validation": 12}
    run = jft.train(model=Local, workdir=tmp_path / "run", eval_batch_size=16, **fields)
    assert run.config["model"] == "Local" and "jft.models.register(Local)" in capsys.readouterr().out
    assert jft.create_model(Local, num_classes=3).stages == ("a", "b", "c", "head")
    assert "a" in str(jft.summary(Local))
    MODELS._rows.pop("Local")  # another process
    with pytest.raises(ValueError, match="unknown model 'Local'"):
        jft.load(tmp_path / "run")
    jft.models.register(Local)
    assert jft.load(tmp_path / "run").config["steps"] == 1
    with pytest.raises(ValueError, match=r"give the name of a model or a subclass of jft\.models\.Chain"):
        jft.create_model(dict)
    with pytest.raises(ValueError, match="model 'vgg16' is one of jft's own"):
        jft.models.register(type("vgg16", (small_chain.Small,), {}))
    with pytest.raises(ValueError, match=r"is <function focal.*subclass of jft\.models\.Chain is needed"):
        train(make(model="own_parts:focal"), tmp_path / "wrong", small_chain.images())
    with pytest.raises(ValueError, match="without published weights: set weights = ''"):
        train(make(model="own_parts:Net", weights="torchvision"), tmp_path / "wrong", small_chain.images())


def test_commands_on_a_run_import_its_code_only_where_it_is_allowed(tmp_path, monkeypatch, command):
    monkeypatch.setattr(sys.modules["own_parts"], "pairs", pairs, raising=False)
    run = tmp_path / "run"
    train(make(dataset="own_parts:pairs", data_dir="x", optimizer="own_parts:plain"), run)
    features = ("--stage", "c", "--out", tmp_path / "c.npz")
    commands = {
        "evaluate": (run,),
        "explain": (run, "--labels", "--out", tmp_path / "labels.csv"),
        "report": (run,),
        "export": (run, "--out", tmp_path / "exported"),
        "extract-features": (run, *features),
        "replay": (run, "--step", 2),
    }
    for verb, arguments in commands.items():
        monkeypatch.setattr(registry, "_imported", {})  # as in another process
        status, _, error = command(verb, *arguments)
        assert status == 1 and "names code" in error and "--allow-code" in error, verb
        if verb in ("evaluate", "extract-features", "replay"):
            status, _, error = command(verb, *arguments, "--allow-code")
            assert status == 0, error
            assert "own_parts:pairs" in registry._imported
    monkeypatch.setattr(registry, "_imported", {})
    with pytest.raises(registry.CodeRefusedError, match=r"allow_code=True to jft\.load"):
        jft.load(run).evaluate()
    assert jft.load(run, allow_code=True).evaluate()["count"] == 10
    monkeypatch.setattr(registry, "_imported", {})
    assert jft.evaluate(run, allow_code=True)["count"] == 10


def test_a_config_that_the_user_gives_may_name_code(tmp_path, monkeypatch, command):
    """Also where it is not trained, as `jft probe`."""
    monkeypatch.setattr(sys.modules["own_parts"], "pairs", pairs, raising=False)
    monkeypatch.setattr(
        "jft.training.baselines.measure", lambda config, also: datasets.of_config(config.to_dict(), "test")
    )
    monkeypatch.setattr("jft.training.baselines.format_baselines", lambda source: f"{len(source)} images")
    monkeypatch.setattr(registry, "_imported", {})
    config = tmp_path / "config.json"
    config.write_text(json.dumps(make(dataset="own_parts:pairs", data_dir="x").to_dict()))
    status, printed, error = command("probe", config)
    assert status == 0 and printed.endswith("\n10 images\n"), error
