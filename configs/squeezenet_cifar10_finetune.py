"""SqueezeNet 1.1 on CIFAR-10 resized to 224, everything fine-tuned.

    python scripts/train.py --config configs/squeezenet_cifar10_finetune.py --config.data_dir DIR

Measured with the Caffe weights (--config.weights=caffe --config.weights_path=squeezenet_v1.1.npy) and a tenth of
CIFAR-10, the first 1,017 images of each official batch, on 2 CPU cores: 85.64 % of the 1,017 test images
(validation: 85.04 % of 508), in 17 min. Not run with the torchvision weights, nor on all 50,000 images. The head then
ended in the published ReLU, which new heads no longer have.

Nesterov momentum, not Adam: SqueezeNet has no BatchNorm, and after one epoch AdamW at 1e-4 and 3e-4 stood at 67 and
61 % on validation, this at 75 %.
"""

from jft.config import default_config


def get_config():
    config = default_config()
    config.dataset = "cifar10"
    config.model = "squeezenet1_1"
    config.weights = "torchvision"
    config.batch_size = 32
    config.epochs = 8.0
    config.optimizer = "sgd"
    config.learning_rate = 1e-3
    config.schedule = "cosine"
    return config
