"""A run with trackers: they hold its log, and it is the same as without them."""

import json
import signal

import pytest
import small_chain
from fake_trackers import Notes

from jft.config import default_config, validate
from jft.models import MODELS
from jft.training import replay
from jft.training.loop import train
from jft.utils.logger import read_metrics
from jft.utils.trackers.follow import scalars

GOOD, BAD = f"fake_trackers:{Notes.__name__}", "fake_trackers:FailsAtEachCall"


def make(**changes):
    config = default_config()
    config.update({"model": "small", "weights": "", "steps": 4, "batch_size": 12, "eval_batch_size": 16, "flip": False})
    config.update({"validation": 12, "cache_features": False, "log_every": 2, "evaluate_every": 100.0, **changes})
    return config


def computed(workdir):
    lines = [line for line in read_metrics(workdir) if line["kind"] in ("train", "validation")]
    return [{name: value for name, value in line.items() if name not in replay.MEASURED} for line in lines]


@pytest.mark.usefixtures("quick", "compiled_once")
def test_trackers_hold_the_log_across_an_interruption_and_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS._rows, "small", small_chain.Small)
    images = small_chain.images()
    train(make(), tmp_path / "plain", images)
    workdir, config = tmp_path / "tracked", make(trackers=(GOOD, BAD))

    def check(self):
        log = workdir / "metrics.jsonl"
        if log.exists() and '"train"' in log.read_text():
            self.received = signal.SIGTERM
        return self.received is not None

    with monkeypatch.context() as patch:
        patch.setattr("jft.utils.interrupt.Interrupt.check", check)
        assert not train(config, workdir, images)["finished"]
    assert train(config, workdir, images)["finished"]

    assert computed(workdir) == computed(tmp_path / "plain")
    notes = [json.loads(line) for line in (workdir / "trackers" / "Notes.jsonl").read_text().splitlines()]
    log = read_metrics(workdir)
    numbers = [(line["step"], scalars(line)) for line in log if line["kind"] not in ("text", "image")]
    assert [tuple(told[1:]) for told in notes if told[0] == "scalars"] == numbers
    assert [told[0] for told in notes if told[0] != "scalars"] == ["opened", "text", "image", "end", "opened", "end"]
    assert [told[1] for told in notes if told[0] == "end"] == ["interrupted", "finished"]
    assert {line["kind"] for line in read_metrics(tmp_path / "plain")} == {line["kind"] for line in log} - {
        "text",
        "image",
    }


def test_a_tracker_that_there_is_not_is_refused_before_the_run():
    with pytest.raises(ValueError, match="unknown trackers 'wandbb', did you mean 'wandb'"):
        validate(make(model="vgg19", trackers=("wandbb",)))
    validate(make(model="vgg19", trackers=("wandb", "mlflow", GOOD)))
