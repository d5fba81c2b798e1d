"""The examples of docs/extending.md run as they stand, and its tables name what there is."""

import importlib
import pathlib
import re

import pytest
import small_digits

from jft.models import MODELS
from jft.training import own

PAGE = (pathlib.Path(__file__).parents[2] / "docs/extending.md").read_text()


@pytest.mark.slow
def test_the_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(MODELS, "_rows", dict(MODELS))  # an example registers a model
    with small_digits.quick():
        exec("\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)), {"__name__": "examples"})
    assert len([*tmp_path.glob("runs/*/config.json")]) == 9


def test_the_tables_are_whole():
    assert {*re.findall(r"^\| `(\w+)` \| (?:`\(|a subclass)", PAGE, re.MULTILINE)} == {*own.FIELDS, "dataset", "model"}
    rows = re.findall(r"^\| \w+ \| `jft/(\w+)/(\w+)\.py` \| `(\w+)` \|", PAGE, re.MULTILINE)
    assert len(rows) == 6
    for room, module, table in rows:
        assert getattr(importlib.import_module(f"jft.{room}.{module}"), table)
