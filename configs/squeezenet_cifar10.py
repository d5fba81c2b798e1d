"""SqueezeNet 1.1 on CIFAR-10 resized to 224, frozen up to fire9: only the new head is trainable.

    python scripts/train.py --config configs/squeezenet_cifar10.py --config.data_dir DIR

The weights, torchvision's squeezenet1_1-b8a52dc0.pth (5 MB), are downloaded once, or found through
--config.weights_path.

Measured with the Caffe weights (--config.weights=caffe --config.weights_path=squeezenet_v1.1.npy) and a tenth of
CIFAR-10, the first 1,017 images of each official batch, on 2 CPU cores: 78.56 % of the 1,017 test images
(validation: 79.92 % of 508), in 11 min. Not run with the torchvision weights, nor on all 50,000 images. The head then
ended in the published ReLU, which new heads no longer have.
"""

from jft.config import default_config


def get_config():
    config = default_config()
    config.dataset = "cifar10"
    config.model = "squeezenet1_1"
    config.weights = "torchvision"
    config.freeze = "fire9"
    config.batch_size = 64
    config.epochs = 10.0
    config.optimizer = "adamw"
    config.learning_rate = 3e-3
    config.schedule = "cosine"
    return config
