"""Weight sets of ResNet, ResNeXt and Wide ResNet."""

from jft.weights.rows import row
from jft.weights.rows.preprocessing import IMAGENET, IMAGENET_V2, KERAS_CAFFE, cropped, half

_PARAMS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336,
    "resnext101_64x4d": 83_455_272,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
}
_TORCHVISION = {
    # file: MiB, top-1, top-5
    "resnet18-f37072fd": (44.661, 69.758, 89.078),
    "resnet34-b627a593": (83.275, 73.314, 91.420),
    "resnet50-0676ba61": (97.781, 76.130, 92.862),
    "resnet101-63fe2227": (170.511, 77.374, 93.546),
    "resnet152-394f9c45": (230.434, 78.312, 94.046),
    "resnext50_32x4d-7cdf4587": (95.789, 77.618, 93.698),
    "resnext101_32x8d-8ba56ff5": (339.586, 79.312, 94.526),
    "wide_resnet50_2-95faca4d": (131.820, 78.468, 94.086),
    "wide_resnet101_2-32ee1156": (242.896, 78.848, 94.284),
}
_TORCHVISION_V2 = {
    "resnet50-11ad3fa6": (97.790, 80.858, 95.434),
    "resnet101-cd907fc2": (170.530, 81.886, 95.780),
    "resnet152-f82ba261": (230.474, 82.284, 96.002),
    "resnext50_32x4d-1a0047aa": (95.833, 81.198, 95.340),
    "resnext101_32x8d-110c445d": (339.673, 82.834, 96.228),
    "resnext101_64x4d-173b62eb": (319.318, 83.246, 96.454),
    "wide_resnet50_2-9ba9bcbe": (263.124, 81.602, 95.758),
    "wide_resnet101_2-d733dc28": (484.747, 82.510, 96.020),
}
_ONCE = "resnext101_64x4d"  # published by the second recipe alone, which is torchvision's V1 here
_FLOAT16 = ("wide_resnet50_2-95faca4d", "wide_resnet101_2-32ee1156")

# timm publishes torchvision's weights again, and what others and itself trained, as safetensors of float32.
_TIMM_MIB = {
    "resnet18": 44.6,
    "resnet34": 83.2,
    "resnet50": 97.7,
    "resnet101": 170.4,
    "resnet152": 230.3,
    "resnext50_32x4d": 95.8,
    "resnext101_32x8d": 339.5,
    "resnext101_64x4d": 319.2,
    "wide_resnet50_2": 263.1,
    "wide_resnet101_2": 484.6,
}
_TIMM_SHA256 = {  # of torchvision's, where known
    "resnet18": "694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81",
    "resnet34": "0bb82595a564991a9d424708b33f5d843f5aaed7f6c0886ff10849ff97022235",
    "resnet50": "5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888",
}
# a1 .. a3, c1: "ResNet strikes back" (Wightman et al., 2021, https://arxiv.org/abs/2110.00476). The A recipes train a
# sigmoid for each class: all logits are low, and their temperature is another. Accuracies: results-imagenet.csv of
# timm, with the size and the crop that the rows have.
_TIMM = {
    # set: top-1, top-5
    "resnet18.a1": (71.504, 90.086),
    "resnet18.a2": (70.634, 89.486),
    "resnet18.a3": (68.250, 88.172),
    "resnet18.gluon": (70.844, 89.750),
    "resnet34.a1": (76.420, 92.896),
    "resnet34.a2": (75.520, 92.454),
    "resnet34.a3": (72.996, 91.116),
    "resnet34.ra4": (77.492, 93.498),
    "resnet34.gluon": (74.574, 91.988),
    "resnet50.a1": (80.382, 94.598),
    "resnet50.a1h": (80.654, 95.312),
    "resnet50.a2": (79.828, 94.560),
    "resnet50.a3": (78.052, 93.780),
    "resnet50.ra": (78.820, 94.314),
    "resnet50.gluon": (77.580, 93.704),
    "resnet101.a1": (81.494, 95.164),
    "resnet101.a1h": (81.950, 95.760),
    "resnet101.a2": (81.344, 95.198),
    "resnet101.a3": (79.836, 94.608),
    "resnet101.gluon": (79.306, 94.538),
    "resnet152.a1": (81.998, 95.294),
    "resnet152.a1h": (82.818, 96.124),
    "resnet152.a2": (81.764, 95.270),
    "resnet152.a3": (80.548, 95.004),
    "resnet152.gluon": (79.712, 94.720),
    "resnext50_32x4d.a1": (80.526, 94.458),
    "resnext50_32x4d.a1h": (81.140, 95.320),
    "resnext50_32x4d.a2": (80.444, 94.630),
    "resnext50_32x4d.a3": (79.258, 94.308),
    "resnext50_32x4d.ra": (79.800, 94.608),
    "resnext50_32x4d.gluon": (79.354, 94.424),
    "resnext101_64x4d.c1": (82.446, 95.920),
    "resnext101_64x4d.gluon": (80.640, 95.000),
    "wide_resnet50_2.racm": (81.466, 95.544),
}
_WHOLE_NAMES = {"ra4": "ra4_e3600_r224_in1k"}
_OTHER_CROPS = {
    "gluon": cropped(0.875),
    "ra": cropped(0.875),
    "racm": cropped(0.875),
    "ra4": half(224, 248, "bicubic"),
    "resnet50.a1h": cropped(1.0),  # trained at 176 pixels; this is how timm tests it at 224
}

