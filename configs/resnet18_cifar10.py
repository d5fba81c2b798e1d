"""ResNet-18 on CIFAR-10 resized to 224: layer4 and a new head learn, all before is frozen.

    python scripts/train.py --config configs/resnet18_cifar10.py --config.data_dir DIR

The weights, torchvision's resnet18-f37072fd.pth (45 MB), are downloaded once, or found through --config.weights_path.
"""

from jft.config import default_config


def get_config():
    config = default_config()
    config.dataset = "cifar10"
    config.model = "resnet18"
    config.weights = "torchvision"
    config.freeze = "layer3"
    config.batch_size = 64
    config.epochs = 6.0
    config.optimizer = "adamw"
    config.learning_rate = 1e-3
    config.weight_decay = 0.01
    config.schedule = "cosine"
    config.warmup_epochs = 0.5
    return config
