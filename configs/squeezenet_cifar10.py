"""SqueezeNet 1.1 on CIFAR-10 resized to 224, frozen up to fire9: only the new head learns.

    python scripts/train.py --config configs/squeezenet_cifar10.py --config.data_dir DIR

The weights, torchvision's squeezenet1_1-b8a52dc0.pth (5 MB), are downloaded once, or found through
--config.weights_path.
"""

from jft.config import default_config


def get_config():
    config = default_config()
    config.dataset = "cifar10"
    config.model = "squeezenet1_1"
    config.weights = "torchvision"
    config.freeze = "fire9"
    config.batch_size = 64
    config.epochs = 10.0
    config.optimizer = "adamw"
    config.learning_rate = 3e-3
    config.schedule = "cosine"
    return config
