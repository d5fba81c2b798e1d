"""CIFAR-10 with 10, 25 and 100 pictures of each class: logistic regression on SqueezeNet 1.1's averaged fire9.

python scripts/compare.py configs/few_squeezenet.py --seeds 5 --set data_dir=DIR
"""

from jft.config import default_config


def get_config():
    config = default_config()
    config.dataset = "cifar10"
    config.model = "squeezenet1_1"
    config.weights = "torchvision"
    config.head = "linear"
    config.flip = False
    config.solver = "lbfgs"
    config.arms = (
        ("10 a class", {"examples_per_class": 10}),
        ("25 a class", {"examples_per_class": 25}),
        ("100 a class", {"examples_per_class": 100}),
    )
    return config
