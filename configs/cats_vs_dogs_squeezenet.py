"""Cats against dogs on SqueezeNet 1.1: one sigmoid unit on frozen, averaged fire9; and then everything, from there.

    python scripts/train.py --config configs/cats_vs_dogs_squeezenet.py --config.data_dir PetImages

Measured with the Caffe weights (--config.weights=caffe --config.weights_path=squeezenet_v1.1.npy) and 600 images
(432 to train, 48 to validate, which then join the probe, 120 to test: one is 0.83 %) on 2 CPU cores, three seeds each.
Probe: 96.67 ± 0.83 %, log loss 0.089 ± 0.023; ridge in its place 97.50, 97.50 and 95.00 %. Fine-tuned: 97.78 ± 0.48 %,
log loss 0.052 ± 0.017. A plain probe outside jft: 97.5 %. The recipe was chosen by the log loss of 144 images held
out of the 480. Published for VGG16 on 25,000: see cats_vs_dogs_vgg16.py.
"""

from jft.config import default_config

PHASES = (
    {"name": "probe", "epochs": 30, "freeze": "fire9", "weight_decay": 0.03},
    {"name": "fine-tune", "epochs": 8, "freeze": "fire5", "weight_decay": 0.03, "learning_rate": 3e-4},
)


def get_config():
    config = default_config()
    config.dataset = "folder"
    config.model = "squeezenet1_1"
    config.weights = "torchvision"
    config.loss = "sigmoid"
    config.head = "linear"
    config.fit = "crop"
    config.crop = "center"
    config.batch_size = 16
    config.optimizer = "sgd"
    config.learning_rate = 2e-3
    config.schedule = "cosine"
    config.arms = (
        ("probe", {"solver": "lbfgs", "flip": False}),
        ("fine-tuned", {"phases": PHASES}),
    )
    return config
