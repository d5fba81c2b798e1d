"""VGG16 on CIFAR-10 with its first ten Keras layers frozen, that is up to block3: SGD with inverse-time decay.

    python scripts/train.py --config configs/vgg16_cifar10_finetune.py --config.data_dir DIR

The log loss on validation is the `loss` of the run's validation lines. No figure was published. Not run with the
official weights, which could not be fetched.
"""

from jft.config import default_config


def get_config():
    config = default_config()
    config.dataset = "cifar10"
    config.model = "vgg16"
    config.weights = "keras"
    config.freeze = "block3"
    config.batch_size = 16
    config.epochs = 10.0
    config.optimizer = "sgd"
    config.momentum = 0.9
    config.learning_rate = 1e-3
    config.schedule = "inverse_time"
    config.rate_decay = 1e-6
    return config
