"""German traffic signs, 43 classes, on SqueezeNet 1.1: a probe of frozen, averaged fire9; then everything.

    python scripts/train.py --config configs/gtsrb_squeezenet.py --config.data_dir GTSRB

Whole images, as the figure that it is compared with has them. Signs are never mirrored: left and right would swap.

Measured with the Caffe weights (--config.weights=caffe --config.weights_path=squeezenet_v1.1.npy), 100 images of
each class, a tenth of them to validate, and 2,150 test images, on 2 CPU cores: probe 75.21 %, fine-tuned 83.2 %
(validation 86.9 %). A plain probe outside jft: 75.2 %. See few_gtsrb.py for the signs alone.
"""

from jft.config import default_config


def get_config():
    config = default_config()
    config.dataset = "gtsrb"
    config.region_of_interest = False
    config.model = "squeezenet1_1"
    config.weights = "torchvision"
    config.head = "linear"
    config.flip = False
    config.batch_size = 32
    config.optimizer = "sgd"
    config.learning_rate = 5e-3
    config.schedule = "cosine"
    config.arms = (
        ("probe", {"solver": "lbfgs"}),
        ("fine-tuned", {"preset": "lp_ft", "epochs": 4.0}),
    )
    return config
