"""A weight set is claimed where the file's hash is the set's, and nowhere else, whatever way the file came in."""

import dataclasses
import hashlib

import numpy as np
import pytest
import safetensors.numpy
import small_digits

import jft
from jft.evaluation import open_model
from jft.evaluation.load import from_trained
from jft.evaluation.report.parts import Parts
from jft.evaluation.restore import Trained
from jft.exporters.model_card import model_card
from jft.models import create_model
from jft.training import suggest
from jft.training.messages import describe
from jft.training.run import create_run
from jft.training.state import fresh_state
from jft.weights import hub, provenance
from jft.weights.catalog import CATALOG, find_row
from jft.weights.hashes import Hashes
from jft.weights.target import leaf_shapes

DIGITS = find_row("vgg_tiny", "digits04")
CLAIMS = (DIGITS.name, DIGITS.license)
OLD = {"url": "https://example.org/", "weights": DIGITS.name, "dialect": "jft", "license": DIGITS.license}


@pytest.fixture
def noise(tmp_path):
    """A file laid out as the digits' weights, of random numbers."""
    leaves = safetensors.numpy.load_file(hub.locate(DIGITS))
    rng = np.random.default_rng(0)
    path = tmp_path / "noise.safetensors"
    safetensors.numpy.save_file(
        {name: rng.permuted(leaf.ravel()).reshape(leaf.shape) for name, leaf in leaves.items()}, path
    )
    return path


def target():
    return leaf_shapes(create_model(DIGITS.model, **DIGITS.file_options), DIGITS.preprocess.size)


def says_nothing_untrue(manifest, path):
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (manifest["source"], manifest["source_sha256"]) == (path.name, sha256)
    assert (manifest["like"], manifest["license"]) == (DIGITS.name, "unknown (file not recognized)")
    assert "weights" not in manifest and "url" not in manifest


def test_files_and_folders_are_known_by_their_hash(noise, tmp_path, monkeypatch):
    for _ in range(2):  # converted, and from the cache of what is converted
        says_nothing_untrue(hub.load(DIGITS, target(), weights_path=noise)[1], noise)
    says_nothing_untrue(open_model.open_source(DIGITS.name, weights_path=noise).facts, noise)
    says_nothing_untrue(open_model.open_source(str(noise), model="vgg_tiny", tag="digits04").facts, noise)
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(hub.locate(DIGITS).read_bytes())
    manifest = hub.load(DIGITS, target(), weights_path=copy)[1]
    assert (manifest["source"], manifest["weights"], manifest["license"]) == (copy.name, *CLAIMS)
    # A file under the published name, where nobody has published a hash.
    monkeypatch.setitem(CATALOG, DIGITS.name, dataclasses.replace(DIGITS, sha256=None))
    held = tmp_path / "folder" / DIGITS.filename
    held.parent.mkdir()
    held.write_bytes(noise.read_bytes())
    row = CATALOG[DIGITS.name]
    says_nothing_untrue(hub.load(row, target(), weights_path=held.parent)[1], held)
    says_nothing_untrue(hub.load(row, target())[1], hub.locate(row))


@pytest.mark.parametrize(
    ("vouched", "recorded", "claimed"),
    [
        ({"sha256": "5f"}, {"source_sha256": "5f" * 32}, True),
        ({"sha256": "5f" * 32}, {"source_sha256": "5f" * 32}, True),
        ({"sha256": "5f"}, {"source_sha256": "ab" * 32}, False),
        ({"sha256": "5f"}, {}, False),
        ({"md5": "5f" * 16}, {"source_sha256": "5f" * 32, "source_md5": "5f" * 16}, True),
        ({"md5": "5f" * 16}, {"source_sha256": "5f" * 32, "source_md5": "ab" * 16}, False),
        ({"md5": "5f" * 16}, {"source_sha256": "5f" * 32}, False),
        ({}, {"source_sha256": "5f" * 32}, False),
    ],
)
def test_what_a_checkpoint_claims_is_decided_by_the_hash_that_it_recorded(monkeypatch, vouched, recorded, claimed):
    monkeypatch.setitem(CATALOG, DIGITS.name, dataclasses.replace(DIGITS, **{"sha256": None, "md5": None} | vouched))
    found = provenance.of_manifest({"source": "a.bin", **OLD, **recorded})
    told = f"{found} {found.facts()} {found.manifest()}"
    assert (found.row is not None) == claimed
    assert (DIGITS.license in told) == claimed == (provenance.UNKNOWN not in told)
    assert ("layout and preprocessing" in told) != claimed
    assert provenance.of_manifest(found.manifest()) == found  # as often as it is read and written


