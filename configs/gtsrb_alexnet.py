"""German traffic signs, 43 classes, on AlexNet frozen up to fc7: only the head is trainable.

    python scripts/train.py --config configs/gtsrb_alexnet.py --config.data_dir GTSRB

Not run with the official weights, which could not be fetched; see gtsrb_squeezenet.py for the same path with others.
"""

from jft.config import default_config


def get_config():
    config = default_config()
    config.dataset = "gtsrb"
    config.model = "alexnet"
    config.weights = "torchvision"
    config.freeze = "fc7"
    config.flip = False
    config.batch_size = 64
    config.epochs = 10.0
    config.optimizer = "adam"
    config.learning_rate = 1e-3
    return config
