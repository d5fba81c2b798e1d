"""ResNet-18 on CIFAR-10 resized to 224: layer4 and a new head are trainable, all stages before are frozen.

    python scripts/train.py --config configs/resnet18_cifar10.py --config.data_dir DIR

The weights, torchvision's resnet18-f37072fd.pth (45 MB), are downloaded once, or found through --config.weights_path.

Measured with ImageNet weights that lack layer4's convolutions (--config.fresh=layer4 --config.epochs=5) and a tenth of
CIFAR-10, the first 1,017 images of each official batch, on 2 CPU cores: 86.43 % of the 1,017 test images
(95 % interval 84.27 to 88.33; validation: 86.61 % of 508), in 5 min.
Not run with the whole torchvision file, nor on all 50,000 images.
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
