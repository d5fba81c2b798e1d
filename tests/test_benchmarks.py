"""benchmarks/: what is measured, what the tables say of it, and that jft's part needs nothing that is optional."""

import json
import os
import subprocess
import sys
from pathlib import Path

import hasty
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
HIDING = """
import sys
from importlib.machinery import PathFinder

class Hidden(PathFinder):
    @classmethod
    def find_spec(cls, name, *where):
        hidden = ("tensorflow", "tensorflow_datasets", "keras", "torchvision")
        return None if name.split(".")[0] in hidden else super().find_spec(name, *where)

sys.meta_path[sys.meta_path.index(PathFinder)] = Hidden
"""


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import tables

    return tables


@pytest.fixture
def items(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import items

    return items


def result(**more):
    def item(what, **found):
        return {"what": what, "model": "resnet50", "batch": 8, "dtype": "float32", "found": found}

    train = item(
        "train",
        jft={"rates": [6.0, 9.0, 8.0], "flops": 24e9, "memory": {"program": 700 << 20, "rss": 800 << 20}},
        torch={"rates": [4.0, 9.0, 10.0], "flops": None, "memory": {"rss": 900 << 20}},
        **{
            "keras-jax": {"rates": [2.0, 3.0, 2.0], "flops": None, "memory": {"program": 1000 << 20}},
            "torch-compile": {"rates": [50.0], "error": "the process ended"},
        },
    )
    frozen = item("frozen", jft={"rates": [20.0, 20.0]}, **{"jft-forward": {"rates": [20.0, 21.0]}})
    product = {"what": "matmul", "side": 1000, "dtype": "float32", "found": {"jft": {"rates": [200.0]}}}
    return {
        "machine": {"cpu": "a CPU", "cores": 2, "python": "3.12", "date": "2026-01-01"},
        "device": "cpu",
        "quick": False,
        "rounds": 3,
        "rivals": {"jft": {"jft": "0.1.0", "device": "cpu"}, "torch": {"torch": "2.13.0", "device": "cpu"}},
        "not_installed": {"keras-tf": "not installed: keras"},
        "items": [product, train, frozen],
        "left_out": [{"what": "probe"}],
        **more,
    }


def test_a_ratio_is_the_median_of_the_turns_and_not_of_the_rates(tables):
    assert str(tables.ratio([6.0, 9.0, 8.0], [4.0, 9.0, 10.0])) == "1.00 (0.80 to 1.50)"
    assert tables.ratio([], [1.0]) is None


def test_the_tables_say_who_is_best_and_which_goals_are_reached(tables):
    lines = tables.markdown(result()).splitlines()
    assert "| ResNet-50 training | ≥ 1.1 | 1.00 (0.80 to 1.50) | torch | no |" in lines
    assert "| ResNet-50 frozen step ÷ forward pass | ≤ 1.03 | 1.02 (1.00 to 1.05) | jft-forward | yes |" in lines
    memory = "| ResNet-50 memory of a training step ÷ Keras on JAX | ≤ 0.8 | 0.70 "
    assert f"{memory}| keras-jax, bytes of the programs | yes |" in lines
    assert "| VGG16 inference | ≥ 1.05 | not measured |  |  |" in lines
    # 8 images/s of 24 GFLOPs each, and 9 by torch, of 200 products of 2 GFLOPs a second; who failed is no rival.
    assert "| ResNet-50, training, batch 8 | 24.00 | 48% | 54% |" in lines
    assert "- train resnet50 8, torch-compile: the process ended" in lines
    assert "- not measured: keras-tf, not installed: keras" in lines
    assert "- left out, as no time was left: probe" in lines


def test_small_shapes_are_said_to_be_no_result(tables):
    assert "--quick" not in tables.markdown(result())
    quick = tables.markdown(result(quick=True))
    assert "--quick" in quick and "reached" not in quick


def test_tables_replace_what_a_page_holds_between_two_comments(tables):
    page = "a\n<!-- begin results/cpu.json -->\nold\n<!-- end -->\nz\n"
    assert tables.replace(page, "results/cpu.json", "new\n") == page.replace("old", "\nnew\n")
    with pytest.raises(ValueError, match=r"no lines '<!-- begin results/gpu.json -->' and"):
        tables.replace(page, "results/gpu.json", "new\n")


def test_every_goal_is_measured_against_every_rival_by_default(tables, items):
    measured = {(item.about.get("model"), item.about["what"]): item.sides for item in items.items()}
    for goal in tables.GOALS:
        sides = measured[goal.model, goal.what]
        wanted = {"jft", "torch", "torch-cl"} | (set() if goal.kind == "forward" else set(items.COMPILED))
        wanted |= {"keras-tf", "keras-jax"} if goal.model in items.IN_KERAS else set()
        assert wanted <= sides.keys(), goal
        assert goal.kind != "forward" or sides["jft-forward"].build["what"] == "infer"


def test_a_rival_that_is_not_installed_or_not_asked_for_is_left_out(items):
    item = next(item for item in items.items() if item.about.get("model") == "vgg16")

    def missing(name):
        return "not installed" if name.startswith("keras") else ""

    assert items.keep(item, "", ["jft", "keras-tf", "torch"], missing).sides.keys() == {"jft", "torch"}
    assert items.keep(item, "", ["keras-tf"], missing) is None
    assert items.keep(item, "resnet50", [], missing) is None


def test_why_a_rival_cannot_run_is_said(items, monkeypatch):
    monkeypatch.setattr(items.rivals.importlib.util, "find_spec", lambda name: None if name == "keras" else name)
    assert items.rivals.missing("keras-tf") == "not installed: keras" and items.rivals.missing("jft") == ""
    monkeypatch.setattr(items.rivals.shutil, "which", lambda name: None)
    assert items.rivals.missing("torch-compile") == "torch.compile needs a C++ compiler"
    assert items.rivals.missing("torch") == ""


def test_the_networks_without_torchvision_are_torchvisions(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.syspath_prepend(BENCHMARKS)
    import torch_networks
    import torch_rival

    try:
        models = torch_rival.import_torchvision().models
    except (ImportError, RuntimeError):
        pytest.skip("no torchvision")
    for name in (*torch_networks.RESNET, *torch_networks.VGG):
        with torch.device("meta"):
            own, theirs = torch_networks.make(name, 10), getattr(models, name)(num_classes=10)
        assert [p.shape for p in own.parameters()] == [p.shape for p in theirs.parameters()], name
    own, theirs = torch_networks.make("resnet18", 10).eval(), models.resnet18(num_classes=10).eval()
    own.load_state_dict(dict(zip(own.state_dict(), theirs.state_dict().values(), strict=True)))
    x = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    torch.testing.assert_close(own(x), theirs(x))
    with pytest.raises(ValueError, match="without torchvision there is no 'alexnet'"):
        torch_networks.make("alexnet", 10)


def test_an_item_that_is_not_there_is_told_with_those_that_are(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(sys, "argv", ["side_by_side.py", "--only", "fly", "--models", "vgg16"])
    import side_by_side

    with pytest.raises(SystemExit, match=r"(?s)No item holds 'fly' .*\n  infer vgg16 8\n"):
        side_by_side.main()


@pytest.mark.slow
def test_everything_of_jft_is_measured_without_tensorflow(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(HIDING)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    out = tmp_path / "out.json"
    flags = ["--quick", "--rivals", "jft", "--models", "resnet18", "--out", out]
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "side_by_side.py", *flags],
        env={**hasty.environment(), "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads(out.read_text())
    kinds = {item["what"] for item in measured["items"]}
    assert kinds == {"matmul", "train", "frozen", "infer", "resident", "extract", "kernel", "probe"}
    assert not measured["left_out"]
    for item in measured["items"]:
        for label, found in item["found"].items():
            assert len(found["rates"]) == 2, (item["what"], label, found)
    assert "images/s" in out.with_suffix(".md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("groups", [2, 4])
def test_convolutions_of_all_forms_are_equal(monkeypatch, groups):
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(BENCHMARKS)
    import convolutions

    shape = convolutions.Shape(size=5, inputs=4, outputs=4, groups=groups, window=3, stride=2)
    passes = convolutions.forms(shape, "float32", xla=True)  # which compares their outputs
    for found in passes:
        measured = convolutions.in_turns(found, rounds=1, seconds=1e-6)
        assert list(measured) == ["torch", "jft", "xla"]
        assert measured["torch"][1] == 1


def test_accuracies_are_averaged_over_seeds_and_each_seed_tests_another_fifth(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import accuracy

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(10):
            (tmp_path / name / f"{i}.jpg").touch()
    drawn = []
    for seed in (0, 0, 1):
        rows = Path(accuracy.split(tmp_path, tmp_path / "split.csv", seed)).read_text().splitlines()[1:]
        drawn.append({row.split(",")[0] for row in rows if row.endswith(",test")})
        assert len(rows) == 20 and [sum(f"/{name}/" in path for path in drawn[-1]) for name in ("a", "b")] == [2, 2]
    assert drawn[0] == drawn[1] != drawn[2]
    row = {"network": "n", "method": "probe", "data": "flowers", "log_loss": "0.5"}
    text = accuracy.table(
        [
            {**row, "accuracy": "0.9"},
            {**row, "accuracy": "0.8"},
            {**row, "data": "gtsrb", "accuracy": "1", "calibrated": "0.4"},
        ]
    )
    assert text.splitlines()[0] == "| network | | gtsrb | flowers |"
    assert text.endswith(
        "| 100.00 % (1), log loss 0.500, calibrated 0.400 | 85.00 ± 7.07 % (2), log loss 0.500 ± 0.000 |"
    )


def test_the_table_of_probes_has_each_method_and_what_was_chosen(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import probes

    def rows(seed, figures):
        common = {"network": "n", "data": "gtsrb", "per_class": "20", "seed": seed, "log_loss": "0.5"}
        kinds = [(method, stages, "no") for method, stages in probes._TRIED] + [("lda", "all", "training")]
        best = max(figures)
        return [
            {**common, "method": m, "stages": s, "variants": v, "accuracy": f, "chosen": str(int(f == best))}
            for (m, s, v), f in zip(kinds, figures, strict=True)
        ]

    text = probes.table(rows(0, ["0.6", "0.5", "0.7", "0.8", "0.9"]) + rows(1, ["0.6", "0.5", "0.7", "1.0", "0.9"]))
    assert text.splitlines()[0] == "| network | images | lbfgs, last | lda, last | lbfgs, all | lda, all | chosen |"
    assert text.endswith(
        "| n | gtsrb, 20 a class | 60.0 ± 0.0 % (2), 0.500 | 50.0 ± 0.0 % (2), 0.500 | 70.0 ± 0.0 % (2), 0.500 | "
        "90.0 ± 14.1 % (2), 0.500 | 95.0 ± 7.1 % (2), 0.500 |"
    )
