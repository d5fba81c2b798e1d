"""What the user gives in place of a name: by "module:function" and as a function, with resume bit for bit."""

import signal
import sys
import types

import jax
import jax.numpy as jnp
import pytest
import small_chain
import small_digits

from jft.config import default_config
from jft.models import MODELS
from jft.training.loop import train
from jft.utils.registry import GIVEN


def focal(logits, targets):
    """Lin et al., 2017, with gamma 2."""
    p = jax.nn.softmax(logits)
    return -jnp.sum(targets * (1 - p) ** 2 * jnp.log(p), axis=-1)


@pytest.fixture(scope="module", autouse=True)
def small():
    """The small network by name, one device, and the functions here in a module that a config can name."""
    module = types.ModuleType("own_parts")
    module.focal = focal
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS._rows if hasattr(MODELS, "_rows") else MODELS, "small", small_chain.Small)
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


def interrupted(monkeypatch, config, workdir, **own):
    """Trains two of four steps, as if a signal had come, and then the others."""

    def check(self):
        log = workdir / "metrics.jsonl"
        if log.exists() and '"train"' in log.read_text():
            self.received = signal.SIGTERM
        return self.received is not None

    with monkeypatch.context() as patch:
        patch.setattr("jft.utils.interrupt.Interrupt.check", check)
        stopped = train(config, workdir, small_chain.images(), **own)
        assert (stopped["finished"], stopped["step"]) == (False, 2)
    assert train(config, workdir, small_chain.images(), **own)["finished"]


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
    assert result["finished"] and "cannot be resumed without it" in capsys.readouterr().out
    assert GIVEN in (tmp_path / "run" / "config.json").read_text()
    with pytest.raises(ValueError, match="loss: '<given in Python>' -> 'softmax'"):
        train(make(), tmp_path / "run", small_chain.images())
    with pytest.raises(ValueError, match=r"given in Python .* again as loss="):
        train(make(loss=GIVEN), tmp_path / "run", small_chain.images())
    assert train(make(), tmp_path / "run", small_chain.images(), loss=own)["finished"]
