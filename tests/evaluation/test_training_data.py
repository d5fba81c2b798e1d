"""What a run was trained on: recorded by content, recognized by whatever route it comes back, never mistaken."""

import copy
import csv
import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
import small_digits
from data import test_cifar, test_gtsrb, test_near
from PIL import Image
from small_info import GOLDEN, info_of

from jft.data import datasets
from jft.data.record import DataRecord
from jft.evaluation import copies, training_data
from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.evaluation.evaluate import evaluate, evaluate_ensemble
from jft.evaluation.restore import Trained, restore
from jft.evaluation.results import format_evaluation, seen_before
from jft.exporters.model_card import model_card
from jft.training import noted_images
from jft.training.loop import train
from jft.training.replay import replay
from jft.training.run import create_run, open_folder

# One worker trains for all of them.
pytestmark = [pytest.mark.xdist_group("trained on"), pytest.mark.usefixtures("quick")]

CLASSES = tuple("0123456789")
tree = test_gtsrb.tree


@pytest.fixture(scope="module")
def given():
    """The test split of the digits, as a program might have it in memory."""
    split = datasets.load_source("digits", split="test", data_dir=None, validation=0, seed=0)
    return datasets.from_arrays(split.images, split.labels, split.class_names, name="my digits")


@pytest.fixture(scope="module")
def run(given, tmp_path_factory):
    """Of images in memory: 215 to train, 72 to validate, 72 to test."""
    folder = tmp_path_factory.mktemp("given")
    train(config_of(folder), folder / "run", data=given)
    return folder / "run"


def config_of(folder):
    changes = {"classes": (), "solver": "ridge", "regularization": (1.0,)}
    return small_digits.make(folder / "features", **changes)


def own_split(given, split):
    return datasets.load_source(given, split=split, data_dir=None, validation=0.25, seed=0)


def saved(source, folder, suffix=".png"):
    """The images as files of other names in class folders."""
    for row in range(len(source)):
        place = folder / source.label(row)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(source.images[row]).save(place / f"other name {row}{suffix}")
    return folder


def listed(source, folder):
    """The same in one folder, with a list."""
    folder.mkdir()
    with (folder / "list.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label"))
        for row in range(len(source)):
            Image.fromarray(source.images[row]).save(folder / f"{row}.ppm")
            writer.writerow((f"{row}.ppm", source.label(row)))
    return folder / "list.csv"


def test_images_in_memory_are_recorded_as_what_they_are(run, given):
    info = restore(run).info
    found = info.trained_on
    assert (found.name, found.dataset, found.where, found.count) == ("my digits", "", "", 215)
    assert info.validated_on.count == 72 and found.digest != info.validated_on.digest
    assert info.config["dataset"] == "digits"  # which it was not trained on


def test_without_them_nothing_else_is_evaluated_in_their_place(run, command, tmp_path):
    status, printed, error = command("evaluate", run)
    assert status == 1 and printed == ""
    assert "images in memory" in error and "jft.evaluate(run, data)" in error
    status, _, error = command("extract-features", run, "--stage", "fc7", "--out", tmp_path / "f.npz")
    assert status == 1 and "images in memory" in error
    with pytest.raises(ValueError, match=r"replay\(run, step, data=\.\.\.\)"):
        replay(run, 1)


def test_given_again_they_are_its_own(run, given):
    found = evaluate(run, dataset=given)
    assert (found["count"], found["learnt"], found["validated"], found["alike"]) == (72, 0, 0, 0)
    assert "without_copies" not in found
    assert json.loads((run / "eval.json").read_text()) == found
    assert found["data"]["name"] == "my digits" and found["data"]["count"] == 72


