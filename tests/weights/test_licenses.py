"""Weights whose license forbids commercial use are used where somebody said yes, and nowhere else."""

import dataclasses

import pytest
import small_files
import small_hub

import jft
from jft.cli import main
from jft.weights import hub, licenses
from jft.weights.best import best_here
from jft.weights.catalog import CATALOG, choose_set


@pytest.mark.parametrize(
    ("license", "forbids"),
    [
        ("CC-BY-NC-4.0", True),
        ("cc-by-nc-sa-3.0", True),
        ("fair-noncommercial-research-license", True),
        ("Non-Commercial use only", True),
        ("research-only", True),
        ("Apache-2.0", False),
        ("BSD-3-Clause", False),
        ("MIT", False),
        ("CC-BY-4.0", False),
        ("unknown (file not recognized)", False),
        ("cnc", False),
    ],
)
def test_licenses_that_forbid_commerce(license, forbids):
    assert licenses.forbids_commerce(license) is forbids


def test_of_the_catalog_these_are_metas_of_v2():
    refused = {row.model for row in CATALOG.values() if not licenses.is_accepted(row)}
    assert {name.split("_")[0] for name in refused} == {"convnextv2"}


ROW = dataclasses.replace(CATALOG["convnextv2_atto.fcmae_ft"], url=None)


@pytest.mark.parametrize(
    "use",
    [
        lambda: hub.load(ROW, {}),
        lambda: hub.fetch(ROW),
        lambda: hub.check_obtainable(ROW),
    ],
    ids=["load", "fetch", "check"],
)
def test_nothing_is_read_or_fetched_without_a_yes(use):
    told = r"convnextv2_atto.fcmae_ft has the license CC-BY-NC-4.0, which forbids .* add accept_license=True"
    with pytest.raises(licenses.LicenseError, match=told):
        use()
    with licenses.accepting(False), pytest.raises(licenses.LicenseError):
        use()
    with licenses.accepting(), licenses.accepting(False), pytest.raises(ValueError, match="has no official download"):
        use()
    with pytest.raises(licenses.LicenseError):
        use()


@pytest.fixture
def trees(tmp_path, monkeypatch):
    """A repository whose card forbids commercial use."""
    small_files.shrink(monkeypatch)
    folder = small_hub.write_folder(tmp_path / "trees")
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    return f"hf:{folder}"


def test_python_says_yes_by_a_keyword(trees):
    for make in (jft.load, jft.create_model):
        with pytest.raises(ValueError, match=r"has the license CC-BY-NC-4.0.* add accept_license=True"):
            make(trees)
        assert make(trees, accept_license=True).class_names == ("ash", "beech", "cedar")
    with pytest.raises(ValueError, match="add accept_license=True"):
        jft.create_model(trees, num_classes=2)
    assert len(jft.create_model(trees, num_classes=2, accept_license=True).class_names) == 2


def test_a_command_says_yes_by_a_flag(trees, tmp_path, capsys):
    out = tmp_path / "out.safetensors"
    for flags, status, told in (
        ((), 1, "error: hf:{}/trees has the license CC-BY-NC-4.0"),
        (("--accept-license",), 0, "license: CC-BY-NC-4.0"),
    ):
        with pytest.raises(SystemExit) as ended:
            main.run("weights", ["convert", trees, "--out", str(out), *flags])
        streams = capsys.readouterr()
        assert ended.value.code == status
        assert told.format(tmp_path) in streams.out + streams.err
    assert out.exists()


def test_without_a_yes_other_weights_are_chosen(monkeypatch):
    here = ("convnextv2_large.fcmae_ft_in22k", "resnet18.torchvision")
    monkeypatch.setattr(hub, "is_here", lambda row: row.name in here)
    assert best_here().name == "resnet18.torchvision"
    with licenses.accepting():
        assert best_here().name == "convnextv2_large.fcmae_ft_in22k"


def test_a_repository_is_the_best_of_its_name(trees):
    assert best_here("", trees) == best_here("convnext_tiny", trees) == choose_set(trees)
