"""Weight sets of AlexNet."""

from jft.data.preprocess import Preprocess
from jft.weights.rows import row
from jft.weights.rows.preprocessing import IMAGENET

# The means over each channel of Caffe's mean image, which AlexNet was trained with.
_CAFFE = Preprocess(size=227, channels="BGR", scale=1.0, mean=(104.00699, 116.66877, 122.67892), std=(1.0, 1.0, 1.0))
_URL = "https://www.cs.toronto.edu/~guerzhoy/tf_alexnet/bvlc_alexnet.npy"

ROWS = [
    row.torchvision("alexnet", "alexnet-owt-7be5be79", 61_100_840, 233.087, 56.522, 79.066, IMAGENET),
    row.caffe("alexnet_caffe", "bvlc_alexnet.npy", 60_965_224, 232.6, "unrestricted", 57.1, 80.2, _CAFFE, url=_URL),
]
