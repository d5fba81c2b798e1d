"""Bottleneck features: a head on frozen VGG, Inception and ResNet, 100 images of each German traffic sign, 50 epochs.

    python scripts/compare.py configs/bottleneck_gtsrb.py --seeds 5 --config.data_dir=GTSRB

Published, on validation: 86.7, 75.2 and 81.1 %. Not run with the official weights, which could not be fetched; see
few_gtsrb.py and gtsrb_squeezenet.py for another network.
"""

from jft.config import default_config


def get_config():
    config = default_config()
    config.dataset = "gtsrb"
    config.examples_per_class = 100
    config.flip = False
    config.batch_size = 64
    config.epochs = 50.0
    config.optimizer = "adam"
    config.learning_rate = 1e-3
    config.arms = (
        ("VGG", {"model": "vgg16", "freeze": "fc7"}),
        ("Inception", {"model": "inception_v3", "freeze": "mixed_7c"}),
        ("ResNet", {"model": "resnet50", "freeze": "layer4"}),
    )
    return config
