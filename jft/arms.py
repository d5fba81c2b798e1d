"""Arms: one experiment trained in several ways and tested on the same pictures, side by side."""

import copy
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jft import distributed, tree
from jft.config import validate
from jft.evaluate import evaluate
from jft.metrics import score
from jft.train import checked_run, train


def train_arms(config: ConfigDict, workdir: str | Path) -> int:
    """Trains the config, or each of its arms in `<workdir>/<arm>` and then tests them all.

    Args:
      config: from a config file; `config.arms` is ((name, {field: value}), ...).
      workdir: folder of the run, or of the arms' runs.

    Returns:
      Exit status: 0, or 128 + n if signal n stopped it; the same call then goes on.
    """
    if not config.arms:
        result = train(config, workdir)
        return 0 if result["finished"] else 128 + result["signal"]
    runs = {name: Path(workdir) / name.replace(" ", "_") for name, _ in config.arms}
    configs = {name: arm_config(config, name, changes) for name, changes in config.arms}
    for name, arm in configs.items():  # what is wrong with any arm is said before the first one is trained
        checked_run(arm, runs[name])
    for name, arm in configs.items():
        distributed.say(f"\n== {name}")
        result = train(arm, runs[name])
        if not result["finished"]:
            return 128 + result["signal"]
    results = {name: evaluate(run) for name, run in runs.items()}
    rate = "mean AP" if any("mean_average_precision" in tested for tested in results.values()) else "top-1"
    distributed.say(f"\n{'on the test pictures':<24}{rate:>8}{'loss':>9}{'pictures':>10}")
    for name, tested in results.items():
        distributed.say(f"{name:<24}{score(tested):>8.1%}{tested['loss']:>9.3f}{tested['count']:>10,}")
    distributed.say(f"\nEach is a run of its own: python scripts/evaluate.py --checkpoint {runs[name]}")
    return 0


def arm_config(config: ConfigDict, name: str, changes: dict[str, Any]) -> ConfigDict:
    """The config of one arm: the common one with some fields changed; ValueError for a field or value that is wrong."""
    arm = copy.deepcopy(config)
    for field, value in {**changes, "arms": ()}.items():
        tree.choose(config.to_dict(), field, what=f"field of arm {name!r}")
        arm[field] = value
    validate(arm)
    return arm
