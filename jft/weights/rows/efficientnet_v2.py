"""Weight sets of EfficientNetV2.

timm's are Google's, some of ImageNet-21k; their accuracies are those of its results/results-imagenet.csv, at the sizes
below, with which it advises to test. Keras' are keras.io's.
"""

from collections.abc import Iterator

from jft.data.preprocess import Preprocess
from jft.weights.rows import row
from jft.weights.rows.preprocessing import half

_TF = {"padding": "same"}
# Pixels, and the shorter side before the crop.
_SIDES = {"b0": (224, 256), "b1": (240, 272), "b2": (260, 292), "b3": (300, 331)}
_LARGE = {"s": 384, "m": 480, "l": 480}  # pixels of the others, which are not cropped
# Inputs of the classifier, which a file without the top lacks.
_FEATURES = {"b2": 1408, "b3": 1536}
_USUAL_FEATURES = 1280
_PARAMS = {
    "b0": 7_139_704,
    "b1": 8_141_052,
    "b2": 10_096_086,
    "b3": 14_358_406,
    "s": 21_458_488,
    "m": 54_139_356,
    "l": 118_515_272,
}
_TIMM = {
    # name: MiB, top-1, top-5
    "b0.in1k": (27.504, 78.386, 94.034),
    "b1.in1k": (31.373, 79.518, 94.710),
    "b2.in1k": (38.875, 80.226, 95.010),
    "b3.in1k": (55.246, 81.960, 95.780),
    "b3.in21k_ft_in1k": (55.246, 82.634, 96.628),
    "s.in1k": (82.515, 83.900, 96.702),
    "s.in21k_ft_in1k": (82.515, 84.332, 97.274),
    "m.in1k": (207.741, 85.208, 97.358),
    "m.in21k_ft_in1k": (207.741, 86.014, 97.956),
    "l.in1k": (454.197, 85.660, 97.472),
    "l.in21k_ft_in1k": (454.197, 86.802, 98.124),
}
_KERAS = {
    # MiB with and without the top, their MD5, top-1, top-5
    "b0": (28.048, 23.157, "21ecbf6da12460d5c40bb2f29ceb2188", "893217f2bb855e2983157299931e43ff", 78.7, 94.3),
    "b1": (32.037, 27.145, "069f0534ff22adf035c89e2d9547a9dc", "0e80663031ca32d657f9caa404b6ec37", 79.8, 95.0),
    "b2": (39.570, 34.192, "424e49f28180edbde1e94797771950a7", "1dfe2e7a5d45b6632553a8961ea609eb", 80.5, 95.1),
    "b3": (56.051, 50.184, "1f1fc43bd98a6e4fd8fdfd551e02c7a0", "f6abf7b5849ac99a89b50dd3fd532856", 82.0, 95.8),
    "s": (83.518, 78.627, "e1d88a8495beba45748fedd0cecbe016", "af0682fb74e8c54910f2d4393339c070", 83.9, 96.7),
    "m": (209.187, 204.298, "a3bf6aa3276309f4fc6a34aa114c95cd", "1b8dc055df72dde80d614482840fe342", 85.3, 97.4),
    "l": (456.197, 451.309, "27e6d408b53c7ebc868fefa357689935", "b0b66b5c863aef5b46e8608fe1711615", 85.7, 97.5),
}


def _imagenet(size: int, resize: int, interpolation: str = "bicubic") -> Preprocess:
    return Preprocess(size=size, resize=resize, interpolation=interpolation)


def _timm(name: str) -> row.WeightSet:
    size, recipe = name.split(".")
    if recipe == "in21k_ft_in1k" and size == "b3":
        spec = half(300, 333, "bicubic")
    else:
        spec = _imagenet(*_SIDES[size]) if size in _SIDES else half(_LARGE[size], _LARGE[size], "bicubic")
    mib, top1, top5 = _TIMM[name]
    tag = {"in1k": "timm", "in21k_ft_in1k": "in21k_ft"}[recipe]
    model, named = f"efficientnet_v2_{size}", f"tf_efficientnetv2_{name}"
    return row.timm(model, named, _PARAMS[size], mib, top1, top5, spec, tag=tag, options=_TF)


def _keras(size: str) -> Iterator[row.WeightSet]:
    """S, M and L read gray levels / 128 - 1."""
    *mib, md5, md5_notop, top1, top5 = _KERAS[size]
    if size in _SIDES:
        spec = _imagenet(*_SIDES[size])
    else:
        ones, side = (1.0, 1.0, 1.0), _LARGE[size]
        spec = Preprocess(size=side, resize=side, interpolation="bicubic", scale=1 / 128, mean=ones, std=ones)
    file = f"efficientnet_v2/efficientnetv2-{size}"
    name, num_params = f"efficientnet_v2_{size}", _PARAMS[size]
    without = num_params - 1000 * (_FEATURES.get(size, _USUAL_FEATURES) + 1)
    shared = {"license": "Apache-2.0", "options": _TF}
    yield row.keras(name, f"{file}.h5", num_params, mib[0], md5, top1, top5, spec, **shared)
    yield row.keras(name, f"{file}_notop.h5", without, mib[1], md5_notop, None, None, spec, **shared, top=False)


_L = half(480, 480, "bicubic")
ROWS = [
    row.torchvision(
        "efficientnet_v2_s",
        "efficientnet_v2_s-dd5fe13b",
        _PARAMS["s"],
        82.704,
        84.228,
        96.878,
        _imagenet(384, 384, "bilinear"),
    ),
    row.torchvision(
        "efficientnet_v2_m",
        "efficientnet_v2_m-dc08266a",
        _PARAMS["m"],
        208.010,
        85.112,
        97.156,
        _imagenet(480, 480, "bilinear"),
    ),
    row.torchvision("efficientnet_v2_l", "efficientnet_v2_l-59c71312", _PARAMS["l"], 454.573, 85.808, 97.788, _L),
    *map(_timm, _TIMM),
    *(made for size in _KERAS for made in _keras(size)),
]