def test_what_it_was_trained_on_is_found_by_any_route(run, given, tmp_path):
    """215 of these 359 images, and the 72 that it was validated on: the solver joined them for its head."""
    kept = (run / "eval.json").read_text() if (run / "eval.json").exists() else None
    routes = {
        "digits": {"dataset": "digits"},  # whose test split this is
        "copies": {"dataset": "folder", "data_dir": str(saved(given, tmp_path / "copies")), "split": "all"},
        "list": {"dataset": "csv", "data_dir": str(listed(given, tmp_path / "list")), "split": "all"},
        "arrays": {"dataset": datasets.from_arrays(given.images, given.labels, CLASSES), "split": "all"},
    }
    for name, asked in routes.items():
        found = evaluate(run, **asked)
        assert (name, found["count"], found["learnt"]) == (name, 359, 287)
        assert "287 of these images were trained on" in format_evaluation(found)
        assert found["without_copies"]["count"] == 72 and found["without_copies"]["accuracy"] < found["accuracy"]
        assert "without these 287 images: accuracy" in format_evaluation(found)
    files = {path.name for path in run.glob("eval-*.json")}
    assert files >= {"eval-digits-test.json", "eval-copies-all.json", "eval-list.csv-all.json"}
    assert ((run / "eval.json").read_text() if kept else None) == kept
    # JPEG saves other pixels: a new image, as far as anyone can tell.
    again = saved(given, tmp_path / "again", ".jpg")
    assert evaluate(run, dataset="folder", data_dir=str(again), split="all")["learnt"] == 0


def test_other_images_of_a_name_take_no_file_of_those_before(run, given, tmp_path):
    places = [saved(given.take(np.arange(n)), tmp_path / str(n) / "same name") for n in (40, 41)]
    one, other = (evaluate(run, dataset="folder", data_dir=str(place), split="all") for place in (*places,))
    held = [json.loads(path.read_text()) for path in run.glob("eval-same name-all*.json")]
    assert sorted((one, other), key=str) == sorted(held, key=str) and one["count"] == 40


def test_images_that_look_almost_like_those_it_was_trained_on(tmp_path):
    """Of another run: one it was trained on, a darker mirror image of one, a darker one of validation, and others."""
    images = np.stack([np.asarray(image) for image in test_near.PICTURES[:10]])
    trained, validated = (datasets.from_arrays(part, np.zeros(5, int)) for part in (images[:5], images[5:]))
    known = training_data.Known.of(trained, validated)
    darker = [(images[row][:, ::-1] * 0.9).astype(np.uint8) for row in (1, 6)]
    other = np.asarray(test_near.PICTURES[20])
    source = datasets.from_arrays(np.stack([images[0], *darker, other]), np.zeros(4, int))
    assert training_data.alike(known, source).tolist() == [False, True, False, False]
    assert training_data.alike(known.refit(), source).tolist() == [False, True, True, False]
    assert training_data.alike(training_data.Known(known.train, known.validation), source) is None
    info = info_of(trained_on=DataRecord.of(trained, "", ""))
    for hashes, wanted in ((known.train_hashes, True), (known.train_hashes[:4], False)):
        np.savez(tmp_path / "images.npz", **vars(known) | {"train_hashes": hashes})
        assert (training_data.load(tmp_path, info) is not None) is wanted
    result = {"learnt": 0, "alike": 2, "validated": 0}
    assert seen_before(result) == "2 of these images look almost like images that were trained on"


def test_figures_without_copies():
    """Three images, of which the first, a copy, is the only one that is right."""
    source = datasets.from_arrays(np.zeros((3, 4, 4, 3), np.uint8), np.array([0, 0, 1]))
    probabilities = np.array([[1.0, 0.0], [0.25, 0.75], [0.5, 0.5]])
    found = copies.without(probabilities, source, np.array([True, False, False]))
    assert found == {"count": 2, "accuracy": 0.0, "loss": pytest.approx(-np.log(0.25 * 0.5) / 2)}
    told = copies.told({"count": 3, "without_copies": found})
    assert told == "without this image: accuracy 0.00%, log loss 1.0397, 2 images"
    assert copies.without(probabilities, source, np.zeros(3, bool)) is None
    assert copies.without(probabilities, source, np.ones(3, bool)) is None


def test_the_page_and_the_card_say_it(run, given):
    found = evaluate(run, dataset="digits")
    card = model_card(restore(run).info, found, [])
    assert "| Dataset | my digits |" in card and "| Test images trained on | 287 |" in card
    assert "- 287 of these images were trained on" in card
    assert restore(run).info.trained_on.digest in card


def test_an_ensemble_counts_what_any_of_its_members_was_trained_on(run, given, tmp_path_factory):
    found = evaluate_ensemble([run, run], dataset="digits")
    assert found["learnt"] == 287 and found["validated"] == 0


