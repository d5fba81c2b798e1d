"""Cats against dogs on SqueezeNet 1.1: one sigmoid unit on frozen, averaged fire9; and then everything, from there.

    python scripts/train.py --config configs/cats_vs_dogs_squeezenet.py --config.data_dir PetImages

Measured with the Caffe weights (--config.weights=caffe --config.weights_path=squeezenet_v1.1.npy) and 600 pictures
(432 to train, 48 to validate, which then join the probe, 120 to test) on 2 CPU cores. Probe, three seeds: 96.67 ±
0.83 %, where one picture is 0.83 %; ridge in its place 97.50, 97.50 and 95.00 %. Fine-tuned, two seeds: 97.50 and
96.67 % at a log loss of 0.056 and 0.085, no better than a plain probe outside jft: 97.5 %. Published for VGG16 on
25,000: see cats_vs_dogs_vgg16.py.
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
