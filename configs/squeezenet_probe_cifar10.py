"""SqueezeNet 1.1's averaged fire9 features and a logistic regression, solved for at once by L-BFGS, on CIFAR-10.

    python scripts/train.py --config configs/squeezenet_probe_cifar10.py --config.data_dir DIR

The strength of regularisation is chosen on validation, then the head is solved for again with validation joined.
"""

from jft.config import default_config


def get_config():
    config = default_config()
    config.dataset = "cifar10"
    config.model = "squeezenet1_1"
    config.weights = "torchvision"
    config.flip = False
    config.head = "linear"
    config.solver = "lbfgs"
    return config
