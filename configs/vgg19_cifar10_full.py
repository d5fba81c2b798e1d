"""VGG19 on CIFAR-10 resized to 224, every layer fine-tuned, gently: Adam 1e-5, batch 32, 5,000 images to validate.

    python scripts/train.py --config configs/vgg19_cifar10_full.py --config.data_dir DIR
    python scripts/evaluate.py runs/vgg19_cifar10_full

Not run with the official weights, which could not be fetched.
"""

from jft.config import default_config


def get_config():
    config = default_config()
    config.dataset = "cifar10"
    config.validation = 5000
    config.model = "vgg19"
    config.weights = "torchvision"
    config.batch_size = 32
    config.epochs = 10.0
    config.optimizer = "adam"
    config.learning_rate = 1e-5
    return config