# Keras counts 25 636 712 parameters in ResNet50, with the moving statistics and the convolutions' biases, which
# conversion folds into them. It is the paper's network, and its BatchNorm forgets ten times slower.
_KERAS_OPTIONS = {"stride_in_1x1": True, "bn_momentum": 0.99}
_KERAS = {
    # model: MiB, MD5, top-1, top-5
    "resnet50": (98.2, "2cb95161c43110f7111970584f804107", 74.9, 92.1),
    "resnet101": (171.3, "f1aeb4b969a6efcfb50fad2f0c20cfc5", 76.4, 92.8),
    "resnet152": (231.6, "100835be76be38e30d865e96f2aaae62", 76.6, 93.1),
}
_KERAS_NOTOP = {
    "resnet50": (90.4, "4d473c1dd8becc155b73f8504c6f6626", None, None),
    "resnet101": (163.5, "88cf7a10940856eca736dc7b7e228a21", None, None),
    "resnet152": (223.8, "ee4c566cf9a93f14d82f913c2dc6dd0c", None, None),
}
_TOP = 2048 * 1000 + 1000


def _torchvision(file: str, size: float, top1: float, top5: float) -> list[row.WeightSet]:
    """torchvision's set, and the same from timm."""
    model, second = file.split("-")[0], file in _TORCHVISION_V2
    spec, version = (IMAGENET_V2 if second else IMAGENET), ("_v2" if second and model != _ONCE else "")
    dtype = "float16" if file in _FLOAT16 else "float32"
    ours = row.torchvision(
        model, file, _PARAMS[model], size, top1, top5, spec, tag=f"torchvision{version}", dtype=dtype
    )
    again = row.timm(
        model,
        f"{model}.{'tv2' if version else 'tv'}_in1k",
        _PARAMS[model],
        _TIMM_MIB[model],
        top1,
        top5,
        spec,
        tag=f"timm{version}",
        license="BSD-3-Clause",
        sha256=None if version else _TIMM_SHA256.get(model),
    )
    return [ours, again]


def _timm(name: str, top1: float, top5: float) -> row.WeightSet:
    model, recipe = name.split(".")
    spec = _OTHER_CROPS.get(name) or _OTHER_CROPS.get(recipe) or cropped(0.95)
    file = f"{model}.{_WHOLE_NAMES.get(recipe, f'{recipe}_in1k')}"
    return row.timm(model, file, _PARAMS[model], _TIMM_MIB[model], top1, top5, spec, tag=recipe)


def _keras(model: str, size: float, md5: str, top1: float | None, top5: float | None) -> row.WeightSet:
    top = top1 is not None
    return row.keras(
        model,
        f"resnet/{model}_weights_tf_dim_ordering_tf_kernels{'' if top else '_notop'}.h5",
        _PARAMS[model] - (0 if top else _TOP),
        size,
        md5,
        top1,
        top5,
        KERAS_CAFFE,
        license="MIT",
        options=_KERAS_OPTIONS,
        top=top,
    )


_PUBLISHED = [_torchvision(file, *facts) for file, facts in (_TORCHVISION | _TORCHVISION_V2).items()]

ROWS = [
    *(ours for ours, _ in _PUBLISHED),
    *(again for _, again in _PUBLISHED),
    *(_timm(name, *facts) for name, facts in _TIMM.items()),
    *(_keras(model, *facts) for model, facts in _KERAS.items()),
    *(_keras(model, *facts) for model, facts in _KERAS_NOTOP.items()),
]
