"""Five kinds of flowers on the codes of VGG16's first fully connected layer: 4,096 numbers after ReLU.

    python scripts/train.py --config configs/flowers_vgg16.py --config.data_dir flower_photos

No figure was published. Not run with the official weights, which could not be fetched; see flowers_squeezenet.py for
the same path with others.
"""

from jft.config import default_config


def get_config():
    config = default_config()
    config.dataset = "folder"
    config.model = "vgg16"
    config.weights = "torchvision"
    config.cut = "fc6"
    config.freeze = "fc6"
    config.head = "linear"
    config.head_hidden = (256,)
    config.head_dropout = 0.5
    config.flip = False
    config.fit = "crop"
    config.crop = "center"
    config.batch_size = 64
    config.epochs = 30.0
    config.optimizer = "adam"
    return config
