"""What `jft train WHAT` trains: images by their place or name, a config file, a config of the package."""

import re
import shutil
from pathlib import Path

import pytest

from jft.cli import choose_config as lib
from jft.cli.choose_config import choose_config
from jft.data.detect import detect
from jft.weights import best, catalog

ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(monkeypatch):
    """The names of sets that are on this machine."""
    names = {"squeezenet1_1.torchvision", "resnet50.torchvision", "vgg_tiny.digits04", "resnet18.timm"}
    monkeypatch.setattr(best.hub, "is_here", lambda row: row.name in names)
    return names


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos" / "a").mkdir(parents=True)
    return str(tmp_path / "photos")


def test_images_take_the_best_weights_and_the_default_recipe(here, photos):
    name, config = choose_config(photos, None, {}, [])
    assert (name, config.dataset, config.data_dir, config.preset) == ("photos", "folder", photos, "fine_tune")
    assert (config.model, config.weights) == ("resnet50", "torchvision") and config.is_locked


@pytest.mark.parametrize(
    ("settings", "model", "weights", "preset"),
    [
        ({"model": "squeezenet1_1"}, "squeezenet1_1", "torchvision", "fine_tune"),
        ({"model": "resnet18"}, "resnet18", "timm", "fine_tune"),
        ({"weights": "timm"}, "resnet18", "timm", "fine_tune"),
        ({"model": "vgg16", "weights": "keras"}, "vgg16", "keras", "fine_tune"),  # which is downloaded
        ({"preset": "linear_probe"}, "resnet50", "torchvision", "linear_probe"),
        ({"freeze": "layer3"}, "resnet50", "torchvision", ""),
        ({"solver": "lbfgs"}, "resnet50", "torchvision", ""),
        ({"weights": "", "model": "cnn"}, "cnn", "", ""),
    ],
)
def test_flags_decide_first(here, photos, settings, model, weights, preset):
    _, config = choose_config(photos, None, settings, [])
    assert (config.model, config.weights, config.preset) == (model, weights, preset)


def test_few_images_are_not_held_out_for_good(here, tmp_path, monkeypatch):
    for split in ("train", "validation"):
        for label in ("a", "b"):
            (tmp_path / split / label).mkdir(parents=True)
            for number in range(3):
                (tmp_path / split / label / f"{number}.jpg").touch()
    images = str(tmp_path / "train")

    def chosen(where, **settings):
        config = choose_config(where, None, settings, [])[1]
        return config.validation, config.trained_folds

    assert chosen(images) == ("cv", 1)
    assert chosen(images, validation=0.2) == (0.2, 0) and chosen(images, preset="full") == (0.1, 0)
    assert chosen(str(tmp_path)) == (0.1, 0)  # which has validation images of its own
    table = tmp_path / "table.csv"
    rows = [f"{split}/{name}/{n}.jpg,1,{name}" for split in ("train", "validation") for name in "ab" for n in range(3)]
    table.write_text("\n".join(("file,group,kind", *rows)))
    assert chosen(str(table), label_column="kind", image_column="file") == ("cv", 1)
    monkeypatch.setattr(lib, "_FEW", 2)
    assert chosen(images) == (0.1, 0)


def test_without_weights_the_error_lists_what_to_fetch(here, photos):
    here &= {"vgg_tiny.digits04"}  # which knows digits alone
    with pytest.raises(ValueError, match=r"(?s)no pretrained weights .*jft weights fetch \w+.*--model NAME") as error:
        choose_config(photos, None, {}, [])
    assert f"`jft train {photos}`" in str(error.value)
    named = re.findall(r"jft weights fetch (\S+)", str(error.value))
    assert len(named) == 3 and {*named} <= {*catalog.CATALOG}
    with pytest.raises(ValueError, match="with images, write --model resnet18"):
        choose_config(photos, None, {}, ["--config.model=resnet18"])


