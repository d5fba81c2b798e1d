"""Weight sets of GoogLeNet."""

from jft.weights.rows import row
from jft.weights.rows.preprocessing import CAFFE, half

ROWS = [
    # torchvision says ImageNet's mean and std and turns the result into -1 .. 1 inside of the network
    # (transform_input), which is the same. Its auxiliary heads are counted.
    row.torchvision("googlenet", "googlenet-1378be20", 13_004_888, 49.731, 69.778, 89.530, half(), aux=True),
    row.caffe("googlenet_caffe", "googlenet.npy", 6_998_552, 26.7, "unrestricted", 68.7, 88.9, CAFFE),
]
