"""Weight sets of DenseNet."""

from jft.weights.rows import row
from jft.weights.rows.preprocessing import IMAGENET, cropped

_TORCHVISION = {
    # model: file, parameters, MiB, top-1, top-5
    "densenet121": ("densenet121-a639ec97", 7_978_856, 30.845, 74.434, 91.972),
    "densenet161": ("densenet161-8d451a50", 28_681_000, 110.369, 77.138, 93.560),
    "densenet169": ("densenet169-b2777c0a", 14_149_480, 54.708, 75.600, 92.806),
    "densenet201": ("densenet201-c1103571", 20_013_928, 77.373, 76.896, 93.370),
}
# timm publishes torchvision's weights again, which it reads bicubically, and has trained one of its own. Accuracies:
# its results/results-imagenet.csv.
_TIMM = {
    # set: MiB, top-1, top-5
    "densenet121.tv": (30.8, 74.750, 92.158),
    "densenet161.tv": (110.4, 77.384, 93.656),
    "densenet169.tv": (54.7, 75.922, 92.976),
    "densenet201.tv": (77.4, 77.284, 93.480),
    "densenet121.ra": (30.8, 75.574, 92.648),
}
# torchvision's preprocessing ("torch" mode), after a resize that Keras leaves to its users. BatchNorm forgets ten times
# slower. Accuracies: README of keras-applications 1.0; the license is that of the paper's own weights.
_KERAS_OPTIONS = {"bn_momentum": 0.99}
_KERAS = {
    # model: parameters, MiB, MD5, top-1, top-5
    "densenet121": (7_978_856, 31.7, "9d60b8095a5708f2dcce2bca79d332c7", 74.520, 91.978),
    "densenet169": (14_149_480, 55.9, "d699b8f76981ab1b30698df4c175e90b", 76.074, 93.108),
    "densenet201": (20_013_928, 78.7, "1ceb130c1ea1b78c3bf6114dbdfd8807", 77.064, 93.458),
}
_KERAS_NOTOP = {
    "densenet121": (6_953_856, 27.8, "30ee3e1110167f948a6b9946edeeb738", None, None),
    "densenet169": (12_484_480, 49.5, "b8c4d4c20dd625c148057b9ff1c1176b", None, None),
    "densenet201": (18_092_928, 71.4, "c13680b51ded0fb44dff2d8f86ac8bb1", None, None),
}
_FILE = "densenet/{}_weights_tf_dim_ordering_tf_kernels"


def _timm(name: str, size: float, top1: float, top5: float) -> row.WeightSet:
    model, recipe = name.split(".")
    tag = "timm" if recipe == "tv" else recipe
    return row.timm(model, f"{name}_in1k", _TORCHVISION[model][1], size, top1, top5, cropped(0.875), tag=tag)


def _keras(model: str, num_params: int, size: float, md5: str, top1: float | None, top5: float | None) -> row.WeightSet:
    top = top1 is not None
    path = f"{_FILE.format(model)}{'' if top else '_notop'}.h5"
    facts = (num_params, size, md5, top1, top5, IMAGENET)
    return row.keras(model, path, *facts, license="BSD-3-Clause", options=_KERAS_OPTIONS, top=top)


ROWS = [
    *(row.torchvision(model, *facts, IMAGENET) for model, facts in _TORCHVISION.items()),
    *(_timm(name, *facts) for name, facts in _TIMM.items()),
    *(_keras(model, *facts) for model, facts in (*_KERAS.items(), *_KERAS_NOTOP.items())),
]
