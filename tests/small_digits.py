"""Runs of seconds: vgg_tiny, which knows the embedded digits 0 to 4, and a new head for three others."""

import contextlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jft.config import default_config
from jft.data import datasets
from jft.data.augment import Augmentation
from jft.models import abstract_variables
from jft.training import feature_cache, linear_probe
from jft.training.loop import train
from jft.training.run import create_run
from jft.training.state import initial_state
from jft.utils import checksum, tree
from jft.utils.interrupt import Interrupt


@contextlib.contextmanager
def quick():
    """One device, and what is not pretrained drawn by NumPy, for neither of which XLA compiles long."""

    def drawn(model, size, seed, *, head_init, only=None):
        del head_init, only
        rng, ones = np.random.default_rng(seed), ("scale", "var")

        def draw(name, leaf):
            if name.endswith("kernel"):
                deviation = (2 / np.prod(leaf.shape[:-1])) ** 0.5
                return jnp.asarray(deviation * rng.standard_normal(leaf.shape), leaf.dtype)
            return jnp.full(leaf.shape, name.endswith(ones), leaf.dtype)

        flat = tree.flatten(abstract_variables(model, size))
        return {"batch_stats": {}, **tree.unflatten({name: draw(name, leaf) for name, leaf in flat.items()})}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "devices", lambda *a: jax.local_devices()[:1])
        patch.setattr("jft.training.state.initialize", drawn)
        yield


def make(features, **changes):
    """326 images to train, 108 to validate, 109 to test; the head reads 64 numbers, kept in the folder `features`."""
    config = default_config()
    config.update({"dataset": "digits", "classes": ("5", "6", "7"), "validation": 0.25, "flip": False})
    config.update({"model": "vgg_tiny", "weights": "digits04", "image_size": 32, "freeze": "fc7"})
    config.update({"features_dir": str(features), "eval_batch_size": 128, **changes})
    return config


def write_config(path, config):
    """A config file that gives this config."""
    path.write_text(
        "from jft.config import default_config\n\n\ndef get_config():\n    config = default_config()\n"
        f"    config.update({config.to_dict()!r})\n    return config\n"
    )


def solved(folder):
    """Folder of a run whose head was solved for, in a second."""
    with quick():
        train(make(folder / "features", solver="ridge"), folder / "run")
    return folder / "run"


def examples(config, workdir):
    """Features at the boundary of a run's first phase, with labels: of its training, validation and test images."""
    run = create_run(config, workdir)
    state, _ = initial_state(run)
    parts = (
        (run.train_source, run.phases[0].augmentation),
        (run.validation_source, Augmentation()),
        (datasets.of_config(config, "test"), Augmentation()),
    )
    with Interrupt() as interrupt:
        return [
            linear_probe.examples(
                feature_cache.features_of(run, run.phases[0], state, source, how, interrupt), source.labels
            )
            for source, how in parts
        ]


def records(workdir, kind=None):
    """Lines of a run's log, of one kind or all."""
    lines = [checksum.removed(json.loads(line)) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if kind in (None, line["kind"])]
