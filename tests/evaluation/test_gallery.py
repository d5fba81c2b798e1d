"""`jft explain`: where a run looks, what it learnt from that is like it, and which labels look wrong."""

import csv

import numpy as np
import pytest
import small_run
from PIL import Image

from jft.data import datasets, decode, grid
from jft.evaluation import gallery, gradcam
from jft.evaluation.load import from_trained
from jft.evaluation.restore import Trained, restore
from jft.features.knn import nearest

# One worker trains for all of them.
pytestmark = [pytest.mark.xdist_group("run"), pytest.mark.usefixtures("quick")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return restore(small_run.run(tmp_path_factory, "steps"))


@pytest.fixture(scope="module")
def predictor(trained):
    return from_trained(trained, "steps")


@pytest.fixture(scope="module")
def train(trained):
    return trained.images("train")


def test_the_training_pictures_are_those_that_it_learnt_from(trained, train):
    assert len(train) == trained.info.trained_on.count == 90
    assert train.class_names == trained.class_names
    assert train.names_crc() == trained.info.trained_on.names


def test_features_and_neighbors(predictor, train):
    """A training image finds itself, and the features are those of the stage before the head."""
    known = gallery.features(predictor, train)
    paths = list(train.images[:7])
    own = predictor.features(paths, "fc7", pooled=True)
    np.testing.assert_allclose(known[:7], own, atol=1e-3 * np.abs(own).max())
    rows, similarities = nearest(known, own, 2)
    assert rows[:, 0].tolist() == list(range(7))
    np.testing.assert_allclose(similarities[:, 0], 1, atol=1e-4)
    with pytest.raises(ValueError, match="91"):
        nearest(known, own, 91)


def test_the_image_shows_the_predicted_class(tmp_path_factory, predictor, train, tmp_path, monkeypatch, command):
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 700, 3), np.uint8))
    wide.save(tmp_path / "a b.png")
    paths = [train.images[0], train.images[80], tmp_path / "a b.png"]
    drawn, asked = [], []
    maps = gallery.heat_maps
    monkeypatch.setattr(gallery, "heat_maps", lambda *given: asked.append(given) or maps(*given))
    monkeypatch.setattr(grid, "draw", lambda *given, **more: drawn.append((given, more)))
    out = tmp_path / "looked.png"
    status, printed, _ = command("explain", small_run.run(tmp_path_factory, "steps"), *paths, "--out", out)
    assert (status, printed) == (0, f"wrote {out}\n")
    ((place, images, told, sure, true), more) = drawn[0]
    probabilities = predictor.predict(paths)
    best = probabilities.argmax(1)
    ((_, _, classes, stage),) = asked
    assert place == out and stage == "block3" and classes.tolist() == best.tolist()
    assert more["columns"] == 5 and len(images) == 15 and true == [None] * 15
    assert told[::5] == tuple(predictor.class_names[c] for c in best)
    np.testing.assert_allclose(sure[::5], probabilities.max(1), rtol=1e-4)
    assert told[1::5] == ("Grad-CAM: block3",) * 3
    # The nearest training image of a training image is itself.
    assert told[2] == f"neighbor: {train.class_names[train.labels[0]]}"
    np.testing.assert_array_equal(images[2], images[0])
    np.testing.assert_array_equal(images[0], decode.pixels(paths[0], predictor.spec))
    assert images[10].shape == (15, 256, 3)  # whole, in its own proportions, and not larger than need be
    heat = maps(predictor, [decode.pixels(path, predictor.spec) for path in paths], best)
    np.testing.assert_array_equal(images[1], gradcam.overlay(images[0], heat[0]))
    # Another class would have been another map.
    others = maps(predictor, [decode.pixels(path, predictor.spec) for path in paths], (best + 1) % 3)
    assert np.abs(others - heat).max() > 1e-3


def test_without_neighbors_no_training_pictures_are_needed(tmp_path_factory, train, tmp_path, monkeypatch, command):
    run = small_run.run(tmp_path_factory, "steps")
    monkeypatch.setattr(Trained, "images", None)
    out = tmp_path / "looked.png"
    status, _, error = command("explain", run, train.images[0], "--out", out, "--neighbors", "0", "--stage", "block1")
    assert status == 0, error
    with Image.open(out) as image:
        assert image.format == "PNG" and image.width > 300


