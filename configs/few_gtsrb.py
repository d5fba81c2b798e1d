"""Traffic signs with 100 pictures of each of 43 classes: logistic regression on SqueezeNet 1.1's averaged fire9.

python scripts/compare.py configs/few_gtsrb.py --seeds 5 --set data_dir=GTSRB
"""

from jft.config import default_config


def get_config():
    config = default_config()
    config.dataset = "gtsrb"
    config.model = "squeezenet1_1"
    config.weights = "torchvision"
    config.head = "linear"
    config.flip = False
    config.solver = "lbfgs"
    config.arms = (
        ("whole pictures", {"region_of_interest": False}),
        ("signs", {"region_of_interest": True}),
    )
    return config
