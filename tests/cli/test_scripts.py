"""The scripts as a user calls them: exit status, one line of error, and the quickstart."""

import json
import re
import subprocess
import sys
from pathlib import Path

import hasty
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("as_users", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["hastily", "as users"])
def test_quickstart_then_evaluate(tmp_path, one_device, command, as_users):
    """Compiled as all tests are, or as users compile it."""
    plain = {"XLA_FLAGS": "", "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"} if as_users else {}
    done = subprocess.run(
        [sys.executable, "scripts/train.py", "--config", "configs/quickstart.py", "--workdir", tmp_path, "--no_report"],
        cwd=ROOT,
        env={**hasty.environment(), **plain},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^(from scratch|frozen|fine-tuned) +([\d.]+)% +[\d.]+ +(\d+)$", done.stdout, re.M)
    assert [name for name, _, _ in rows] == ["from scratch", "frozen", "fine-tuned"]
    assert {count for _, _, count in rows} == {"179"}
    scratch, frozen, tuned = (float(accuracy) for _, accuracy, _ in rows)
    # What the README promises, with room for another CPU's rounding: transfer beats training from scratch.
    assert frozen > scratch and tuned > scratch and min(frozen, tuned) > 80
    status, printed, error = command("evaluate", tmp_path)
    assert status == 0, error
    arms = re.findall(r"^(from_scratch|frozen|fine-tuned) +([\d.]+)% +[\d.]+ +(\d+)$", printed, re.M)
    assert arms == [(name.replace(" ", "_"), accuracy, count) for name, accuracy, count in rows]
    status, printed, error = command("evaluate", tmp_path / "frozen")
    assert status == 0, error
    result = json.loads((tmp_path / "frozen" / "eval.json").read_text())
    assert f"top-1 {result['accuracy']:.2%}" in printed and f"{result['accuracy']:.1%}" == f"{frozen}%"
    assert result["count"] == 179 and list(result["per_class"]) == ["5", "6", "7", "8", "9"]


BAD = """from jft.config import default_config


def get_config():
    config = default_config()
    config.lerning_rate = 3.0
    return config
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--config", "BAD"), "unknown config field 'lerning_rate', did you mean 'learning_rate'?"),
        # The first arm trains from scratch and would do so without these weights.
        (("train", "--config", "configs/quickstart.py", "--config.weights=digits05"), "did you mean 'digits04'?"),
        (("train", "--config", "configs/quickstart.py", "--config.freeze=fc9"), "did you mean 'fc"),
        (("evaluate", "NOTHING"), "there is no folder NOTHING: give the folder that `jft train` wrote."),
    ],
)
def test_wrong_input_is_one_line(tmp_path, command, arguments, message):
    (tmp_path / "bad.py").write_text(BAD)
    places = {"BAD": tmp_path / "bad.py", "NOTHING": tmp_path / "nothing"}
    arguments = [places.get(argument, argument) for argument in arguments]
    if arguments[0] == "train":
        arguments += ["--workdir", tmp_path / "run"]
    status, _, error = command(*arguments)
    assert status == 1
    assert error.strip().splitlines()[-1].startswith("error: ")
    assert message.replace("NOTHING", str(tmp_path / "nothing")) in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()
