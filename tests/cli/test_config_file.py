"""Config files, of Python and of a run, with fields set on top of them; what is wrong is one line."""

import json

import pytest
import small_digits
from ml_collections import ConfigDict

from jft.cli.config_file import read_config
from jft.config import as_json, default_config, difference
from jft.training.run import create_run

FILE = """from jft.config import default_config


def get_config():
    config = default_config()
    config.weights = ""
    return config
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "config.py").write_text(FILE)
    return tmp_path / "config.py"


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("accumulate=auto", "auto"),
        ("accumulate=4", 4),
        ("cache_features=auto", "auto"),
        ("cache_features=True", True),
        ("cache_features=False", False),
        ("data_dir=a=b", "a=b"),
        ("data_dir=True", "True"),
        ("weights=torchvision", "torchvision"),
        ("epochs=3", 3.0),
        ("steps=7", 7),
        ("steps=1e3", 1000),
        ("flip=False", False),
        ("flip", True),
        ("weights=", ""),
        ("classes=dog", ("dog",)),
        ("classes=()", ()),
        ("classes=('5', '6')", ("5", "6")),
        ("class_weights=[0.1, 1]", (0.1, 1)),
        ("phases=({'steps': 3, 'freeze': 'fc7'},)", ({"steps": 3, "freeze": "fc7"},)),
    ],
)
def test_fields_set_on_the_command_line(file, change, value):
    found = read_config(str(file), ["--config.log_every=5", f"--config.{change}"])
    got = found.to_dict()[change.partition("=")[0]]
    assert got == value and type(got) is type(value)
    assert found.log_every == 5 and found.is_locked


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("learning_rat=1", "unknown config field 'learning_rat', did you mean 'learning_rate'"),
        ("nosuch=1", r"unknown config field 'nosuch': jft/config\.py lists the fields\.$"),
        ("flip=maybe", "flip=maybe: .*Non-boolean"),
        ("steps=many", "steps=many: invalid literal for int"),
        ("steps=2.5", r"steps=2\.5: invalid literal for int"),
    ],
)
def test_wrong_fields_on_the_command_line(file, change, message):
    with pytest.raises(ValueError, match=message):
        read_config(str(file), [f"--config.{change}"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("config.steps = 2.5", "line 6: steps = 2.5: give a whole number, as 0"),
        ("config.weight = 1", "line 6: unknown config field 'weight', did you mean 'weights'?"),
        ("config.steps = = 3", "line 6: SyntaxError: invalid syntax"),
        ("config.steps = stpes", "line 6: NameError: name 'stpes' is not defined"),
        ("import notthere", "line 6: ModuleNotFoundError: No module named 'notthere'"),
        ("return", r"config\.py: get_config\(\) returns nothing: end it with `return config`"),
        ("return {}", r"config\.py: get_config\(\) returns dict: end it"),
        (
            "return type(config)()",
            r"config\.py: the config has no accept_license, accumulate, arms, .*: begin with default",
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line_that_names_it(file, line, message):
    file.write_text(FILE.replace('config.weights = ""', line))
    with pytest.raises(ValueError, match=message) as error:
        read_config(file)
    assert str(error.value).startswith(str(file)) and "\n" not in str(error.value)


def test_a_file_without_get_config(file):
    file.write_text("config = 3\n")
    with pytest.raises(ValueError, match=r"config\.py: there is no get_config\(\): define it"):
        read_config(file)


def test_get_config_may_take_an_argument(file):
    file.write_text(FILE.replace("get_config()", "get_config(name)").replace('weights = ""', "model = name"))
    assert read_config(f"{file}:vgg16").model == "vgg16"


def test_no_file():
    with pytest.raises(ValueError, match=r"there is no config file nothing\.py"):
        read_config("nothing.py")


def rich(folder):
    """A config in which everything that JSON has not is other than by default: tuples, in one another, and a mesh."""
    return small_digits.make(
        folder / "features",
        phases=(
            {"name": "head", "steps": 2, "freeze": "fc7", "learning_rate": 1e-2},
            {"name": "all", "epochs": 1.5, "freeze": "", "layer_decay": 0.7, "schedule": "step", "step_epochs": (1, 2)},
        ),
        arms=(("one", {"learning_rate": 1e-3, "classes": ("5", "6")}), ("two", {"seed": 3})),
        mesh=ConfigDict({"data": 1, "fsdp": 1}),
        class_weights=(1.0, 2.0, 0.5),
        step_epochs=(1, 2),
        cache_features=False,
        validation=0.2,
    )


@pytest.fixture
def written(tmp_path):
    """A config and the config.json of a run of it."""
    config = rich(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(as_json(config), indent=2))
    return config, str(tmp_path / "config.json")


def test_a_run_s_config_comes_back(written, tmp_path):
    config, path = written
    found = read_config(path, [])
    assert as_json(found) == as_json(config) and difference(as_json(found), as_json(config)) == []
    assert {key: type(value) for key, value in found.items()} == {key: type(value) for key, value in config.items()}
    assert found.is_locked and found.mesh.to_dict() == {"data": 1, "fsdp": 1}
    assert [name for name, _ in found.arms] == ["one", "two"] and found.arms[0][1]["classes"] == ["5", "6"]
    # The run that it makes is the run that it was.
    with small_digits.quick():
        again, before = (create_run(each, tmp_path / "run") for each in (found, config))
    assert again.identity() == before.identity()
    assert [(p.name, p.first, p.last) for p in again.phases] == [(p.name, p.first, p.last) for p in before.phases]
    assert [p.plan.frozen for p in again.phases] == [p.plan.frozen for p in before.phases]
    assert [float(p.schedule(5)) for p in again.phases] == [float(p.schedule(5)) for p in before.phases]


@pytest.mark.parametrize("kind", ["py", "json"])
def test_fields_on_top(written, file, kind):
    config, path = written
    fields = [
        *("--config.learning_rate=0.5", "--config.classes=('6', '7')", "--config.mesh.fsdp=2", "--config.seed=7"),
        *("--config.data_dir=a b=c", "--config.flip=True", "--config.steps=3"),
    ]
    found = read_config(path if kind == "json" else str(file), fields)
    assert (found.learning_rate, found.classes, found.seed, found.data_dir) == (0.5, ("6", "7"), 7, "a b=c")
    assert (found.flip, found.steps, found.mesh.fsdp, found.mesh.data) == (True, 3, 2, 1 if kind == "json" else -1)
    assert found.model == (config.model if kind == "json" else "vgg19")
    assert found.weights == ("digits04" if kind == "json" else "")
    assert default_config().seed == 0 and read_config(path, []).seed == 0  # nothing stays from one to the next


@pytest.mark.parametrize("kind", ["py", "json"])
@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("--config.learning_rat=1", "unknown config field 'learning_rat', did you mean 'learning_rate'"),
        ("--config.steps=many", "steps"),
        ("--config.mesh.fdsp=2", "fdsp"),
        ("--learning_rate=1", "learning_rate"),
        ("learning_rate=1", r"unexpected arguments \['learning_rate=1'\]; fields of the config are set by --config"),
    ],
)
def test_wrong_fields_on_top(written, file, kind, field, message):
    with pytest.raises(ValueError, match=message) as error:
        read_config(written[1] if kind == "json" else str(file), [field])
    assert "\n" not in str(error.value).strip()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"model": "vgg19",', r"config\.json is damaged \(.*\): give the config\.json of a run"),
        ("", r"config\.json is damaged"),
        (b"\xff\xfe{", r"config\.json is damaged"),
        ('["model"]', r"config\.json: it is \['model'\], where an object is expected; give the config\.json of a run"),
        ('{"modle": "vgg19"}', "unknown config field 'modle', did you mean 'model'"),
        ('{"steps": "many"}', "steps"),
        ('{"mesh": 3}', r"config\.json: mesh is 3, where an object is expected"),
        ('{"classes": null}', r"config\.json: classes is None, where a list is expected"),
    ],
)
def test_a_damaged_config_is_one_line(tmp_path, text, message, command):
    path = tmp_path / "config.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message) as error:
        read_config(str(path), [])
    assert "\n" not in str(error.value).strip()
    status, printed, error = command("train", "--config", path, "--workdir", tmp_path / "run")
    assert (status, printed, error.count("\n")) == (1, "", 1) and error.startswith("error: ")
    assert not (tmp_path / "run").exists()
