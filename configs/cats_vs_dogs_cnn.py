"""Cats against dogs from scratch: the plain CNN with one sigmoid unit, two epochs. Published: 69.8 % and 73.0 %.

python scripts/train.py --config configs/cats_vs_dogs_cnn.py --config.data_dir PetImages
"""

from jft.config import default_config


def get_config():
    config = default_config()
    config.dataset = "folder"
    config.model = "cnn"
    config.weights = ""
    config.loss = "sigmoid"
    config.batch_size = 32
    config.epochs = 2.0
    config.optimizer = "adam"
    config.learning_rate = 1e-3
    return config
