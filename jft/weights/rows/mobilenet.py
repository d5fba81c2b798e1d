"""Weight sets of MobileNet.

timm's accuracies are those of its results/results-imagenet.csv, at the sizes below. Keras' are those of its
documentation, where most of V1 and V3 have no top-5 accuracy. It publishes no hash for V1 and V2; the sizes are those
of what it writes today.
"""

from jft.data.preprocess import Preprocess
from jft.weights.rows import row
from jft.weights.rows.preprocessing import IMAGENET, IMAGENET_V2, half

_LARGE, _SMALL = 5_483_032, 2_542_856
_TORCHVISION = [
    row.torchvision("mobilenet_v2", "mobilenet_v2-b0353104", 3_504_872, 13.555, 71.878, 90.286, IMAGENET),
    row.torchvision(
        "mobilenet_v2", "mobilenet_v2-7ebf99e0", 3_504_872, 13.598, 72.154, 90.822, IMAGENET_V2, tag="torchvision_v2"
    ),
    row.torchvision("mobilenet_v3_large", "mobilenet_v3_large-8738ca79", _LARGE, 21.114, 74.042, 91.340, IMAGENET),
    row.torchvision(
        "mobilenet_v3_large",
        "mobilenet_v3_large-5c1a4163",
        _LARGE,
        21.107,
        75.274,
        92.566,
        IMAGENET_V2,
        tag="torchvision_v2",
    ),
    row.torchvision("mobilenet_v3_small", "mobilenet_v3_small-047dcff4", _SMALL, 9.829, 67.668, 87.402, IMAGENET),
]


def _imagenet(size: int, resize: int) -> Preprocess:
    return Preprocess(size=size, resize=resize, interpolation="bicubic")


