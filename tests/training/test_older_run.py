"""Runs of an earlier version, whose config is spelled otherwise, are evaluated and go on as if nothing had changed."""

import json
import tarfile
from pathlib import Path

import jax
import numpy as np
import pytest

from jft.cli import config_file
from jft.evaluation.evaluate import evaluate
from jft.evaluation.restore import restore
from jft.training.loop import train

ARCHIVE = Path(__file__).parent.parent / "golden" / "older_runs.tar.xz"
OLDER = "a field's older spelling"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(ARCHIVE) as archive:
        # Python 3.11 before 3.11.4 has no filters; the archive is the repository's own.
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return folder


def test_it_is_evaluated(runs):
    before = json.loads((runs / "finished" / "eval.json").read_text())
    assert "regularisation" in json.loads((runs / "finished" / "config.json").read_text()), OLDER
    found = evaluate(runs / "finished")
    assert found["accuracy"] == before["accuracy"] and found["count"] == before["count"]
    np.testing.assert_allclose(found["loss"], before["loss"], rtol=1e-6)


def test_it_goes_on(runs):
    workdir = runs / "interrupted"
    config = config_file.of_json(str(workdir / "config.json"))
    assert config.crop == "center", OLDER
    train(config, workdir)
    resumed, whole = (restore(runs / name).variables for name in ("interrupted", "finished"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), resumed, whole)
