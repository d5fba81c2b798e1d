"""Weight sets of Inception-V3. All read -1 .. 1, as Google trained it; see GoogLeNet's for torchvision's."""

from jft.weights.rows import row
from jft.weights.rows.preprocessing import half

_SPEC = half(299, 342)
# Keras counts 23 851 784 parameters, with the moving statistics and without the scale of BatchNorm, which is counted
# here, though the file leaves it out and it becomes ones. Its average pools do not count the zeros around the map, and
# its BatchNorm forgets ten times slower.
_KERAS = {"count_include_pad": False, "bn_momentum": 0.99}
_FILE = "inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels"
_TOP, _NOTOP = "9a0d58056eeedaa3f26cb7ebd46da564", "bcbd6486424b2319ff4ef7d526e38f63"

ROWS = [
    # With its auxiliary head, which timm's and Keras' have not.
    row.torchvision(
        "inception_v3", "inception_v3_google-0cc3c7bd", 27_161_264, 103.903, 77.294, 93.450, _SPEC, aux=True
    ),
    # torchvision's weights, read bicubically, which measures 0.18 higher. The hub's other Inceptions (tf_in1k,
    # tf_adv_in1k, gluon_in1k) are other trainings and are left out.
    row.timm(
        "inception_v3",
        "inception_v3.tv_in1k",
        23_834_568,
        91.1,
        77.294,
        93.450,
        half(299, 341, "bicubic"),
        tag="timm",
        sha256="9c452c63a67fd03a38a78c401ba12d4be0e926df63c93403de3a29f6df20fefb",
    ),
    row.keras(
        "inception_v3",
        f"{_FILE}.h5",
        23_834_568,
        91.7,
        _TOP,
        77.9,
        93.7,
        _SPEC,
        license="Apache-2.0",
        options=_KERAS,
    ),
    row.keras(
        "inception_v3",
        f"{_FILE}_notop.h5",
        21_785_568,
        83.8,
        _NOTOP,
        None,
        None,
        _SPEC,
        license="Apache-2.0",
        options=_KERAS,
        top=False,
    ),
]
