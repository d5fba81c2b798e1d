"""CIFAR-10 with 100 pictures of each class: logistic regression on ResNet-18's averaged layer3, all after it left out.

python scripts/compare.py configs/few_resnet18.py --seeds 5 --set data_dir=DIR
"""

from jft.config import default_config


def get_config():
    config = default_config()
    config.dataset = "cifar10"
    config.model = "resnet18"
    config.weights = "torchvision"
    config.cut = "layer3"
    config.head = "linear"
    config.examples_per_class = 100
    config.flip = False
    config.solver = "lbfgs"
    return config
