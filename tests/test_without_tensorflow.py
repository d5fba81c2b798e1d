"""Where TensorFlow cannot be imported everything works but its datasets; where it can, nothing else imports it."""

import json
import subprocess
import sys

import hasty
import pytest
import small_digits
import small_run

from jft.data import cifar, datasets

PROGRAM = """
import json, sys
from importlib.machinery import PathFinder

class Hidden(PathFinder):
    names = ("tensorflow", "tensorflow_datasets")

    @classmethod
    def find_spec(cls, name, *where):
        return None if name.split(".")[0] in cls.names else super().find_spec(name, *where)

sys.meta_path[sys.meta_path.index(PathFinder)] = Hidden
from jft.cli import main

for line in sys.argv[1:]:
    if line == "installed":
        Hidden.names = ()
        continue
    verb, *arguments = json.loads(line)
    try:
        main.run(verb, arguments, prog=f"jft {verb}")
    except SystemExit as end:
        print("==", json.dumps([verb, end.code or 0, "tensorflow" in sys.modules]), flush=True)
"""


def test_a_folder_from_training_to_a_probe(tmp_path, tmp_path_factory):
    images = small_run.images(tmp_path_factory)
    config = small_digits.make(tmp_path / "features", dataset="folder", data_dir=str(images), classes=(), steps=3)
    small_digits.write_config(tmp_path / "config.py", config)
    one = next(images.glob("*/000.png"))

    def commands(run):
        train = ["train", tmp_path / "config.py", "--no_report", "--workdir", run]
        return [train, ["evaluate", run], ["predict", run, one], ["probe", tmp_path / "config.py"]]

    refused = ["train", tmp_path / "config.py", "--workdir", tmp_path / "refused", "--dataset", "tfds:mnist"]
    hidden, installed = [*commands(tmp_path / "run"), refused], commands(tmp_path / "again")
    encoded = [[json.dumps(list(map(str, command))) for command in some] for some in (hidden, installed)]
    words = [*encoded[0], "installed", *encoded[1]]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], env=hasty.environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads(line[3:]) for line in done.stdout.splitlines() if line.startswith("== ")]
    works = [[verb, 0, False] for verb in ("train", "evaluate", "predict", "probe")]
    assert told == [*works, ["train", 1, False], *works], done.stderr
    assert "dataset 'mnist' is one of TensorFlow Datasets." in done.stderr
    assert "pip install tensorflow tensorflow-datasets" in done.stderr and "Traceback" not in done.stderr


@pytest.fixture
def hidden(monkeypatch):
    for name in ("tensorflow", "tensorflow_datasets"):
        monkeypatch.setitem(sys.modules, name, None)


def load(dataset, data_dir):
    return datasets.load_source(dataset, split="train", data_dir=str(data_dir), validation=0, seed=0)


def test_a_misspelled_name_is_not_taken_for_a_dataset_of_tensorflow(hidden, tmp_path):
    with pytest.raises(ValueError, match=r"dataset 'cifar1o', did you mean 'cifar10'\? .* cannot be imported here"):
        load("cifar1o", tmp_path)


def test_cifar10_without_its_archive_says_where_to_get_it(hidden, tmp_path):
    with pytest.raises(ValueError, match=rf"pip install tensorflow .*Download {cifar.URL}"):
        load("cifar10", tmp_path)
    prepared = tmp_path / "cifar10" / "3.0.2"
    prepared.mkdir(parents=True)
    (prepared / "dataset_info.json").write_text("{}")
    (tmp_path / "data_batch_1").write_bytes(b"")  # the author's own form is read where TensorFlow cannot read the other
    with pytest.raises(ValueError, match=r"batches\.meta"):
        load("cifar10", tmp_path)
