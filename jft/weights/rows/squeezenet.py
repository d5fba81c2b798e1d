"""Weight sets of SqueezeNet.

Its prototxt crops 227; of 100 ImageNet images an independent implementation gets 65 right at 224, as in other rows (83
in the first five), and 63 (85) at 227.
"""

from jft.weights.rows import row
from jft.weights.rows.preprocessing import CAFFE, IMAGENET

_SHA256 = "4f2207c551d2ca71c4699709779ca3871b2fe65cdfe6bc9180af16bbad8ec5f5"
_LICENSE = "BSD-2-Clause"

ROWS = [
    row.torchvision("squeezenet1_0", "squeezenet1_0-b66bff10", 1_248_424, 4.778, 58.092, 80.420, IMAGENET),
    row.torchvision("squeezenet1_1", "squeezenet1_1-b8a52dc0", 1_235_496, 4.729, 58.178, 80.624, IMAGENET),
    row.caffe(
        "squeezenet1_0",
        "squeezenet_v1.0.npy",
        1_248_424,
        4.8,
        _LICENSE,
        57.5,
        80.3,
        CAFFE,
        options={"head_padding": 1},
    ),
    row.caffe("squeezenet1_1", "squeezenet_v1.1.npy", 1_235_496, 6.5, _LICENSE, None, None, CAFFE, sha256=_SHA256),
]
