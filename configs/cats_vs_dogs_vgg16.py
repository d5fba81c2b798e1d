"""Cats against dogs on frozen VGG16: one sigmoid unit on fc7, 4,097 parameters, three epochs.

    python scripts/train.py --config configs/cats_vs_dogs_vgg16.py --config.data_dir PetImages

Published for three epochs, on validation: 97.6, 98.0, 98.3 %. Not run with the official weights, which could not be
fetched; see cats_vs_dogs_squeezenet.py for the same path with others.
"""

from jft.config import default_config


def get_config():
    config = default_config()
    config.dataset = "folder"
    config.model = "vgg16"
    config.weights = "torchvision"
    config.loss = "sigmoid"
    config.freeze = "fc7"
    config.flip = False
    config.fit = "crop"
    config.crop = "center"
    config.batch_size = 32
    config.epochs = 3.0
    config.optimizer = "adam"
    config.learning_rate = 1e-3
    return config
