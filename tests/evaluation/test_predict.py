"""Classes of images in files, as a user asks for them."""

import csv
import dataclasses
import io
import itertools
import json
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import small_digits
from PIL import Image

import jft
from jft.data import datasets
from jft.evaluation import predict
from jft.metrics.losses import Objective

pytestmark = pytest.mark.xdist_group("predict")  # whose run one worker trains for all


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return small_digits.solved(tmp_path_factory.mktemp("predict"))


@pytest.fixture(scope="module")
def predictor(run):
    return jft.load(run, batch_size=8)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Class folders of digits; one of a 5 lies with the sevens, and one file is no image."""
    root = tmp_path_factory.mktemp("images")
    source = datasets.load_source(
        "digits", split="test", data_dir=None, validation=0, seed=0, classes=("5", "6", "7"), examples_per_class=0
    )
    for label, name in enumerate(source.class_names):
        (root / name / "deep").mkdir(parents=True)
        for i, row in enumerate(np.flatnonzero(source.labels == label)[:9]):
            where = root / name / ("deep" if i == 8 else "") / f"{i + 4}.png"
            Image.fromarray(source.images[row]).save(where)
    (root / "7" / "20.png").write_bytes((root / "5" / "4.png").read_bytes())
    (root / "6" / "6.png").write_text("no image")
    (root / "6" / "notes.txt").write_text("no image either")
    for hidden in (root / ".hidden", root / ".thumbnails" / "1.png", root / "5" / "._4.png"):
        hidden.parent.mkdir(exist_ok=True)
        hidden.write_text("")
    return root


def names(found, root):
    return [str(path.relative_to(root)) for path in found]


def test_files_folders_patterns_and_lists(images, tmp_path, monkeypatch):
    five = ["5/4.png", "5/5.png", "5/6.png", "5/7.png", "5/8.png", "5/9.png", "5/10.png", "5/11.png", "5/deep/12.png"]
    nothing = io.StringIO()
    assert names(predict.find([f"{images}/5"], nothing), images) == five
    everything = names(predict.find([str(images)], nothing), images)
    assert len(everything) == 28 and everything[:9] == five and "6/6.png" in everything
    # Each once, in the order in which they are named.
    twice = predict.find([f"{images}/6/notes.txt", f"{images}/5/6.png", f"{images}/5"], nothing)
    assert names(twice, images) == ["6/notes.txt", "5/6.png", *(name for name in five if name != "5/6.png")]
    assert names(predict.find([f"{images}/5/?.png", f"{images}/7/2*"], nothing), images) == [
        *five[:6],
        "7/20.png",
    ]
    assert len(predict.find([f"{images}/**/1?.png"], nothing)) == 9
    listed = io.StringIO(f"{images}/7/20.png\r\n\n{images}/5\n")
    assert names(predict.find(["-"], listed), images) == ["7/20.png", *five]
    # A file may be called as a pattern is.
    (tmp_path / "a[1].png").write_text("")
    assert predict.find([f"{tmp_path}/a[1].png"], nothing) == [tmp_path / "a[1].png"]


def test_what_is_not_there(images, tmp_path):
    (tmp_path / "notes.txt").write_text("")
    for path, message in (
        (f"{images}/nothing.png", "there is no file or folder .*nothing.png"),
        (f"{images}/*.jpg", r"no file matches .*\*.jpg"),
        (f"{tmp_path}", r"holds no images \(.txt: 1 \(notes.txt\)\)"),
        ("-", "no image is given"),
    ):
        with pytest.raises(ValueError, match=message):
            predict.find([path], io.StringIO("\n"))


def test_predictions_come_in_order_around_what_cannot_be_read(predictor, images):
    """28 images are four batches of 8."""
    paths = predict.find([str(images)], io.StringIO())
    told = list(predict.predict_paths(predictor, paths, 2))
    assert [each.path for each in told] == paths
    broken = images / "6" / "6.png"
    assert {each.path: each.error for each in told if each.error} == {
        broken: f"cannot read {broken} as an image (its content is none of JPEG, PNG, PPM, BMP, GIF, WEBP, TIFF)."
    }
    good = [each for each in told if not each.error]
    expected = predictor.predict([each.path for each in good])
    order = np.argsort(-expected, axis=1)[:, :2]
    np.testing.assert_allclose([each.probabilities for each in good], np.take_along_axis(expected, order, 1), atol=1e-6)
    assert [each.classes for each in good] == [tuple(predictor.class_names[c] for c in row) for row in order]
    assert len(predictor._compiled) == 1
    plain = next(predict.predict_paths(predictor, paths, 5, calibrated=False))
    np.testing.assert_allclose(sorted(plain.probabilities), np.sort(predictor.predict(paths[:1], calibrated=False)[0]))


def test_a_batch_of_which_nothing_can_be_read(predictor, images, tmp_path):
    for i in range(8):
        (tmp_path / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n cut off")
    paths = [*sorted(tmp_path.iterdir()), images / "5" / "4.png"]
    told = list(predict.predict_paths(predictor, paths))
    assert [bool(each.error) for each in told] == [True] * 8 + [False]


def test_a_black_image_is_a_image(predictor, tmp_path):
    """An array that is all dark may be scaled to 0..1, which would be an error; a file is not."""
    Image.new("RGB", (20, 20)).save(tmp_path / "black.png")
    fresh = dataclasses.replace(predictor)
    (found,) = predict.predict_paths(fresh, [tmp_path / "black.png"])
    assert found.error is None and len(found.classes) == 1
    with pytest.raises(ValueError, match="255"):
        fresh.predict(np.zeros((1, 20, 20, 3), np.uint8))


def test_several_labels(predictor, images):
    """Every class from 1/2 on, of which there may be none; or the likeliest ones."""
    pretrained = jft.load("vgg_tiny", weights="digits04", batch_size=8)
    several = dataclasses.replace(pretrained, objective=Objective("multilabel", 5))
    paths = predict.find([f"{images}/5", f"{images}/7"], io.StringIO())
    probabilities = several.predict(paths)
    told = list(predict.predict_paths(several, paths))
    assert [set(each.classes) for each in told] == [
        {several.class_names[c] for c in np.flatnonzero(row >= 0.5)} for row in probabilities
    ]
    assert len({len(each.classes) for each in told}) > 1
    assert all(list(each.probabilities) == sorted(each.probabilities, reverse=True) for each in told)
    assert {len(each.classes) for each in predict.predict_paths(several, paths, 2)} == {2}
    assert predict.columns(several, None) == 5 and predict.columns(predictor, None) == 1


def test_the_class_folder_is_the_label(images, monkeypatch):
    assert predict.label_of(images / "5" / "4.png", ("5", "6")) == "5"
    assert predict.label_of(images / "5" / "4.png", ("6", "7")) is None
    assert predict.label_of(images / "5" / "deep" / "12.png", ("5", "6")) is None
    monkeypatch.chdir(images / "6")
    accents = [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]
    assert predict.label_of(images / accents[1] / "4.png", accents[:1]) == accents[0]
    assert predict.label_of(predict.find(["6.png"], io.StringIO())[0], ("5", "6")) == "6"


def test_table(command, run, images):
    status, printed, told = command("predict", run, images / "5", images / "6", "--top", 2)
    broken = images / "6" / "6.png"
    assert status == 1
    rows = printed.splitlines()
    assert rows[0].split() == ["image", "class", "probability"] and len(rows) == 1 + 2 * 17 + 1
    assert rows[1].split()[:2] == [str(images / "5" / "4.png"), "5"] and rows[1].endswith("%")
    assert rows[2].split()[0] in ("6", "7")
    assert [row.split() for row in rows if "cannot" in row] == [[str(broken), "cannot", "be", "read"]]
    assert told.count("error: ") == 1 and f"error: cannot read {broken} as an image" in told
    assert "1 of 18 images could not be read" in told


def test_csv_and_json_lines_agree(command, run, images, tmp_path):
    given = ("predict", run, images, "--top", 2, "--batch_size", 5)
    status, printed, _ = command(*given, "--format", "csv")
    assert status == 1
    rows = list(csv.DictReader(io.StringIO(printed)))
    assert list(rows[0]) == ["path", "class", "probability", "class2", "probability2"] and len(rows) == 28
    status, printed, _ = command(*given, "--out", tmp_path / "told.jsonl")
    assert status == 1 and printed == ""
    objects = [json.loads(line) for line in (tmp_path / "told.jsonl").read_text().splitlines()]
    for row, one in zip(rows, objects, strict=True):
        assert row["path"] == one["path"]
        if "error" in one:
            assert one["path"].endswith("6/6.png") and row["class"] == row["probability2"] == ""
        else:
            first, second = one["predictions"]
            assert (row["class"], float(row["probability"])) == (first["class"], first["probability"])
            assert (row["class2"], float(row["probability2"])) == (second["class"], second["probability"])
            assert first["probability"] > second["probability"]


def test_lines_come_while_images_do():
    """Of images without an end; a class may be called anything, and an image may have fewer labels than columns."""
    endless = (predict.Prediction(Path(f"{i}.png"), ('a, "b"',), (1 / 3,)) for i in itertools.count())
    told = itertools.islice(predict.csv_lines(endless, 2), 3)
    assert list(csv.reader(told))[1:] == [[f"{i}.png", 'a, "b"', "0.333333", "", ""] for i in range(2)]
    line = json.loads(next(predict.json_lines(endless, 2)))
    assert line == {"path": "2.png", "predictions": [{"class": 'a, "b"', "probability": 0.333333}]}


def test_a_pretrained_model_and_a_list_on_standard_input(command, images, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{images}/5/4.png\n{images}/5/5.png\n"))
    status, printed, told = command("predict", "--model", "vgg_tiny", "--weights", "digits04", "-", "--format", "jsonl")
    assert status == 0 and "error" not in told
    assert [json.loads(line)["path"] for line in printed.splitlines()] == [
        f"{images}/5/4.png", f"{images}/5/5.png"
    ]  # fmt: skip


def test_grid(command, run, images, tmp_path, monkeypatch):
    """The five that lies with the sevens is marked; of the 27 that can be read 25 are shown."""
    from jft.data import grid

    drawn = []
    draw = grid.draw
    monkeypatch.setattr(grid, "draw", lambda *args, **kw: drawn.append((args, kw)) or draw(*args, **kw))
    file = tmp_path / "grid.png"
    status, _, told = command("predict", run, images / "7", "--grid", file)
    assert status == 0 and f"{file}: 10 of 10 images read, spread over 2 folders\n" in told
    (_, shown, predicted, probabilities, labels), _ = drawn[0]
    assert labels == ["7"] * 9 + [None]  # in natural order, the file in deep/ last
    assert predicted[8] == "5" and grid.wrong(predicted[8], labels[8])
    assert predicted[0] == "7" and not grid.wrong(predicted[0], labels[0])
    assert all(1 / 3 < p <= 1 for p in probabilities) and {image.shape for image in shown} == {(32, 32, 3)}
    with Image.open(file) as image:
        assert image.format == "PNG"
    status, _, told = command("predict", run, images, "--grid", file, "--force")
    assert status == 1 and f"{file}: 25 of 27 images read, spread over " in told
    assert "1 of 28 images could not be read\n" in told
    assert drawn[1][1]["title"].startswith("25 of 27 images read, spread over ")
    assert {*drawn[1][0][4]} >= {"5", "6", "7"}
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "{tmp}/kept"), "kept exists: choose another name, or replace it with --force"),
        (("--grid", "{tmp}/kept.png"), "kept.png exists"),
        (("--grid", "{tmp}/grid.txt"), "grid.txt has the suffix '.txt'"),
        (("--out", "{tmp}", "--force"), "is a folder"),
        (("--out", "{tmp}/none/a.csv"), "none is no folder"),
        (("--out", "{images}/5/4.png", "--force"), "4.png is one of the images"),
        (("--top", "0"), "--top 0: give 1 or more"),
        (("{tmp}/empty",), "holds no images"),
        (("--batch_size", "0"), "batch_size = 0"),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_overwritten(command, run, images, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    for name in ("kept", "kept.png"):
        (tmp_path / name).write_text("mine")
    before = {path: path.read_bytes() for root in (tmp_path, images) for path in root.rglob("*") if path.is_file()}
    given = [argument.format(tmp=tmp_path, images=images) for argument in arguments]
    status, printed, told = command("predict", run, images / "5", *given)
    error, *more = [line for line in told.splitlines() if not line.startswith("WARNING: ")]  # of files left out
    assert (status, printed, more) == (1, "", []) and error.startswith("error: ") and message in error
    after = {path: path.read_bytes() for root in (tmp_path, images) for path in root.rglob("*") if path.is_file()}
    assert after == before


def test_force_replaces(command, run, images, tmp_path):
    (tmp_path / "old.csv").write_text("mine")
    status, _, _ = command("predict", run, images / "5", "--out", tmp_path / "old.csv", "--force")
    assert status == 0 and (tmp_path / "old.csv").read_text().startswith("path,class,probability\n")


def test_a_run_may_be_called_as_a_model_is(command, run, images, tmp_path, monkeypatch):
    (tmp_path / "vgg_tiny").symlink_to(run)
    monkeypatch.chdir(tmp_path)
    status, printed, _ = command("predict", "vgg_tiny", images / "7" / "4.png")
    assert status == 0 and printed.splitlines()[1].split()[1] == "7"  # which the pretrained model does not know


def test_help_fits_one_screen(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    status, printed, _ = command("predict", "--help")
    assert status == 0 and len(printed.splitlines()) <= 40
