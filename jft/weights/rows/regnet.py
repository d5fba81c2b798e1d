"""Weight sets of RegNet."""

from jft.weights.rows import row
from jft.weights.rows.preprocessing import IMAGENET, IMAGENET_V2, cropped

_PARAMS = {
    "regnet_x_400mf": 5_495_976,
    "regnet_x_800mf": 7_259_656,
    "regnet_x_1_6gf": 9_190_136,
    "regnet_x_3_2gf": 15_296_552,
    "regnet_x_8gf": 39_572_648,
    "regnet_y_400mf": 4_344_144,
    "regnet_y_800mf": 6_432_512,
    "regnet_y_1_6gf": 11_202_430,
    "regnet_y_3_2gf": 19_436_338,
    "regnet_y_8gf": 39_381_472,
}
_TORCHVISION = {
    # file: MiB, top-1, top-5
    "regnet_x_400mf-adf1edd5": (21.258, 72.834, 90.950),
    "regnet_x_800mf-ad17e45c": (27.945, 75.212, 92.348),
    "regnet_x_1_6gf-e3633e7f": (35.339, 77.040, 93.440),
    "regnet_x_3_2gf-f342aeae": (58.756, 78.364, 93.992),
    "regnet_x_8gf-03ceed89": (151.456, 79.344, 94.686),
    "regnet_y_400mf-c65dace8": (16.806, 74.046, 91.716),
    "regnet_y_800mf-1b27b58c": (24.774, 76.420, 93.136),
    "regnet_y_1_6gf-b11a554e": (43.152, 77.950, 93.966),
    "regnet_y_3_2gf-b5a9779c": (74.567, 78.948, 94.576),
    "regnet_y_8gf-d0d0e4a8": (150.701, 80.032, 95.048),
}
_TORCHVISION_V2 = {
    "regnet_x_400mf-62229a5f": (21.257, 74.864, 92.322),
    "regnet_x_800mf-94a99ebd": (27.945, 77.522, 93.826),
    "regnet_x_1_6gf-a12f2b72": (35.339, 79.668, 94.922),
    "regnet_x_3_2gf-7071aa85": (58.756, 81.196, 95.430),
    "regnet_x_8gf-2b70d774": (151.456, 81.682, 95.678),
    "regnet_y_400mf-e6988f5f": (16.806, 75.804, 92.742),
    "regnet_y_800mf-58fc7688": (24.774, 78.828, 94.502),
    "regnet_y_1_6gf-0d7bc02a": (43.152, 80.876, 95.444),
    "regnet_y_3_2gf-9180c971": (74.567, 81.982, 95.972),
    "regnet_y_8gf-dc2b1b54": (150.701, 82.828, 96.330),
}
# Of timm: torchvision's second sets, which it reads bicubically; the paper's own, of pycls, where its networks are
# these; and one that it trained. Accuracies: its results/results-imagenet.csv.
_TIMM = {
    # name in timm: model, MiB, top-1, top-5
    "regnetx_004_tv.tv2_in1k": ("regnet_x_400mf", 21.1, 74.596, 92.140),
    "regnetx_008.tv2_in1k": ("regnet_x_800mf", 27.9, 77.294, 93.664),
    "regnetx_016.tv2_in1k": ("regnet_x_1_6gf", 35.3, 79.440, 94.768),
    "regnetx_032.tv2_in1k": ("regnet_x_3_2gf", 58.6, 80.916, 95.248),
    "regnetx_080.tv2_in1k": ("regnet_x_8gf", 151.3, 81.552, 95.540),
    "regnety_004.tv2_in1k": ("regnet_y_400mf", 16.7, 75.594, 92.706),
    "regnety_008_tv.tv2_in1k": ("regnet_y_800mf", 24.7, 78.672, 94.380),
    "regnety_016.tv2_in1k": ("regnet_y_1_6gf", 43.0, 80.668, 95.336),
    "regnety_032.tv2_in1k": ("regnet_y_3_2gf", 74.4, 81.788, 95.826),
    "regnety_080_tv.tv2_in1k": ("regnet_y_8gf", 150.6, 82.580, 96.260),
    "regnetx_008.pycls_in1k": ("regnet_x_800mf", 27.9, 75.054, 92.338),
    "regnetx_016.pycls_in1k": ("regnet_x_1_6gf", 35.3, 76.936, 93.432),
    "regnetx_032.pycls_in1k": ("regnet_x_3_2gf", 58.6, 78.160, 94.088),
    "regnetx_080.pycls_in1k": ("regnet_x_8gf", 151.3, 79.214, 94.542),
    "regnety_004.pycls_in1k": ("regnet_y_400mf", 16.7, 74.004, 91.756),
    "regnety_016.pycls_in1k": ("regnet_y_1_6gf", 43.0, 77.880, 93.726),
    "regnety_032.pycls_in1k": ("regnet_y_3_2gf", 74.4, 78.902, 94.426),
    "regnety_032.ra_in1k": ("regnet_y_3_2gf", 74.4, 81.948, 95.972),
}
_RECIPES = {
    # timm's: tag, preprocessing, license
    "tv2": ("timm_v2", cropped(0.965), "BSD-3-Clause"),
    "pycls": ("pycls", cropped(0.875), "MIT"),
    "ra": ("ra", cropped(0.95), "Apache-2.0"),
}


def _torchvision(file: str, size: float, top1: float, top5: float) -> row.WeightSet:
    model, second = file.split("-")[0], file in _TORCHVISION_V2
    spec, tag = (IMAGENET_V2, "torchvision_v2") if second else (IMAGENET, "torchvision")
    return row.torchvision(model, file, _PARAMS[model], size, top1, top5, spec, tag=tag)


def _timm(name: str, model: str, size: float, top1: float, top5: float) -> row.WeightSet:
    tag, spec, license = _RECIPES[name.split(".")[1].removesuffix("_in1k")]
    return row.timm(model, name, _PARAMS[model], size, top1, top5, spec, tag=tag, license=license)


ROWS = [
    *(_torchvision(file, *facts) for file, facts in (_TORCHVISION | _TORCHVISION_V2).items()),
    *(_timm(name, *facts) for name, facts in _TIMM.items()),
]
