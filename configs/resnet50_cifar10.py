"""ResNet-50 on CIFAR-10 resized to 224: layer4 and a new head are trainable, all stages before are frozen.

    python scripts/train.py --config configs/resnet50_cifar10.py --config.data_dir DIR

The weights, torchvision's resnet50-0676ba61.pth (98 MB), are downloaded once, or found through --config.weights_path.
Not run here: the weights could not be fetched. The same path ran with ResNet-18, see resnet18_cifar10.py.
"""

from jft.config import default_config


def get_config():
    config = default_config()
    config.dataset = "cifar10"
    config.model = "resnet50"
    config.weights = "torchvision"
    config.freeze = "layer3"
    config.batch_size = 64
    config.epochs = 10.0
    config.optimizer = "adamw"
    config.learning_rate = 3e-4
    config.weight_decay = 0.01
    config.schedule = "cosine"
    config.warmup_epochs = 1.0
    return config
