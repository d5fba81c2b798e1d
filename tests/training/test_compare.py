"""Configs side by side: the table holds what the runs' own files hold, and nothing is trained twice."""

import csv
import json
import re
import statistics

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from small_digits import make, records, write_config

from jft.evaluation.evaluate import Images, predict_run
from jft.metrics import paired
from jft.training.comparison import compare as lib
from jft.training.comparison import trial
from jft.training.comparison.compare import compare
from jft.training.comparison.table import COLUMNS, Row, markdown
from jft.training.comparison.trial import Outcome
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
    rows, (pair,) = compare(configs(folder / "features"), folder / "out", seeds=2)
    return folder / "features", folder / "out", rows, pair


def runs(out, name):
    first = 3 if name == "solved" else 0
    return [out / "runs" / name / f"seed{first + i}" for i in range(2)]


def test_a_row_holds_what_the_runs_say(compared):
    _, out, rows, _ = compared
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
    _, out, rows, pair = compared
    text = (out / "compare.md").read_text()
    assert text == markdown(rows, [pair]) + "\n" and text.startswith(markdown(rows) + "\n")
    lines = markdown(rows).splitlines()
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
    _, out, rows, _ = compared
    with (out / "compare.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    for row, line in zip(rows, found, strict=True):
        assert line["name"] == row.name and int(line["trainable"]) == row.trainable
        assert float(line["extraction"]) == row.extraction
        for field in ("accuracies", "losses", "seconds", "images_per_second"):
            assert tuple(map(float, line[field].split())) == getattr(row, field)
    for name in ("compare.png", "curves.png"):
        with Image.open(out / name) as image:
            assert image.format == "PNG" and min(image.size) > 100
    tables = {"compare.md", "compare.tex", "compare.csv", "pairs.csv"}
    assert {path.name for path in out.iterdir()} == {"runs", "compare.png", "curves.png", *tables}


def test_the_arms_are_tested_in_pairs(compared):
    """On the images of each seed, by the predictions of the runs."""
    _, out, rows, pair = compared
    assert (pair.first, pair.second) == NAMES
    means = [statistics.mean(row.accuracies) for row in rows]
    assert pair.difference == pytest.approx(means[1] - means[0]) and pair.low <= pair.difference <= pair.high
    first, second = (np.array([right(run) for run in runs(out, name)], float) for name in NAMES)
    assert pair.p_images == paired.sign_flips((second - first).mean(axis=0))
    differences = [b - a for a, b in zip(rows[0].accuracies, rows[1].accuracies, strict=True)]
    assert pair.p_seeds == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    with (out / "pairs.csv").open(newline="") as file:
        (line,) = csv.DictReader(file)
    assert line["second"] == "stepped/two_steps" and float(line["p_images"]) == pair.p_images


def right(run):
    found = predict_run(run, Images())
    return found.found.probabilities.argmax(axis=1) == found.source.labels


def test_the_table_for_latex(compared):
    _, out, rows, pair = compared
    text = (out / "compare.tex").read_text()
    assert text.startswith(
        "% \\usepackage{booktabs}\n\\begin{tabular}{lrrrrrrrr}\n\\toprule\nrun & seeds & test accuracy"
    )
    lines = [line.removesuffix(r" \\").split(" & ") for line in text.splitlines() if line.endswith(r" \\")]
    assert lines[2][0] == r"stepped/two\_steps" and len(lines) == 5
    for row, cells in zip(rows, lines[1:3], strict=True):
        assert cells[2] == row.cells()[2].replace("±", r"$\pm$").replace("%", r"\%")
    assert lines[4][:2] == [r"stepped/two\_steps minus solved", f"{100 * pair.difference:+.2f}"]
    assert text.count(r"\midrule") == text.count(r"\bottomrule") == text.count(r"\end{tabular}") == 2


def test_again_trains_nothing(compared, monkeypatch):
    features, out, rows, _ = compared

    def written():
        return {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*") if path.name != "eval.json"}

    before = {path: time for path, time in written().items() if path.is_file()}
    monkeypatch.setattr("jft.training.loop._start", None)
    assert compare(configs(features)[:1], out, seeds=2) == (rows[:1], [])
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
    monkeypatch.setattr(trial, "train", lambda config, place, brief: {"finished": False, "signal": 2})
    with pytest.raises(Stopped, match="signal 2"):
        compare([("a", make(tmp_path))], tmp_path / "out", seeds=2)
    assert not (tmp_path / "out" / "compare.md").exists()


def test_how_long_is_left_is_told_by_the_runs_before():
    assert lib._seconds_left({"a": [], "b": []}, {"a": 2, "b": 3}) == 0
    assert lib._seconds_left({"a": [10.0, 20.0], "b": []}, {"a": 1, "b": 3}) == 15 + 3 * 15
    assert lib._seconds_left({"a": [10.0], "b": [40.0]}, {"a": 0, "b": 2}) == 80


def test_the_table_of_stages_comes_once_and_each_run_is_counted(tmp_path, monkeypatch, capsys):
    shown = []

    def perform(trial):
        shown.append(trial.brief)
        trial.place.mkdir(parents=True)
        (trial.place / "metrics.jsonl").write_text('{"kind": "validation", "step": 1, "accuracy": 0.5}\n')
        return Outcome({"accuracy": 0.5, "loss": 1.0, "parameters": 1}, None)

    monkeypatch.setattr(lib, "perform", perform)
    compare([("a", make(tmp_path)), ("b", make(tmp_path, learning_rate=0.5))], tmp_path / "out", seeds=2)
    assert shown == [False, True, False, True]
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("==")]
    assert told[0] == "== a, seed 0: run 1 of 4"
    assert re.fullmatch(r"== b, seed 1: run 4 of 4, about \d+ s left", told[3])


def test_one_seed_has_no_deviation():
    row = Row("a", (0.5,), (1.25,), (10.0,), 0.0, 1000, 10, ())
    assert row.cells() == ("a", "1", "50.00 %", "1.250", "10.0 s", "-", "1,000", "10", "-")


def test_script(compared, tmp_path, command):
    features, out, rows, _ = compared
    (name, config), _ = configs(features)
    path = tmp_path / f"{name}.py"
    write_config(path, config)

    def run(*arguments):
        return command("compare", path, "--out", out, *arguments)

    status, printed, _ = run("--seeds", "2")
    assert status == 0
    assert f"\n{markdown(rows[:1])}\n" in printed and f"{out} holds the tables" in printed
    status, _, error = run("--seeds", "0")
    assert (status, error) == (1, "error: --seeds 0: at least 1.\n")
    status, _, error = run("--config.solvr=ridge")
    assert status == 1 and error.startswith("error: unknown config field 'solvr', did you mean 'solver'?")
    status, _, error = run("--config.solver=lbfgs")  # another config than the runs that are there
    assert status == 1 and "holds a run with another config (there -> here): solver: 'ridge' -> 'lbfgs'" in error