def test_what_the_catalog_does_not_know_is_not_claimed():
    found = provenance.of_manifest({"source": "a.bin", **OLD, "weights": "no.such"})
    assert found.row is None and found.license == provenance.UNKNOWN
    assert provenance.of_manifest({}) is None


def test_the_md5_is_looked_at_where_nothing_else_is_published(noise):
    row = dataclasses.replace(DIGITS, sha256=None, md5=hashlib.md5(noise.read_bytes()).hexdigest())
    found = provenance.of_file("any name", Hashes(noise), row)
    assert (found.row, found.md5, found.manifest()["source_md5"]) == (row, row.md5, row.md5)


def test_weights_of_which_nothing_is_used_are_not_claimed(tmp_path):
    with small_digits.quick():
        config = small_digits.make(tmp_path / "features", freeze="", fresh="block1 block2 block3 fc6 fc7")
        run = create_run(config, tmp_path / "run")
        state, info = fresh_state(run)
    assert info.pretrained == () and info.weights == {}
    assert describe(run, state, info, ()).splitlines()[0].endswith("weights: none, from scratch")


def test_a_run_on_a_strangers_file_says_so_everywhere(noise, tmp_path):
    with small_digits.quick():
        run = create_run(small_digits.make(tmp_path / "features", weights_path=str(noise)), tmp_path / "run")
        state, info = fresh_state(run)
        first = describe(run, state, info, ()).splitlines()[0]
    assert f"weights: {noise.name}, SHA-256 " in first and "license unknown (file not recognized)" in first
    assert f"assumed to be those of {DIGITS.name}" in first
    says_nothing_untrue(info.weights, noise)
    info = dataclasses.replace(info, step=1)
    trained = Trained(run.model, state.variables, run.spec, run.train_source.class_names, info, run.parallel)
    assert open_model.of_trained(trained, "run").facts["license"] == provenance.UNKNOWN
    per_class = {name: {"precision": None, "recall": None, "f1": None, "count": 0} for name in trained.class_names}
    figures = {"parameters": 1, "count": 1, "learnt": 0, "validated": 0, "dataset": "d", "split": "test"}
    result = {**figures, "accuracy": 1.0, "accuracy_interval": None, "temperature": None, "per_class": per_class}
    page = Parts(from_trained(trained, "run"), None, result, "block3").facts([])
    card = model_card(trained.info, result, [])
    for told in (card, str(page)):
        assert f"{noise.name} (file not recognized)" in told and provenance.UNKNOWN in told
        assert told.count(DIGITS.name) == 1 and f"layout and preprocessing of {DIGITS.name}" in told
    assert DIGITS.license not in str(page)


def test_a_set_that_is_asked_for_is_named_as_what_it_is(noise):
    assert jft.load("vgg_tiny", weights="digits04").name == DIGITS.name
    for how in ({"weights": "digits04"}, {}):
        assert jft.load("vgg_tiny", **how, weights_path=noise).name == "noise.safetensors (file not recognized)"


def test_suggestions_name_a_strangers_file_by_its_name():
    known = provenance.of_hashes("a.bin", DIGITS.sha256, "", DIGITS)
    config = small_digits.make("features")
    for weights, title in (
        (known, DIGITS.name),
        (dataclasses.replace(known, row=None), f"a.bin, read as {DIGITS.name}"),
    ):
        assert suggest.Probed(config, np.ones(1, bool), 1.0, 1, 1, weights).title == title