# timm's own trainings of V1 and V3 have torch's epsilon and, as all of timm's, momentum; V1's torch's padding.
_TORCH_V1 = {"padding": "torch", "bn_epsilon": 1e-5, "bn_momentum": 0.9}
_TORCH_V3 = {"bn_epsilon": 1e-5, "bn_momentum": 0.9}
_TIMM = {
    # name: model, tag, parameters, MiB, top-1, top-5, preprocessing, options
    "mobilenetv1_100.ra4_e3600_r224_in1k": (
        "mobilenet_v1",
        "ra4",
        (4_231_976, 16.241, 75.388, 92.310),
        half(224, 256, "bicubic"),
        _TORCH_V1,
    ),
    "mobilenetv2_050.lamb_in1k": (
        "mobilenet_v2_050",
        "lamb",
        (1_968_680, 7.607, 65.928, 86.114),
        _imagenet(224, 256),
        {},
    ),
    "mobilenetv2_100.ra_in1k": ("mobilenet_v2", "ra", (3_504_872, 13.527, 72.910, 91.000), _imagenet(224, 256), {}),
    "mobilenetv2_140.ra_in1k": ("mobilenet_v2_140", "ra", (6_108_776, 23.513, 76.528, 93.008), _imagenet(224, 256), {}),
    "mobilenetv3_small_100.lamb_in1k": (
        "mobilenet_v3_small",
        "lamb",
        (_SMALL, 9.767, 67.636, 87.638),
        _imagenet(224, 256),
        _TORCH_V3,
    ),
    "mobilenetv3_large_100.ra_in1k": (
        "mobilenet_v3_large",
        "ra",
        (_LARGE, 21.036, 75.784, 92.528),
        _imagenet(224, 256),
        _TORCH_V3,
    ),
    "mobilenetv3_large_100.ra4_e3600_r224_in1k": (
        "mobilenet_v3_large",
        "ra4",
        (_LARGE, 21.036, 76.310, 92.842),
        half(224, 235, "bicubic"),
        _TORCH_V3,
    ),
    "mobilenetv3_large_100.miil_in21k_ft_in1k": (
        "mobilenet_v3_large",
        "miil_in21k_ft",
        (_LARGE, 21.036, 77.920, 92.894),
        Preprocess(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        _TORCH_V3,
    ),
    "mobilenetv4_conv_small.e1200_r224_in1k": (
        "mobilenet_v4_conv_small",
        "e1200",
        (3_774_024, 14.518, 73.450, 91.340),
        _imagenet(224, 256),
        {},
    ),
    "mobilenetv4_conv_small.e2400_r224_in1k": (
        "mobilenet_v4_conv_small",
        "e2400",
        (3_774_024, 14.518, 73.756, 91.430),
        _imagenet(224, 256),
        {},
    ),
    "mobilenetv4_conv_small.e3600_r256_in1k": (
        "mobilenet_v4_conv_small",
        "e3600",
        (3_774_024, 14.518, 74.534, 91.940),
        half(256, 269, "bicubic"),
        {},
    ),
    "mobilenetv4_conv_medium.e500_r224_in1k": (
        "mobilenet_v4_conv_medium",
        "e500_r224",
        (9_715_512, 37.364, 79.092, 94.788),
        _imagenet(224, 235),
        {},
    ),
    "mobilenetv4_conv_medium.e500_r256_in1k": (
        "mobilenet_v4_conv_medium",
        "e500_r256",
        (9_715_512, 37.364, 79.916, 95.188),
        _imagenet(256, 269),
        {},
    ),
}
# Google's V3, in timm with TensorFlow's padding.
_TF = {"padding": "same"}
_TIMM_TF = {
    # model: name, parameters, MiB, top-1, top-5
    "mobilenet_v3_large": ("tf_mobilenetv3_large_100.in1k", _LARGE, 21.036, 75.510, 92.600),
    "mobilenet_v3_small": ("tf_mobilenetv3_small_100.in1k", _SMALL, 9.767, 67.922, 87.686),
}


def _timm(name: str) -> row.WeightSet:
    model, tag, (num_params, size, top1, top5), spec, options = _TIMM[name]
    return row.timm(model, name, num_params, size, top1, top5, spec, tag=tag, options=options)


def _timm_tf(model: str) -> row.WeightSet:
    name, num_params, size, top1, top5 = _TIMM_TF[model]
    return row.timm(model, name, num_params, size, top1, top5, half(), tag="tf", options=_TF, variant="tf")


_OPTIONS = {  # of Keras' networks
    "v1": {},
    "v2": {"padding": "same", "bn_epsilon": 1e-3, "bn_momentum": 0.999},
    "v3": {"padding": "same", "bn_momentum": 0.999},
}
_PATHS = {
    "v1": ("mobilenet/mobilenet_{}_224_tf.h5", "mobilenet/mobilenet_{}_224_tf_no_top.h5"),
    "v2": (
        "mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{}_224.h5",
        "mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{}_224_no_top.h5",
    ),
    "v3": (
        "mobilenet_v3/weights_mobilenet_v3_{}_224_1.0_float.h5",
        "mobilenet_v3/weights_mobilenet_v3_{}_224_1.0_float_no_top_v2.h5",
    ),
}
_KERAS = {
    # model: what its files' names have in the middle; parameters, MiB, MD5, with and without the top; top-1, top-5
    "mobilenet_v1": ("1_0", (4_231_976, 3_206_976), (16.433, 12.518), None, 70.4, 89.5),
    "mobilenet_v1_075": ("7_5", (2_585_560, 1_816_560), (10.136, 7.198), None, 68.4, None),
    "mobilenet_v1_050": ("5_0", (1_331_592, 818_592), (5.326, 3.364), None, 63.7, None),
    "mobilenet_v1_025": ("2_5", (470_072, 213_072), (2.018, 1.033), None, 50.6, None),
    "mobilenet_v2": ("1.0", (3_504_872, 2_223_872), (13.876, 8.985), None, 71.8, 91.0),
    "mobilenet_v2_140": ("1.4", (6_108_776, 4_315_776), (23.861, 17.017), None, 75.0, 92.5),
    "mobilenet_v2_130": ("1.3", (5_386_792, 3_721_792), (21.093, 14.738), None, 74.4, 92.1),
    "mobilenet_v2_075": ("0.75", (2_636_424, 1_355_424), (10.535, 5.645), None, 69.8, 89.6),
    "mobilenet_v2_050": ("0.5", (1_968_680, 687_680), (7.958, 3.066), None, 65.4, 86.4),
    "mobilenet_v2_035": ("0.35", (1_677_128, 396_128), (6.826, 1.935), None, 60.3, 82.9),
    "mobilenet_v3_large": (
        "large",
        (5_483_032, 2_971_952),
        (21.43, 11.841),
        ("59e551e166be033d707958cf9e29a6a7", "07fb09a5933dd0c8eaafa16978110389"),
        75.6,
        None,
    ),
    "mobilenet_v3_small": (
        "small",
        (2_542_856, 927_008),
        (10.09, 3.916),
        ("8768d4c2e7dee89b9d02b2d03d65d862", "d3e8ec802a04aa4fc771ee12a9a9b836"),
        68.1,
        None,
    ),
}


def _keras(model: str, top: bool) -> row.WeightSet:
    name, (num_params, num_without), sizes, md5, *accuracies = _KERAS[model]
    version, i = model.split("_")[1], 0 if top else 1
    path = _PATHS[version][i].format(name)
    top1, top5 = accuracies if top else (None, None)
    return row.keras(
        model,
        path,
        num_params if top else num_without,
        sizes[i],
        md5[i] if md5 else None,
        top1,
        top5,
        half(),
        license="Apache-2.0",
        sha256=_SHA256 if path.endswith("mobilenet_2_5_224_tf_no_top.h5") else None,
        options=_OPTIONS[version],
        top=top,
    )


# Of the one file of V1 that was at hand.
_SHA256 = "dbdb03ee2a22fd895301636cd328b234bb3a9952358f436d82f46b81e0d5b0bf"

ROWS = [
    *_TORCHVISION,
    *map(_timm, _TIMM),
    *map(_timm_tf, _TIMM_TF),
    *(_keras(model, top) for model in _KERAS for top in (True, False)),
]
