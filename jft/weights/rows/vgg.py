"""Weight sets of VGG."""

from jft.weights.rows import row
from jft.weights.rows.preprocessing import IMAGENET, KERAS_CAFFE

# torchvision, IMAGENET1K_V1. VGG16's IMAGENET1K_FEATURES is left out on purpose: its classifier is not trained.
_TORCHVISION = {
    # model: file, parameters, MiB, top-1, top-5
    "vgg11": ("vgg11-8a719046", 132_863_336, 506.840, 69.020, 88.628),
    "vgg11_bn": ("vgg11_bn-6002323d", 132_868_840, 506.881, 70.370, 89.810),
    "vgg13": ("vgg13-19584684", 133_047_848, 507.545, 69.928, 89.246),
    "vgg13_bn": ("vgg13_bn-abd245e5", 133_053_736, 507.590, 71.586, 90.374),
    "vgg16": ("vgg16-397923af", 138_357_544, 527.796, 71.592, 90.382),
    "vgg16_bn": ("vgg16_bn-6c64b313", 138_365_992, 527.866, 73.360, 91.516),
    "vgg19": ("vgg19-dcbb9e9d", 143_667_240, 548.051, 72.376, 90.876),
    "vgg19_bn": ("vgg19_bn-c79401a0", 143_678_248, 548.143, 74.218, 91.842),
}
# timm publishes the same weights, as safetensors. SHA-256 where known.
_TIMM_SHA256 = {
    "vgg11": "682c023808812148d4e60c76d80ad83dbeaf5d50eb1a952a0b836895003151e5",
    "vgg16": "57b026918159a6bf9faf8405c3a551903768e7138989d9c6224a14227203fad8",
    "vgg19": "11aea017b543ff59233749d8f1cf544cda749378f5790d2fedab841fb86b7669",
}
# Keras' accuracies are keras.io's; users measure others (keras#8672, keras#10040).
_KERAS = {
    # model: parameters, MiB, MD5, top-1, top-5; the same without the top
    "vgg16": (138_357_544, 527.8, "64373286793e3c8b2b4e3219cbf3544b", 71.3, 90.1),
    "vgg19": (143_667_240, 548.1, "cbe5617147190e668d6c5d5026f83318", 71.3, 90.0),
}
_KERAS_NOTOP = {
    "vgg16": (14_714_688, 56.2, "6d6bbae143d832006294945121d1f1fc", None, None),
    "vgg19": (20_024_384, 76.4, "253f8cb515780f3b799900260a226db6", None, None),
}
_FILE = "{0}/{0}_weights_tf_dim_ordering_tf_kernels"
_FIXED = {"adaptive_pool": False}  # Keras' and Caffe's VGG pools no other map to 7x7
_OXFORD = "CC-BY-4.0"  # the license of Oxford's weights, which Keras' and Caffe's are

ROWS = [
    *(row.torchvision(model, *facts, IMAGENET) for model, facts in _TORCHVISION.items()),
    *(
        row.timm(
            model,
            f"{model}.tv_in1k",
            *facts[1:],
            IMAGENET,
            tag="timm",
            license="BSD-3-Clause",
            sha256=_TIMM_SHA256.get(model),
        )
        for model, facts in _TORCHVISION.items()
    ),
    *(
        row.keras(model, f"{_FILE.format(model)}.h5", *facts, KERAS_CAFFE, license=_OXFORD, options=_FIXED)
        for model, facts in _KERAS.items()
    ),
    *(
        row.keras(
            model,
            f"{_FILE.format(model)}_notop.h5",
            *facts,
            KERAS_CAFFE,
            license=_OXFORD,
            options=_FIXED,
            top=False,
        )
        for model, facts in _KERAS_NOTOP.items()
    ),
    row.caffe("vgg16", "vgg16.npy", 138_357_544, 527.8, _OXFORD, 71.3, 90.1, KERAS_CAFFE, options=_FIXED),
    row.caffe("vgg19", "vgg19.npy", 143_667_240, 548.0, _OXFORD, 71.3, 90.0, KERAS_CAFFE, options=_FIXED),
]
