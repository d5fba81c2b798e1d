"""Five kinds of flowers on SqueezeNet 1.1: a probe of frozen, averaged fire9; then everything.

    python scripts/train.py --config configs/flowers_squeezenet.py --config.data_dir flower_photos

Measured with the Caffe weights (--config.weights=caffe --config.weights_path=squeezenet_v1.1.npy) and 550 images
(396 to train, 44 to validate, which then join the probe, 110 to test: one is 0.91 %) on 2 CPU cores, three seeds each.
Probe: 88.79 ± 0.52 %, log loss 0.444 ± 0.045; with fit = 'crop' 85.45 ± 1.57 %. Fine-tuned, at 288 pixels: 88.48 ± 2.93
%, log loss 0.333 ± 0.043. A plain probe outside jft: 86.4 %. Size, average and rates were each chosen by the log loss
of 132 images held out of the 440, not all together; at 224 pixels and without the average the test images had
given 85.15 ± 1.05 %, log loss 0.372 ± 0.025.
"""

from jft.config import default_config

PHASES = (
    {"name": "probe", "epochs": 30, "freeze": "fire9", "weight_decay": 0.3},
    {"name": "fine-tune", "epochs": 12, "freeze": "fire5", "weight_decay": 0.3, "learning_rate": 1e-3},
)


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
        ("fine-tuned", {"phases": PHASES, "image_size": 288, "ema": 0.98}),
    )
    return config
