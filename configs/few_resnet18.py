"""CIFAR-10 with 100 images of each class: logistic regression on ResNet-18's averaged layer3, all after it left out.

    python scripts/compare.py configs/few_resnet18.py --seeds 5 --config.data_dir=DIR

Measured with ImageNet weights that lack layer4's convolutions (--config.weights_path=FILE) and a tenth of CIFAR-10 on
2 CPU cores, test accuracy on 1,017 images over five seeds: 70.29 ± 1.21 %. Published for the whole of a ResNet, on
validation: 73.5 %.
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
