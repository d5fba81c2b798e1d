"""Cats against dogs on SqueezeNet 1.1: one sigmoid unit on frozen, averaged fire9; and then everything, from there.

python scripts/train.py --config configs/cats_vs_dogs_squeezenet.py --config.data_dir PetImages
"""

from jft.config import default_config


def get_config():
    config = default_config()
    config.dataset = "folder"
    config.model = "squeezenet1_1"
    config.weights = "torchvision"
    config.loss = "sigmoid"
    config.head = "linear"
    config.fit = "crop"
    config.crop = "centre"
    config.batch_size = 16
    config.optimizer = "sgd"
    config.learning_rate = 2e-3
    config.schedule = "cosine"
    config.arms = (
        ("probe", {"solver": "lbfgs", "flip": False}),
        ("fine-tuned", {"preset": "lp_ft", "epochs": 12.0}),
    )
    return config
