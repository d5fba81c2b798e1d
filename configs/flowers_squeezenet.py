"""Five kinds of flowers on SqueezeNet 1.1: a probe of frozen, averaged fire9; then everything.

    python scripts/train.py --config configs/flowers_squeezenet.py --config.data_dir flower_photos

Measured with the Caffe weights (--config.weights=caffe --config.weights_path=squeezenet_v1.1.npy) and 550 pictures
(396 to train, 44 to validate, which then join, 110 to test) on 2 CPU cores. Probe, three seeds: 88.79 ± 0.52 %; with
fit = 'crop' 85.45 ± 1.57 %. A plain probe outside jft: 86.4 %. Fine-tuned from the cropped pictures, one seed: 88.2
%, where its probe had 81.8 %.
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
