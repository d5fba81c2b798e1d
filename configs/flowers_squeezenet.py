"""Five kinds of flowers on SqueezeNet 1.1: a probe of frozen, averaged fire9; then everything.

python scripts/train.py --config configs/flowers_squeezenet.py --config.data_dir flower_photos
"""

from jft.config import default_config


def get_config():
    config = default_config()
    config.dataset = "folder"
    config.model = "squeezenet1_1"
    config.weights = "torchvision"
    config.head = "linear"
    config.batch_size = 16
    config.optimizer = "sgd"
    config.learning_rate = 2e-3
    config.schedule = "cosine"
    config.arms = (
        ("probe", {"solver": "lbfgs", "flip": False}),
        ("fine-tuned", {"preset": "lp_ft", "epochs": 16.0}),
    )
    return config
