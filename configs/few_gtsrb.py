"""Traffic signs with 100 images of each of 43 classes: logistic regression on SqueezeNet 1.1's averaged fire9.

    python scripts/compare.py configs/few_gtsrb.py --seeds 5 --config.data_dir=GTSRB

Measured with the Caffe weights (--config.weights=caffe --config.weights_path=squeezenet_v1.1.npy), 100 images of each
class to train, of which a tenth chooses C and then joins, and 2,150 test images, on 2 CPU cores: whole images
75.21 % with each of five seeds, which only choose what validates; the signs alone 77.37 ± 0.05 %. A plain probe
outside jft, of whole images: 75.2 %. Published for VGG, Inception and ResNet, on validation: 86.7, 75.2 and 81.1 %.
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
        ("whole images", {"region_of_interest": False}),
        ("signs", {"region_of_interest": True}),
    )
    return config
