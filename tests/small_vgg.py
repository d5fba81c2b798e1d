"""A run of seconds whose stages freeze, cache and normalize: digits, a VGG of three convolutions with BatchNorm."""

import functools
import itertools
import json
import re

import small_digits

from jft.config import default_config
from jft.models import MODELS
from jft.models.vgg import VGG

SMALL = functools.partial(VGG, convs=(1, 1, 1), widths=(8, 8, 8), hidden=16, grid=2, default_size=16, batch_norm=True)


def register():
    """Makes it a model of the zoo, in a process that does nothing else."""
    MODELS.register("small", SMALL)


def config_of(**changes):
    """200 images of five digits, by the small network, and what else is given."""
    config = default_config()
    config.update({"dataset": "digits", "classes": ("5", "6", "7", "8", "9"), "examples_per_class": 40})
    config.update({"model": "small", "weights": "", "flip": False, "batch_size": 16, "learning_rate": 1e-2})
    config.update({"evaluate_every": 1000.0, **changes})
    return config


def write_config(folder, **changes):
    """Writes `<folder>/config.py`, which gives that config."""
    small_digits.write_config(folder / "config.py", config_of(**changes))


def records(workdir):
    """Lines of the log about training and validation, but for what a clock measured."""
    measured = ("time", "images_per_second", "waiting", "seconds")
    lines = [line for line in small_digits.records(workdir) if line["kind"] in ("train", "validation")]
    return [{key: line[key] for key in line if key not in measured} for line in lines]


def saved_meta(workdir):
    """Meta of the newest checkpoint."""
    newest = max(int(path.name) for path in (workdir / "checkpoints").iterdir() if re.fullmatch(r"\d+", path.name))
    return json.loads((workdir / "checkpoints" / str(newest) / "meta" / "metadata").read_text())


def killing(function, number):
    """The function, whose call of that number is the last thing that is done."""
    calls = itertools.count(1)

    def call(*args):
        result = function(*args)
        if next(calls) == number:
            raise KeyboardInterrupt
        return result

    return call