def test_weight_files_in_a_folder(here, photos, tmp_path):
    for path, model, told in (
        (tmp_path, "", r"holds photos, and no published weights\. Files .* squeezenet1_1-b8a52dc0\.pth"),
        (tmp_path, "vgg16", r"no published weights of vgg16\. .* vgg16-397923af\.pth \(vgg16\.torchvision\)"),
        (tmp_path / "none", "", "none'?: there is no such file or folder"),
    ):
        with pytest.raises(ValueError, match=told):
            choose_config(photos, None, {"weights_path": str(path), "model": model}, [])
    (tmp_path / catalog.CATALOG["resnet34.torchvision"].filename).touch()
    _, config = choose_config(photos, None, {"weights_path": str(tmp_path)}, [])
    assert (config.model, config.weights_path) == ("resnet34", str(tmp_path))


def test_a_config_by_name_by_path_and_as_a_flag(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    file = str(ROOT / "configs" / "quickstart.py")
    for what, config_file in (("quickstart", None), (file, None), (None, file), (None, "configs/quickstart.py")):
        name, config = choose_config(what, config_file, {"batch_size": 8}, ["--config.steps=3"])
        assert (name, config.dataset, config.batch_size, config.steps) == ("quickstart", "digits", 8, 3)


def test_the_wheel_has_the_configs(monkeypatch, tmp_path):
    """Beside the code, where there is no checkout."""
    package = tmp_path / "jft"
    shutil.copytree(ROOT / "configs", package / "configs")
    monkeypatch.setattr(lib.jft, "__file__", str(package / "__init__.py"))
    assert lib.find_config("quickstart") == str(package / "configs" / "quickstart.py")
    text = (ROOT / "pyproject.toml").read_text()
    assert '[tool.hatch.build.targets.wheel.force-include]\n"configs" = "jft/configs"' in text


@pytest.mark.parametrize(
    ("what", "file", "fields", "message"),
    [
        (None, None, [], "neither images nor a config: give one"),
        ("photos", "x.py", [], r"both photos and --config x\.py"),
        ("nowhere", None, [], "there is no folder or file nowhere: give a folder with a folder for each class"),
        ("nowhere.py", None, [], r"there is no config file nowhere\.py: check the path\.$"),
        ("quickstrt", None, [], "Did you mean 'quickstart'"),
        (None, "nothing.py", [], r"there is no config file nothing\.py"),
        ("quickstrt", None, ["--config.learning_rate=1"], "Did you mean 'quickstart'"),
        ("digits", None, ["--config.learning_rate=1"], r"write --learning-rate 1\."),
    ],
)
def test_what_is_wrong_says_what_to_give(here, what, file, fields, message):
    with pytest.raises(ValueError, match=message):
        choose_config(what, file, {}, fields)


def test_kinds_of_images(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    for name in ("signs/GTSRB/Final_Training", "cifar/cifar-10-batches-py", "photos/dog"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "list.csv").touch()
    (tmp_path / "one.jpg").touch()
    kinds = {"signs": "gtsrb", "signs/GTSRB": "gtsrb", "cifar": "cifar10", "photos": "folder", "list.csv": "csv"}
    for name, kind in kinds.items():
        assert detect(str(tmp_path / name)) == {"dataset": kind, "data_dir": str(tmp_path / name)}
    assert detect("digits") == {"dataset": "digits", "data_dir": ""}
    assert detect("tfds:mnist") == {"dataset": "tfds:mnist", "data_dir": ""}
    (tmp_path / "tfds" / "mnist" / "3.0.1").mkdir(parents=True)
    (tmp_path / "tfds" / "mnist" / "3.0.1" / "dataset_info.json").touch()
    assert detect("mnist") == {"dataset": "mnist", "data_dir": ""}
    for absent in ("/absent/images", "../absent", "absent/../mnist"):
        with pytest.raises(ValueError, match=f"there is no folder or file {absent}"):
            detect(absent)
    with pytest.raises(ValueError, match=r"one\.jpg is a file but no list of images"):
        detect(str(tmp_path / "one.jpg"))