def test_a_run_without_its_list_says_that_it_is_not_known(run, given, tmp_path):
    """As checkpoints of before have none; a list that is damaged counts as none."""
    copied = shutil.copytree(run, tmp_path / "copy")
    (copied / "images.npz").write_bytes((copied / "images.npz").read_bytes()[:-30])
    found = evaluate(copied, dataset="digits")
    assert found["learnt"] is None and found["validated"] is None
    assert "it is unknown whether any of these images were trained on" in format_evaluation(found)
    assert "| Test images trained on | unknown |" in model_card(restore(copied).info, found, [])


def test_a_fifo_in_place_of_the_list_is_not_waited_for(run, tmp_path):
    os.mkfifo(tmp_path / "images.npz")
    assert training_data.load(tmp_path, restore(run).info) is None


def test_other_images_in_memory_do_not_resume_a_run(run, given):
    other = inverted(given)
    config = small_digits.make(
        run.parent / "features", solver="ridge", classes=(), validation=0.25, regularization=(1.0,)
    )
    with pytest.raises(ValueError, match="was trained on other data: the content of images or labels differs"):
        train(config, run, data=other)
    assert train(config, run, data=given)["finished"]


def test_what_occurs_twice_is_said_at_the_start(given, tmp_path, capsys):
    for split, source in {"train": given.take(np.arange(60)), "test": given.take(np.arange(50, 108))}.items():
        saved(source, tmp_path / "signs" / split)
    config = small_digits.make(tmp_path / "features", dataset="folder", data_dir=str(tmp_path / "signs"), classes=())
    config.validation = 0
    run = create_run(config, tmp_path / "run")
    info = noted_images.note(run, run.info(), begins=True)
    assert "WARNING: 10 test images are also in train (" in capsys.readouterr().out
    assert info.trained_on.digest and info.test_digest and not list(tmp_path.glob("run/*"))
    (tmp_path / "run").mkdir()
    noted_images.save(run, begins=True)
    assert noted_images.note(run, info, begins=False) is info  # goes on: what was said is not found out again
    assert capsys.readouterr().out == ""


def test_a_run_that_begins_anew_notes_its_own_images(given, tmp_path):
    """One that was killed before its first checkpoint left its list, and nothing to compare other images with."""
    first, second = (create_run(config_of(tmp_path), tmp_path, data=data) for data in (given, inverted(given)))
    for run in (first, second):
        noted_images.save(run, begins=True)
    info = second.info()
    trained, _ = training_data.recognized(training_data.load(tmp_path, info), second.train_source)
    assert trained.all()
    noted_images.save(first, begins=False)  # one that goes on leaves what is there
    trained, _ = training_data.recognized(training_data.load(tmp_path, info), second.train_source)
    assert trained.all()


def inverted(source):
    return dataclasses.replace(source, images=255 - source.images)


def test_other_files_of_the_same_names_and_sizes_do_not_resume_a_run(given, tmp_path):
    """Files without compression: nothing but their pixels tells them apart, wherever they lie."""
    for name, source in {"here": given, "there": inverted(given), "copies": given}.items():
        saved(source.take(np.arange(60)), tmp_path / name, ".bmp")
    config = config_of(tmp_path)
    config.update({"dataset": "folder", "data_dir": str(tmp_path / "here")})

    def run_of(name):
        changed = copy.deepcopy(config)
        changed.data_dir = str(tmp_path / name)
        return create_run(changed, tmp_path / "run")

    run = run_of("here")
    run.workdir.mkdir()
    open_folder(run).close()
    train, validation = run.records(content=True)
    info = dataclasses.replace(run.info(), trained_on=train, validated_on=validation)
    noted_images.save(run, begins=True)
    told = ["the content of images or labels differs"]
    assert noted_images.differences(run_of("there"), info) == told
    assert noted_images.differences(run_of("copies"), info) == noted_images.differences(run, info) == []
    saved(inverted(given).take(np.arange(60)), tmp_path / "here", ".bmp")
    assert noted_images.differences(run_of("here"), info) == told


