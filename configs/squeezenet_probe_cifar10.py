"""SqueezeNet 1.1's averaged fire9 features and a logistic regression, fitted directly by L-BFGS, on CIFAR-10.

    python scripts/train.py --config configs/squeezenet_probe_cifar10.py --config.data_dir DIR

The regularization strength C is chosen on validation, then the head is refit on train + validation.

Measured with the Caffe weights (--config.weights=caffe --config.weights_path=squeezenet_v1.1.npy) and a tenth of
CIFAR-10, the first 1,017 images of each official batch, on 2 CPU cores: 78.76 % of the 1,017 test images
(validation: 79.13 % of 508). A plain probe outside jft: 78.8 %.
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
