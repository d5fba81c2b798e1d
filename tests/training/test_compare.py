"""Configs side by side: the table holds what the runs' own files hold, and nothing is trained twice."""

import csv
import json
import re
import statistics

import pytest
from PIL import Image
from small_digits import make, records, write_config

from jft.training import compare as lib
from jft.training.compare import COLUMNS, Row, compare, markdown
from jft.utils.stopped import Stopped

# One worker trains for all of them.
pytestmark = [pytest.mark.xdist_group("compare"), pytest.mark.usefixtures("quick")]

NAMES = ("solved", "stepped/two_steps")


def configs(features):
    arms = (("two steps", {"steps": 2, "freeze": "fc6"}),)
    stepped = make(features, arms=arms, learning_rate=0.05, log_every=1, cache_features=False)
    return [("solved", make(features, solver="ridge", examples_per_class=20, seed=3)), ("stepped", stepped)]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Folder of the features, folder of the comparison, its rows."""
    folder = tmp_path_factory.mktemp("compare")
    return folder / "features", folder / "out", compare(configs(folder / "features"), folder / "out", seeds=2)


def runs(out, name):
    first = 3 if name == "solved" else 0
    return [out / "runs" / name / f"seed{first + i}" for i in range(2)]


def test_a_row_holds_what_the_runs_say(compared):
    _, out, rows = compared
    assert tuple(row.name for row in rows) == NAMES
    for row in rows:
        tested = [json.loads((run / "eval.json").read_text()) for run in runs(out, row.name)]
        assert row.accuracies == tuple(values["accuracy"] for values in tested)
        assert row.losses == tuple(values["loss"] for values in tested)
        assert len(set(row.losses)) == 2  # the seeds are two
        assert row.parameters == tested[0]["parameters"] == 93_539
        lines = [records(run) for run in runs(out, row.name)]
        assert row.seconds == tuple(sum(line["seconds"] for line in run if line["kind"] == "train") for run in lines)
        assert row.extraction == sum(line["seconds"] for run in lines for line in run if line["kind"] == "features")
    solved, stepped = rows
    assert (solved.trainable, stepped.trainable) == (195, 195 + 64 * 65)
    assert solved.images_per_second == ()
    assert solved.extraction > stepped.extraction == 0
    speeds = [[line["images_per_second"] for line in records(run, "train")] for run in runs(out, stepped.name)]
    assert [len(speed) for speed in speeds] == [2, 2]
    assert stepped.images_per_second == tuple(map(statistics.median, speeds))


def test_the_table_has_means_and_deviations(compared):
    _, out, rows = compared
    text = (out / "compare.md").read_text()
    assert text == markdown(rows) + "\n"
    lines = text.splitlines()
    assert len({len(line) for line in lines}) == 1
    header, rule, *cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert tuple(header) == COLUMNS and re.fullmatch("[-:]+", "".join(rule))
    for row, cell in zip(rows, cells, strict=True):
        name, seeds, accuracy, loss, seconds, extracted, parameters, trainable, speed = cell
        assert (name, seeds, parameters, trainable) == (row.name, "2", "93,539", f"{row.trainable:,}")
        one, two = (100 * a for a in row.accuracies)
        assert accuracy == f"{(one + two) / 2:.2f} ± {abs(one - two) / 2**0.5:.2f} %"
        one, two = row.losses
        assert loss == f"{(one + two) / 2:.3f} ± {abs(one - two) / 2**0.5:.3f}"
        assert seconds == f"{sum(row.seconds) / 2:.1f} ± {abs(row.seconds[0] - row.seconds[1]) / 2**0.5:.1f} s"
        assert extracted == (f"{row.extraction:.1f} s" if row.name == "solved" else "-")
        assert (speed == "-") == (row.name == "solved")


def test_the_csv_has_every_seed_and_the_plot_is_a_image(compared):
    _, out, rows = compared
    with (out / "compare.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    for row, line in zip(rows, found, strict=True):
        assert line["name"] == row.name and int(line["trainable"]) == row.trainable
        assert float(line["extraction"]) == row.extraction
        for field in ("accuracies", "losses", "seconds", "images_per_second"):
            assert tuple(map(float, line[field].split())) == getattr(row, field)
    with Image.open(out / "compare.png") as image:
        assert image.format == "PNG" and min(image.size) > 100
    assert {path.name for path in out.iterdir()} == {"runs", "compare.md", "compare.csv", "compare.png"}


def test_again_trains_nothing(compared, monkeypatch):
    features, out, rows = compared

    def written():
        return {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*") if path.name != "eval.json"}

    before = {path: time for path, time in written().items() if path.is_file()}
    monkeypatch.setattr("jft.training.loop._start", None)
    monkeypatch.setattr("jft.training.loop._start", None)
    assert compare(configs(features)[:1], out, seeds=2) == rows[:1]
    assert {path: time for path, time in written().items() if path.is_file()} == before
    assert (out / "compare.md").read_text() == markdown(rows[:1]) + "\n"


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (("b", {"freeze": "fc9"}), "did you mean 'fc"),
        (("b", {"arms": (("one", {}), ("two", {"learning_rat": 1.0}))}), "did you mean 'learning_rate'"),
        (("b", {"arms": (("a b", {}), ("a_b", {}))}), "several runs have one name: a, b/a_b, b/a_b. Rename"),
        (("b", {"weights_path": "nowhere"}), "weights_path nowhere does not exist: give the file of vgg_tiny"),
        (("a", {}), "several runs have one name: a, a. Rename the config files"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_trained(tmp_path, second, message):
    name, changes = second
    with pytest.raises(ValueError, match=message):
        compare([("a", make(tmp_path)), (name, make(tmp_path, **changes))], tmp_path / "out", seeds=1)
    assert not (tmp_path / "out").exists()


def test_a_signal_ends_it(tmp_path, monkeypatch):
    monkeypatch.setattr(lib, "train", lambda config, place, brief: {"finished": False, "signal": 2})
    with pytest.raises(Stopped, match="signal 2"):
        compare([("a", make(tmp_path))], tmp_path / "out", seeds=2)
    assert not (tmp_path / "out" / "compare.md").exists()


def test_how_long_is_left_is_told_by_the_runs_before():
    assert lib._seconds_left({"a": [], "b": []}, {"a": 2, "b": 3}) == 0
    assert lib._seconds_left({"a": [10.0, 20.0], "b": []}, {"a": 1, "b": 3}) == 15 + 3 * 15
    assert lib._seconds_left({"a": [10.0], "b": [40.0]}, {"a": 0, "b": 2}) == 80


def test_the_table_of_stages_comes_once_and_each_run_is_counted(tmp_path, monkeypatch, capsys):
    shown = []

    def train(config, place, brief):
        shown.append(brief)
        place.mkdir(parents=True)
        return {"finished": True}

    monkeypatch.setattr(lib, "train", train)
    monkeypatch.setattr(lib, "_row", lambda name, places: Row(name, (0.5,), (1.0,), (1.0,), 0.0, 1, 1, ()))
    compare([("a", make(tmp_path)), ("b", make(tmp_path, learning_rate=0.5))], tmp_path / "out", seeds=2)
    assert shown == [False, True, False, True]
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("==")]
    assert told[0] == "== a, seed 0: run 1 of 4"
    assert re.fullmatch(r"== b, seed 1: run 4 of 4, about \d+ s left", told[3])


def test_one_seed_has_no_deviation():
    row = Row("a", (0.5,), (1.25,), (10.0,), 0.0, 1000, 10, ())
    assert row.cells() == ("a", "1", "50.00 %", "1.250", "10.0 s", "-", "1,000", "10", "-")


def test_script(compared, tmp_path, command):
    features, out, rows = compared
    (name, config), _ = configs(features)
    path = tmp_path / f"{name}.py"
    write_config(path, config)

    def run(*arguments):
        return command("compare", path, "--out", out, *arguments)

    status, printed, _ = run("--seeds", "2")
    assert status == 0
    assert f"\n{markdown(rows[:1])}\n" in printed and f"{out} holds the table" in printed
    status, _, error = run("--seeds", "0")
    assert (status, error) == (1, "error: --seeds 0: at least 1.\n")
    status, _, error = run("--config.solvr=ridge")
    assert status == 1 and error.startswith("error: unknown config field 'solvr', did you mean 'solver'?")
    status, _, error = run("--config.solver=lbfgs")  # another config than the runs that are there
    assert status == 1 and "holds a run with another config (there -> here): solver: 'ridge' -> 'lbfgs'" in error
