"""Transfer in a minute, offline: a network that knows the digits 0 to 4 learns 5 to 9 from ten images of each.

    python scripts/train.py --config configs/quickstart.py

vgg_tiny, which jft trained on 0 to 4 (configs/digits04.py) and carries in the package, takes sixty steps on the same
fifty images of the embedded digits three times, and is tested on the same 179: from scratch; with the first two
blocks frozen; with everything fine-tuned. fc6 and fc7 start anew in all three.
Measured on 2 CPU cores, 59 s in all: 80.4 %, 94.4 % and 92.7 %.
"""

from jft.config import default_config


def get_config():
    config = default_config()
    config.dataset = "digits"
    config.classes = ("5", "6", "7", "8", "9")
    config.examples_per_class = 10
    config.model = "vgg_tiny"
    config.weights = "digits04"
    config.fresh = "fc6 fc7"
    config.image_size = 32
    config.flip = False
    config.crop_padding = 0.125
    config.steps = 60
    config.learning_rate = 4e-3
    config.schedule = "cosine"
    config.evaluate_every = 20.0
    config.eval_batch_size = 128
    config.arms = (
        ("from scratch", {"weights": ""}),
        ("frozen", {"freeze": "block2"}),
        ("fine-tuned", {}),
    )
    return config
