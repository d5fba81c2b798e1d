"""CIFAR-10 with 10, 25 and 100 images of each class: logistic regression on SqueezeNet 1.1's averaged fire9.

    python scripts/compare.py configs/few_squeezenet.py --seeds 5 --config.data_dir=DIR

Measured with the Caffe weights (--config.weights=caffe --config.weights_path=squeezenet_v1.1.npy) and a tenth of
CIFAR-10 on 2 CPU cores, test accuracy on 1,017 images over five seeds: 57.31 ± 2.05, 65.45 ± 1.53 and 73.10 ± 0.81
%, a second each once features are cached. A plain probe outside jft: 58.2 ± 1.8, 63.9 ± 0.7, 73.0 ± 0.8 %. Published
for 100 a class with VGG, Inception and ResNet, on validation: 72.4, 65.6 and 73.5 %; together with few_resnet18.py's
run of the same seed, probabilities averaged by scripts/evaluate.py: 76.14 ± 0.88 %.
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