def test_a_image_that_cannot_be_read_is_told_and_the_others_are_drawn(tmp_path_factory, train, tmp_path, command):
    paths = [tmp_path / "no.png", train.images[0], tmp_path / "cut off.png", train.images[80]]
    paths[0].write_text("not an image")
    paths[2].write_bytes(paths[1].read_bytes()[:60])
    run, options = small_run.run(tmp_path_factory, "steps"), ("--neighbors", "1", "--out")
    status, printed, told = command("explain", run, *paths, *options, tmp_path / "some.png")
    assert (status, printed) == (1, f"wrote {tmp_path / 'some.png'}\n")
    *errors, last = told.splitlines()[-3:]
    assert last == "2 of 4 images could not be read"
    for error, path in zip(errors, paths[::2], strict=True):
        assert error.startswith(f"error: cannot read {path} as an image (")
    assert command("explain", run, *paths[1::2], *options, tmp_path / "good.png")[0] == 0
    np.testing.assert_array_equal(Image.open(tmp_path / "some.png"), Image.open(tmp_path / "good.png"))


def test_a_flipped_label_is_found(predictor, train, tmp_path):
    """Three images are said to be of another class; they lead the list, with the class that they are of."""
    flipped = np.array([3, 41, 77])
    said = train.labels.copy()
    said[flipped] = (said[flipped] + 1) % 3
    pixels = np.stack([decode.pixels(path, predictor.spec) for path in train.images])
    source = datasets.from_arrays(pixels, said, train.class_names, name="flipped")
    out = tmp_path / "suspects.csv"
    count = gallery.write_suspects(predictor, source, out)
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == count < 20 and list(tmp_path.iterdir()) == [out]
    found = {row["image"]: row for row in rows}
    names = [source.image_name(row) for row in flipped]
    assert set(names) <= set(found)
    for name, row in zip(names, flipped, strict=True):
        assert found[name]["label"] == train.class_names[said[row]]
        assert found[name]["suggested"] == train.class_names[train.labels[row]]
        assert float(found[name]["probability"]) < float(found[name]["suggested_probability"]) <= 1


def test_the_only_image_of_its_class_is_not_judged(train):
    """The others are, as if it were not there."""
    rng = np.random.default_rng(0)
    known = rng.standard_normal((len(train), 8), np.float32) + 3 * np.eye(8, dtype=np.float32)[train.labels]
    said = train.labels.copy()
    said[5] = (said[5] + 1) % 3
    names = (*train.class_names, "lonely")
    said[0] = 3
    (found,) = gallery.suspects(known, datasets.from_arrays(np.zeros((90, 1, 1, 3), np.uint8), said, names))
    assert (found.row, found.label, found.suggested) == (5, said[5], train.labels[5])


def test_the_list_by_command(tmp_path_factory, train, tmp_path, monkeypatch, command):
    run = small_run.run(tmp_path_factory, "steps")
    monkeypatch.setattr(gallery, "write_suspects", lambda predictor, train, out: out.write_text("image") and 4)
    status, printed, _ = command("explain", run, "--labels", "--out", tmp_path / "s.csv")
    assert (status, printed) == (0, f"{tmp_path / 's.csv'}: 4 of 90 labels look wrong\n")


def test_what_is_refused(tmp_path_factory, train, tmp_path, monkeypatch, command):
    """In one line, before anything is computed, and nothing is written."""
    run, image, out = small_run.run(tmp_path_factory, "steps"), train.images[0], tmp_path / "looked.png"

    def refused(*arguments):
        status, printed, error = command("explain", run, *arguments)
        assert status == 1 and printed == "" and error.count("\n") == 1 and error.startswith("error: ")
        return error

    (tmp_path / "no.png").write_text("not an image")
    (tmp_path / "nor.png").write_text("not an image")
    error = refused(tmp_path / "no.png", tmp_path / "nor.png", "--out", out, "--neighbors", "0")
    assert "/no.png" in error and "/nor.png" in error and not out.exists()
    assert "stage 'fc6' has no feature map" in refused(image, "--out", out, "--stage", "fc6", "--neighbors", "0")
    with pytest.raises(ValueError, match="51 images are given, and a drawing shows at most 50"):
        gallery.draw(None, [image] * 51, out, train=None, stage=None, neighbors=0)
    monkeypatch.setattr("jft.evaluation.restore.restore", None)
    assert "the list is written as .csv" in refused("--labels", "--out", out)
    assert "give either images to explain, or --labels" in refused("--out", out)
    assert "either images to explain, or --labels" in refused(image, "--labels", "--out", out)
    assert "looked.gif has the suffix '.gif'" in refused(image, "--out", tmp_path / "looked.gif")
    assert "nothing.png" in refused(tmp_path / "nothing.png", "--out", out)
    assert "nowhere is no folder: make it" in refused(image, "--out", tmp_path / "nowhere" / "looked.png")
    assert refused(image, "--out", tmp_path)
    assert not out.exists()
    out.write_text("mine")
    assert "looked.png exists: choose another name, or replace it with --force" in refused(image, "--out", out)
    assert out.read_text() == "mine"
