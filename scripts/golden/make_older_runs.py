"""The config of older_runs.tar.xz: trained by the last commit before modules moved into rooms (f085d04), twice.

    python scripts/train.py --config make_older_runs.py --workdir finished
    python scripts/train.py --config make_older_runs.py --workdir interrupted  # killed after checkpoint 4

Spelled as that version did; reports and TensorBoard files are left out.
"""

from ml_collections import ConfigDict

from jft.config import default_config


def get_config() -> ConfigDict:
    """Twelve steps of a linear head on frozen features."""
    config = default_config()
    config.dataset, config.classes = "digits", ("0", "1", "2")
    config.model, config.weights, config.image_size = "vgg_tiny", "digits04", 32
    config.cut, config.head, config.freeze = "block1", "linear", "block1"
    config.fit, config.crop, config.regularisation = "crop", "centre", ()
    config.steps, config.batch_size, config.examples_per_class = 12, 8, 8
    config.cache_features, config.optimizer, config.ema = False, "sgd", 0.9
    config.evaluate_every, config.checkpoint_every, config.keep_last = 1.0, 2, 1
    return config
