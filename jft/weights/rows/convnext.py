"""Weight sets of ConvNeXt and ConvNeXt V2.

torchvision's facts: torchvision/models/convnext.py. timm's: its `default_cfgs` and, at 224 pixels, its
results/results-imagenet.csv. Keras': keras/applications/convnext.py, which publishes SHA-256; its accuracies are those
that the converter of Meta's weights measured, kaggle.com/models/utkarshsaxenadn/ai-vs-human, without top-5.
"""

from jft.data.preprocess import Preprocess
from jft.weights.rows import row
from jft.weights.rows.preprocessing import cropped

_PARAMETERS = {
    "convnext_atto": 3_695_520,
    "convnext_femto": 5_217_784,
    "convnext_pico": 9_045_672,
    "convnext_nano": 15_593_560,
    "convnext_tiny": 28_589_128,
    "convnext_small": 50_223_688,
    "convnext_base": 88_591_464,
    "convnext_large": 197_767_336,
    "convnextv2_atto": 3_708_400,
    "convnextv2_femto": 5_233_240,
    "convnextv2_pico": 9_066_280,
    "convnextv2_nano": 15_623_800,
    "convnextv2_tiny": 28_635_496,
    "convnextv2_base": 88_717_800,
    "convnextv2_large": 197_956_840,
}
_FEATURES = {"convnext_tiny": 768, "convnext_small": 768, "convnext_base": 1024, "convnext_large": 1536}
_TORCHVISION = {
    # model: file, MiB, top-1, top-5, shorter side before the crop
    "convnext_tiny": ("convnext_tiny-983f1562", 109.119, 82.520, 96.146, 236),
    "convnext_small": ("convnext_small-0c510722", 191.703, 83.616, 96.650, 230),
    "convnext_base": ("convnext_base-6075fbad", 338.064, 84.062, 96.870, 232),
    "convnext_large": ("convnext_large-ea097f82", 754.537, 84.414, 96.976, 232),
}
_CROP_875, _CROP_95 = cropped(0.875), cropped(0.95)
_TIMM = {
    # timm's name: top-1, top-5, preprocessing
    "convnext_atto.d2_in1k": (75.672, 92.914, _CROP_875),
    "convnext_femto.d1_in1k": (77.498, 93.678, _CROP_875),
    "convnext_pico.d1_in1k": (79.516, 94.554, _CROP_875),
    "convnext_nano.in12k_ft_in1k": (82.306, 96.338, _CROP_95),
    "convnext_nano.d1h_in1k": (80.762, 95.332, _CROP_95),
    "convnext_tiny.in12k_ft_in1k": (84.192, 97.132, _CROP_95),
    "convnext_tiny.fb_in22k_ft_in1k": (82.900, 96.616, _CROP_875),
    "convnext_tiny.fb_in1k": (82.066, 95.854, _CROP_875),
    "convnext_small.in12k_ft_in1k": (85.164, 97.502, _CROP_95),
    "convnext_small.fb_in22k_ft_in1k": (84.582, 97.414, _CROP_875),
    "convnext_small.fb_in1k": (83.144, 96.432, _CROP_875),
    "convnext_base.fb_in22k_ft_in1k": (85.814, 97.856, _CROP_875),
    "convnext_base.fb_in1k": (83.838, 96.746, _CROP_875),
    "convnext_large.fb_in22k_ft_in1k": (86.612, 98.036, _CROP_875),
    "convnext_large.fb_in1k": (84.304, 96.892, _CROP_875),
}
# Of V2 Meta lets nobody make money.
_V2 = {
    "convnextv2_atto.fcmae_ft_in1k": (76.644, 93.042, _CROP_875),
    "convnextv2_femto.fcmae_ft_in1k": (78.476, 93.984, _CROP_875),
    "convnextv2_pico.fcmae_ft_in1k": (80.304, 95.082, _CROP_875),
    "convnextv2_nano.fcmae_ft_in22k_in1k": (82.038, 96.174, _CROP_875),
    "convnextv2_nano.fcmae_ft_in1k": (81.856, 95.740, _CROP_875),
    "convnextv2_tiny.fcmae_ft_in22k_in1k": (83.904, 96.964, _CROP_875),
    "convnextv2_tiny.fcmae_ft_in1k": (82.948, 96.286, _CROP_875),
    "convnextv2_base.fcmae_ft_in22k_in1k": (86.752, 98.020, _CROP_875),
    "convnextv2_base.fcmae_ft_in1k": (84.890, 97.088, _CROP_875),
    "convnextv2_large.fcmae_ft_in22k_in1k": (87.266, 98.240, _CROP_875),
    "convnextv2_large.fcmae_ft_in1k": (85.762, 97.574, _CROP_875),
}
_KERAS = {
    # model: SHA-256 with top and without, top-1. Base and large have seen ImageNet-21k first.
    "convnext_tiny": (
        "8ae6e78ce2933352b1ef4008e6dd2f17bc40771563877d156bc6426c7cf503ff",
        "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
        81.312,
    ),
    "convnext_small": (
        "ce1277d8f1ee5a0ef0e171469089c18f5233860ceaf9b168049cb9263fd7483c",
        "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab",
        82.392,
    ),
    "convnext_base": (
        "52cbb006d3dadd03f6e095a8ca1aca47aecdd75acb4bc74bce1f5c695d0086e6",
        "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45",
        85.364,
    ),
    "convnext_large": (
        "070c5ed9ed289581e477741d3b34beffa920db8cf590899d6d2c67fba2a198a6",
        "96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd",
        86.360,
    ),
}
# timm and Keras build it without stochastic depth.
_WITHOUT_DROP_PATH = {"drop_path": 0.0}


def _mebibytes(parameters: int) -> float:
    """Of the numbers alone."""
    return round(parameters * 4 / 2**20, 1)


def _timm(names: dict, license: str) -> list[row.WeightSet]:
    found = []
    for name, (top1, top5, preprocess) in names.items():
        model, recipe = name.split(".")
        facts = _PARAMETERS[model], _mebibytes(_PARAMETERS[model]), top1, top5, preprocess
        found.append(
            row.timm(model, name, *facts, tag=recipe.removesuffix("_in1k"), license=license, options=_WITHOUT_DROP_PATH)
        )
    return found


def _keras(model: str, sha256: str, top1: float | None, top: bool) -> row.WeightSet:
    """Its Normalization layer is the preprocessing here.

    The LayerNorm that ends a file without top is over the map in Keras, and over its average here, as with top.
    """
    parameters = _PARAMETERS[model]
    parameters -= 0 if top else 1000 * (_FEATURES[model] + 1)
    return row.keras(
        model,
        f"convnext/{model}{'' if top else '_notop'}.h5",
        parameters,
        _mebibytes(parameters),
        None,
        top1,
        None,
        _CROP_875,
        license="Apache-2.0",
        sha256=sha256,
        options=_WITHOUT_DROP_PATH,
        top=top,
    )


ROWS = [
    *(
        row.torchvision(model, file, _PARAMETERS[model], size, top1, top5, Preprocess(resize=resize))
        for model, (file, size, top1, top5, resize) in _TORCHVISION.items()
    ),
    *_timm(_TIMM, "Apache-2.0"),
    *_timm(_V2, "CC-BY-NC-4.0"),
    *(_keras(model, sha256, top1, True) for model, (sha256, _, top1) in _KERAS.items()),
    *(_keras(model, sha256, None, False) for model, (_, sha256, _) in _KERAS.items()),
]
