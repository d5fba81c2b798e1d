"""The weights included in jft: vgg_tiny trained on digits 0 to 4 from scratch; 100 % of 180 test images.

python scripts/train.py --config configs/digits04.py
python scripts/weights.py convert runs/digits04 --model vgg_tiny \\
    --out jft/weights/packaged/vgg_tiny-digits04.safetensors
"""

from jft.config import default_config


def get_config():
    config = default_config()
    config.dataset = "digits"
    config.classes = ("0", "1", "2", "3", "4")
    config.model = "vgg_tiny"
    config.weights = ""
    config.image_size = 32
    config.flip = False
    config.crop_padding = 0.125
    config.batch_size = 32
    config.eval_batch_size = 128
    config.epochs = 40.0
    config.learning_rate = 2e-3
    config.weight_decay = 0.01
    config.schedule = "cosine"
    config.evaluate_every = 5.0
    return config
