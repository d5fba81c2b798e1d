"""Every field of a config is a flag: it shows in help with its meaning, and its values are read."""

import argparse

import pytest

from jft.cli import field_flags, main
from jft.config import default_config
from jft.utils.fields import FIELDS, GROUPS


def parsed(*argv):
    parser = main.Parser(prog="jft train")
    parser.add_argument("what", nargs="?")
    field_flags.add(parser)
    left, dotted = field_flags.separate(argv)
    args = parser.parse_args(left)
    return args.what, args.settings, dotted


def test_help_shows_every_field_by_group(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    parser = main.Parser(prog="jft train")
    field_flags.add(parser)
    text = " ".join(parser.format_help().split())
    for title in GROUPS:
        assert f"config fields: {title}:" in text
    for field in FIELDS.values():
        assert field_flags.flag(field.name) in text and f"{field.doc}; default: " in text
    assert "usage: jft train [-h] [--FIELD VALUE ...]" in text


@pytest.mark.parametrize(
    ("argv", "field", "value"),
    [
        (("--learning-rate", "0.01"), "learning_rate", 0.01),
        (("--learning_rate=0.01",), "learning_rate", 0.01),
        (("--steps", "1e3"), "steps", 1000),
        (("--flip",), "flip", True),
        (("--no-flip",), "flip", False),
        (("--no-skip-unreadable",), "skip_unreadable", False),
        (("--flip", "no"), "flip", False),
        (("--flip=off",), "flip", False),
        (("--cache-features", "auto"), "cache_features", "auto"),
        (("--cache-features", "false"), "cache_features", False),
        (("--accumulate", "4"), "accumulate", 4),
        (("--accumulate", "auto"), "accumulate", "auto"),
        (("--classes", "dog,big cat"), "classes", ("dog", "big cat")),
        (("--classes", "5,6"), "classes", ("5", "6")),
        (("--classes", "('a,b', 'c')"), "classes", ("a,b", "c")),
        (("--classes", ""), "classes", ()),
        (
            ("--augment", "color_jitter(0.2, hue=0.1),vertical_flip"),
            "augment",
            ("color_jitter(0.2, hue=0.1)", "vertical_flip"),
        ),
        (("--head-hidden", "256,64"), "head_hidden", (256, 64)),
        (("--class-weights", "0.5,1"), "class_weights", (0.5, 1)),
        (("--phases", "({'steps': 3, 'freeze': 'fc7'},)"), "phases", ({"steps": 3, "freeze": "fc7"},)),
        (("--mesh", "data=2,fsdp=4"), "mesh", {"data": 2, "fsdp": 4}),
        (("--weights", ""), "weights", ""),
        (("--data-dir", "a=b"), "data_dir", "a=b"),
    ],
)
def test_values(argv, field, value):
    what, settings, dotted = parsed(*argv, "photos")
    assert (what, settings, dotted) == ("photos", {field: value}, [])
    assert type(settings[field]) is type(value)
    config = default_config()
    field_flags.apply(config, settings)
    assert config.to_dict()[field] == value and config.is_locked


@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if field.default != ""])
def test_a_default_is_read_as_itself(name):
    default = FIELDS[name].default
    text = ",".join(f"{key}={value}" for key, value in default.items()) if name == "mesh" else str(default)
    assert field_flags.parse(FIELDS[name], text) == default


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--learning-rate", "many"), "--learning-rate 'many': give a number, such as 0.001"),
        (("--steps", "2.5"), "--steps '2.5': give a whole number, such as 0"),
        (("--steps", "inf"), "--steps 'inf': give a whole number"),
        (("--fit", "all"), "--fit 'all': choose 'whole', 'crop'"),
        (("--flip=maybe",), "--flip 'maybe': give true or false, such as True"),
        (("--accumulate", "some"), "--accumulate 'some': give 'auto' or a whole number, such as 1"),
        (("--mesh", "rows=2"), "--mesh 'rows=2': give KEY=N with commas between them, such as data=-1,fsdp=1"),
        (("--phases", "head"), "--phases 'head': give values with commas between them"),
    ],
)
def test_a_wrong_value_names_field_value_and_remedy(capsys, argv, message):
    with pytest.raises(SystemExit):
        parsed(*argv)
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_settings_of_before_are_left_as_they_are():
    argv = ("--config.data_dir", "DIR", "--config.flip", "photos", "--config.steps=3", "--noconfig.flip", "--seed", "1")
    what, settings, dotted = parsed(*argv)
    assert (what, settings) == ("photos", {"seed": 1})
    assert dotted == ["--config.data_dir=DIR", "--config.flip", "--config.steps=3", "--noconfig.flip"]


def test_what_the_command_has_itself_is_left_to_it():
    parser = main.Parser(prog="jft suggest")
    parser.add_argument("--batch-size", type=int)
    field_flags.add(parser, skip=("batch_size",))
    assert parser.parse_args(["--batch_size", "3"]) == argparse.Namespace(batch_size=3, settings={})
