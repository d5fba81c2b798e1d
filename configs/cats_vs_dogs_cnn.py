"""Cats against dogs from scratch: the plain CNN with one sigmoid unit, two epochs.

    python scripts/train.py --config configs/cats_vs_dogs_cnn.py --config.data_dir PetImages

Published: 69.8 and 73.0 % on validation after the first and second epoch, with 25,000 images. Measured with 600
(432 to train, 48 to validate, 120 to test): two epochs are 27 steps, which teach it nothing, 48.3 % of the test
images at a log loss of 0.694. Pretrained features reach 97 % on the same images, see cats_vs_dogs_squeezenet.py.
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