def test_other_test_images_beside_the_same_training_images_are_not_the_own(given, tmp_path):
    """Whether elsewhere or in their place: the figures of the run's own test images are kept."""
    for name, test in {"own": given, "same": given, "other": inverted(given)}.items():
        saved(given.take(np.arange(60)), tmp_path / name / "train")
        saved(test.take(np.arange(60, 90)), tmp_path / name / "test")
    config = config_of(tmp_path)
    config.update({"dataset": "folder", "data_dir": str(tmp_path / "own")})
    run = tmp_path / "run"
    train(config, run)
    own = evaluate(run)
    other = evaluate(run, data_dir=str(tmp_path / "other"))
    assert own["data"]["digest"] != other["data"]["digest"] and json.loads((run / "eval.json").read_text()) == own
    assert json.loads((run / "eval-other-test.json").read_text()) == other
    assert evaluate(run, data_dir=str(tmp_path / "same"))["data"]["digest"] == own["data"]["digest"]
    assert {path.name for path in run.glob("eval*.json")} == {"eval.json", "eval-other-test.json"}
    saved(inverted(given).take(np.arange(60, 90)), tmp_path / "own" / "test")
    assert evaluate(run)["data"]["digest"] == other["data"]["digest"]
    assert json.loads((run / "eval.json").read_text())["data"]["digest"] == own["data"]["digest"]


# Which data are a run's own: no model is needed to tell.


def of(source, dataset, place):
    """A run that was trained on a source."""
    config = small_digits.make("", dataset=dataset, data_dir=str(place), classes=(), validation=0.25).to_dict()
    config = json.loads(json.dumps(config))
    record = DataRecord.of(source, dataset, str(place), content=True)
    return Trained(None, None, None, source.class_names, info_of(config=config, trained_on=record), None)


def is_own(run, place, split="test"):
    return training_data.is_own("run", run, split, *training_data.asked(run, None, str(place)))


def test_other_signs_are_not_the_own(tree, tmp_path):
    """The same content elsewhere is; a tree that lacks a class, or whose images changed in their place, is not."""
    run = of(test_gtsrb.load(tree, "train"), "gtsrb", tree)
    moved, fewer, changed = (shutil.copytree(tree, tmp_path / name) for name in ("moved", "fewer", "changed"))
    assert is_own(run, tree) and is_own(run, moved)
    shutil.rmtree(fewer / "Final_Training/Images/00042")
    assert not is_own(run, fewer)
    first = next((changed / "Final_Training/Images/00000").glob("*.ppm"))
    with Image.open(first) as image:
        Image.eval(image, lambda level: 255 - level).save(first)  # of the same size and name
    assert not is_own(run, changed) and not is_own(run, changed, "train")


def test_signs_without_their_test_split_are_noticed_where_some_came_or_went(tree):
    shutil.rmtree(tree / "Final_Test")
    run = of(test_gtsrb.load(tree, "train"), "gtsrb", tree)
    assert is_own(run, tree)
    shutil.rmtree(tree / "Final_Training/Images/00042")
    with pytest.raises(ValueError, match="does not hold the images that run was trained on"):
        is_own(run, tree)


def test_another_cifar_is_not_the_own(tmp_path):
    official = test_cifar.official()
    own = test_cifar.write_folder(tmp_path / "own", official)
    same = test_cifar.write_folder(tmp_path / "same", official)
    other = test_cifar.write_folder(tmp_path / "other", {**official, "data_batch_1": official["data_batch_2"]})
    run = of(test_cifar.load(own, "train", validation=0.25), "cifar10", own)
    assert is_own(run, own) and is_own(run, same) and not is_own(run, other)


def test_a_relative_place_is_found_from_another_folder(given, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    saved(given, tmp_path / "there" / "base")
    run = of(datasets.load_source("folder", split="train", data_dir="base", validation=0.25, seed=0), "folder", "base")
    assert run.place() == "base"
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run.place() == str(tmp_path / "there/base") and len(run.images("test")) == 72 and is_own(run, run.place())
    shutil.rmtree(tmp_path / "there/base")
    with pytest.raises(FileNotFoundError, match=r"is relative to .*elsewhere.*they were at .*there/base: give"):
        run.images("test")


def test_a_record_of_before_knows_less():
    said = json.loads(GOLDEN.read_text())
    del said["trained_on"]
    said |= {"training_pictures": 3, "training_labels": 4, "training_names": 5}
    said["config"] |= {"dataset": "folder", "data_dir": "/home/me/signs"}
    info = CheckpointInfo.from_json(said)
    before = info.trained_on
    assert before == DataRecord("signs", "folder", "", 3, 4, 5) and info.validated_on is None
    now = dataclasses.replace(before, nbytes=77, digest="ab", where="/mnt/signs", name="other")
    assert before.differences(now) == [] and DataRecord.from_json(now.to_json()) == now
    assert before.differences(dataclasses.replace(now, count=4)) == ["count was 3 and is 4"]
