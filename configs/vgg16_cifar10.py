"""VGG16 on CIFAR-10 resized to 224, frozen up to fc7: only the new head is trainable.

    python scripts/train.py --config configs/vgg16_cifar10.py --config.data_dir DIR

DIR holds cifar-10-python.tar.gz or its folder; without it TensorFlow Datasets downloads the set. The weights,
torchvision's vgg16-397923af.pth (528 MB), are downloaded once, or found through --config.weights_path.

Not run here: the weights could not be fetched. The same path ran with VGG19, see vgg19_cifar10.py.
"""

from jft.config import default_config


def get_config():
    config = default_config()
    config.dataset = "cifar10"
    config.model = "vgg16"
    config.weights = "torchvision"
    config.freeze = "fc7"
    config.batch_size = 32
    config.epochs = 10.0
    config.optimizer = "adamw"
    config.learning_rate = 1e-3
    config.schedule = "cosine"
    return config
