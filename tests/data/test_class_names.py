"""Checkpoints whose class names are in another form of Unicode than the data's today are of the same classes."""

import unicodedata
from types import SimpleNamespace

import numpy as np
import pytest
from small_digits import make

from jft.data import datasets
from jft.evaluation import restore
from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.training.run import create_run
from jft.training.state import abstract_items
from jft.utils.checkpoint import CheckpointRefusedError

pytestmark = pytest.mark.usefixtures("quick")

COMPOSED, APART = (tuple(unicodedata.normalize(form, name) for name in ("bar", "café")) for form in ("NFC", "NFD"))


@pytest.fixture
def run(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)
    return create_run(
        make(tmp_path, classes=()), tmp_path / "run", datasets.from_arrays(images, np.arange(40) % 2, APART)
    )


def info_of(run, class_names):
    """As read from a checkpoint that spells the class names so."""
    return CheckpointInfo.from_json({**run.info().to_json(), "class_names": [*class_names], "step": 0, "digests": {}})


def test_a_run_goes_on(run):
    assert run.train_source.class_names == COMPOSED
    abstract_items(run, info_of(run, APART))
    with pytest.raises(CheckpointRefusedError, match=r"class_names was \['bar', 'cafe'\]"):
        abstract_items(run, info_of(run, ["bar", "cafe"]))


def test_a_run_is_evaluated(run, monkeypatch):
    info = info_of(run, APART)
    found = SimpleNamespace(best=lambda abstract: (None, None, info), close=lambda: None)
    monkeypatch.setattr(restore, "Checkpoints", lambda workdir, **_: found)
    restored = restore.restore("anywhere")
    assert restored.class_names == COMPOSED
    own = datasets.from_arrays(np.zeros((10, 8, 8, 3), np.uint8), np.arange(10) % 2, COMPOSED[::-1])
    assert restored.images("all", dataset=own).class_names == COMPOSED
