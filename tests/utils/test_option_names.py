"""A remedy names an option as the user gives it: a keyword in Python, a flag on the command line."""

import doctest

import pytest

import jft
from jft.utils import option_names


def test_examples():
    assert doctest.testmod(option_names) == (0, 2)
    with option_names.as_flags():
        assert option_names.option("fresh", "layer4 head") == "--fresh 'layer4 head'"


def test_the_same_error_in_python_and_on_the_command_line(command, tmp_path):
    (tmp_path / "mine.txt").write_text("not a run")
    is_no_run = f"{tmp_path} exists and is not a run (it has no config.json): give another"
    fields = {"dataset": "digits", "model": "vgg_tiny", "weights": "digits04", "image_size": 32}
    with pytest.raises(ValueError) as caught:
        jft.train(fields, workdir=tmp_path)
    assert str(caught.value) == f"{is_no_run} workdir."
    told = command("train", "digits", "--model", "vgg_tiny", "--workdir", tmp_path)
    assert told == (1, "", f"error: {is_no_run} --workdir.\n")
    assert option_names.option("workdir") == "workdir"
