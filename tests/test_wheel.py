"""The wheel holds what the package reads: code, data files, and the configs by their names."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_wheel_has_every_file_of_the_package():
    builders = pytest.importorskip("hatchling.builders.wheel", reason="hatchling, which builds the wheel, is missing")
    files = {file.distribution_path for file in builders.WheelBuilder(str(ROOT)).recurse_included_files()}
    package = {path for path in ROOT.glob("jft/**/*") if path.is_file() and "__pycache__" not in path.parts}
    configs = {path for path in ROOT.glob("configs/*.py")}
    assert len(package) > 500 and len(configs) > 20
    expected = {str(path.relative_to(ROOT)) for path in package} | {f"jft/configs/{path.name}" for path in configs}
    assert expected <= files
    assert {Path(name).parts[0] for name in files} == {"jft"}
