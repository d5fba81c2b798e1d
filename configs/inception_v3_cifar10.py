"""Inception-V3 on CIFAR-10 resized to 299 with a new head, everything fine-tuned: SGD with inverse-time decay.

    python scripts/train.py --config configs/inception_v3_cifar10.py --config.data_dir DIR
    python scripts/evaluate.py --split validation \\
        runs/inception_v3_cifar10 runs/vgg16_cifar10_finetune

The second command averages the probabilities of both runs: an ensemble, by accuracy and log loss. No figure was
published. Not run with the official weights, which could not be fetched.
"""

from jft.config import default_config


def get_config():
    config = default_config()
    config.dataset = "cifar10"
    config.model = "inception_v3"
    config.weights = "keras"
    config.batch_size = 16
    config.epochs = 10.0
    config.optimizer = "sgd"
    config.momentum = 0.9
    config.learning_rate = 1e-3
    config.schedule = "inverse_time"
    config.rate_decay = 1e-6
    return config
