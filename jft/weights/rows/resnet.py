"""Weight sets of ResNet."""

from jft.weights.rows import row
from jft.weights.rows.preprocessing import IMAGENET, IMAGENET_V2, KERAS_CAFFE

_TORCHVISION = {
    # model: file, parameters, MiB, top-1, top-5
    "resnet18": ("resnet18-f37072fd", 11_689_512, 44.661, 69.758, 89.078),
    "resnet34": ("resnet34-b627a593", 21_797_672, 83.275, 73.314, 91.420),
    "resnet50": ("resnet50-0676ba61", 25_557_032, 97.781, 76.130, 92.862),
    "resnet101": ("resnet101-63fe2227", 44_549_160, 170.511, 77.374, 93.546),
    "resnet152": ("resnet152-394f9c45", 60_192_808, 230.434, 78.312, 94.046),
}
_TORCHVISION_V2 = {
    "resnet50": ("resnet50-11ad3fa6", 25_557_032, 97.790, 80.858, 95.434),
    "resnet101": ("resnet101-cd907fc2", 44_549_160, 170.530, 81.886, 95.780),
    "resnet152": ("resnet152-f82ba261", 60_192_808, 230.474, 82.284, 96.002),
}
# timm publishes torchvision's weights again, as safetensors. SHA-256 where known.
_TIMM_SHA256 = {
    "resnet18": "694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81",
    "resnet34": "0bb82595a564991a9d424708b33f5d843f5aaed7f6c0886ff10849ff97022235",
    "resnet50": "5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888",
}
# Keras counts 25 636 712 parameters in ResNet50, with the moving statistics and the convolutions' biases, which
# conversion folds into them. It is the paper's network, and its BatchNorm forgets ten times slower.
_KERAS_OPTIONS = {"stride_in_1x1": True, "bn_momentum": 0.99}
_KERAS = {
    # model: parameters, MiB, MD5, top-1, top-5; the same without the top
    "resnet50": (25_557_032, 98.2, "2cb95161c43110f7111970584f804107", 74.9, 92.1),
    "resnet101": (44_549_160, 171.3, "f1aeb4b969a6efcfb50fad2f0c20cfc5", 76.4, 92.8),
    "resnet152": (60_192_808, 231.6, "100835be76be38e30d865e96f2aaae62", 76.6, 93.1),
}
_KERAS_NOTOP = {
    "resnet50": (23_508_032, 90.4, "4d473c1dd8becc155b73f8504c6f6626", None, None),
    "resnet101": (42_500_160, 163.5, "88cf7a10940856eca736dc7b7e228a21", None, None),
    "resnet152": (58_143_808, 223.8, "ee4c566cf9a93f14d82f913c2dc6dd0c", None, None),
}
_FILE = "resnet/{}_weights_tf_dim_ordering_tf_kernels"

ROWS = [
    *(row.torchvision(model, *facts, IMAGENET) for model, facts in _TORCHVISION.items()),
    *(row.torchvision(model, *facts, IMAGENET_V2, tag="torchvision_v2") for model, facts in _TORCHVISION_V2.items()),
    *(
        row.timm(
            model,
            f"{model}.tv_in1k",
            *facts,
            IMAGENET,
            tag="timm",
            license="BSD-3-Clause",
            sha256=_TIMM_SHA256.get(model),
        )
        for model, (_, *facts) in _TORCHVISION.items()
    ),
    *(
        row.timm(model, f"{model}.tv2_in1k", *facts, IMAGENET_V2, tag="timm_v2", license="BSD-3-Clause")
        for model, (_, *facts) in _TORCHVISION_V2.items()
    ),
    *(
        row.keras(model, f"{_FILE.format(model)}.h5", *facts, KERAS_CAFFE, license="MIT", options=_KERAS_OPTIONS)
        for model, facts in _KERAS.items()
    ),
    *(
        row.keras(
            model,
            f"{_FILE.format(model)}_notop.h5",
            *facts,
            KERAS_CAFFE,
            license="MIT",
            options=_KERAS_OPTIONS,
            top=False,
        )
        for model, facts in _KERAS_NOTOP.items()
    ),
]
