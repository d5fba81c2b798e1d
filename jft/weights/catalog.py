"""The catalog: one row of facts for every published weight set that jft reads. Adding one is adding a row."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jft import tree
from jft.data.preprocess import Preprocess

TOP = ("fc6", "fc7", "head")  # stages that a set without top does not hold


@dataclasses.dataclass(frozen=True)
class WeightSet:
    """Where a weight set comes from, how its tensors are named, and what it was trained to read.

    Attributes:
      model: key of `jft.models.MODELS`.
      tag: name of the set among those of its model.
      dialect: 'torchvision', 'timm', 'keras', 'caffe', or 'jft' for jft's own leaf names.
      filename: of the local copy.
      url: official address, or None where there is none.
      sha256: of the file, or the first digits that its publisher vouches for; None where only `md5` is published.
      md5: of the file, or None.
      size: MiB, rounded; checked after a download where no hash is known.
      licence: of the weights, as their publisher states it.
      num_params: trained parameters that jft gets out of the file; statistics are not counted.
      top1: published ImageNet accuracy in percent, or None.
      top5: likewise.
      preprocess: what the weights read.
      options: fields of the model that no conversion can absorb.
      top: whether the file holds the fully connected layers, with a head of 1000 classes.
    """

    model: str
    tag: str
    dialect: str
    filename: str
    url: str | None
    sha256: str | None
    md5: str | None
    size: float
    licence: str
    num_params: int
    top1: float | None
    top5: float | None
    preprocess: Preprocess
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    top: bool = True

    @property
    def name(self) -> str:
        """'model.tag', unique in the catalog."""
        return f"{self.model}.{self.tag}"


def find_row(model: str, tag: str) -> WeightSet:
    """The catalog row of a model's weight set.

    Args:
      model: key of `jft.models.MODELS`, such as 'vgg19'.
      tag: name of the set, such as 'torchvision'.

    Returns:
      The row.

    Raises:
      ValueError: no such model or set; lists those there are.
    """
    tree.choose({row.model: row for row in CATALOG.values()}, model, what="model with published weights")
    return tree.choose({row.tag: row for row in CATALOG.values() if row.model == model}, tag, what=f"{model} weights")


# Bilinear resize of the shorter side to 256 with antialias, central crop of 224, RGB, ImageNet's mean and std.
_IMAGENET = Preprocess()
# The second recipe of torchvision crops less (crop_pct 0.965 in timm).
_IMAGENET_V2 = Preprocess(resize=232)
# "caffe" mode of keras.applications.imagenet_utils: BGR, grey levels 0 .. 255 minus the mean of ImageNet.
_KERAS = Preprocess(channels="BGR", scale=1.0, mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0))
# Caffe's rounded mean. Its prototxt crops 227; of 100 ImageNet pictures 224, as in all other rows, gets 65 right (83 in
# the first five), 227 gets 63 (85).
_CAFFE = Preprocess(channels="BGR", scale=1.0, mean=(104.0, 117.0, 123.0), std=(1.0, 1.0, 1.0))

# torchvision, IMAGENET1K_V1: https://download.pytorch.org/models/{file}.pth. The digits that end the name begin the
# SHA-256 (torch.hub checks them). VGG16's IMAGENET1K_FEATURES is left out on purpose: its classifier is not trained.
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
    "resnet18": ("resnet18-f37072fd", 11_689_512, 44.661, 69.758, 89.078),
    "resnet34": ("resnet34-b627a593", 21_797_672, 83.275, 73.314, 91.420),
    "resnet50": ("resnet50-0676ba61", 25_557_032, 97.781, 76.130, 92.862),
    "resnet101": ("resnet101-63fe2227", 44_549_160, 170.511, 77.374, 93.546),
    "resnet152": ("resnet152-394f9c45", 60_192_808, 230.434, 78.312, 94.046),
    "squeezenet1_0": ("squeezenet1_0-b66bff10", 1_248_424, 4.778, 58.092, 80.420),
    "squeezenet1_1": ("squeezenet1_1-b8a52dc0", 1_235_496, 4.729, 58.178, 80.624),
}
_TORCHVISION_V2 = {
    "resnet50": ("resnet50-11ad3fa6", 25_557_032, 97.790, 80.858, 95.434),
    "resnet101": ("resnet101-cd907fc2", 44_549_160, 170.530, 81.886, 95.780),
    "resnet152": ("resnet152-f82ba261", 60_192_808, 230.474, 82.284, 96.002),
}
# timm publishes torchvision's weights again, as safetensors: https://huggingface.co/timm/{model}.{recipe}. There is no
# SqueezeNet. Accuracies are torchvision's; timm measured those of four models again, within 0.03. SHA-256 where known.
_TIMM_SHA256 = {
    "vgg11.tv_in1k": "682c023808812148d4e60c76d80ad83dbeaf5d50eb1a952a0b836895003151e5",
    "vgg16.tv_in1k": "57b026918159a6bf9faf8405c3a551903768e7138989d9c6224a14227203fad8",
    "vgg19.tv_in1k": "11aea017b543ff59233749d8f1cf544cda749378f5790d2fedab841fb86b7669",
    "resnet18.tv_in1k": "694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81",
    "resnet34.tv_in1k": "0bb82595a564991a9d424708b33f5d843f5aaed7f6c0886ff10849ff97022235",
    "resnet50.tv_in1k": "5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888",
}
# Keras, https://storage.googleapis.com/tensorflow/keras-applications/{file}_weights_tf_dim_ordering_tf_kernels.h5 and
# …_notop.h5. Only MD5 is published. Keras counts 25 636 712 parameters in ResNet50, with the moving statistics and the
# convolutions' biases, which conversion folds into them. The accuracies are keras.io's; users measure others
# (keras#8672, keras#10040).
_KERAS_TOP = {
    # model: file, parameters, MiB, MD5, top-1, top-5
    "vgg16": ("vgg16/vgg16", 138_357_544, 527.8, "64373286793e3c8b2b4e3219cbf3544b", 71.3, 90.1),
    "vgg19": ("vgg19/vgg19", 143_667_240, 548.1, "cbe5617147190e668d6c5d5026f83318", 71.3, 90.0),
    "resnet50": ("resnet/resnet50", 25_557_032, 98.2, "2cb95161c43110f7111970584f804107", 74.9, 92.1),
    "resnet101": ("resnet/resnet101", 44_549_160, 171.3, "f1aeb4b969a6efcfb50fad2f0c20cfc5", 76.4, 92.8),
    "resnet152": ("resnet/resnet152", 60_192_808, 231.6, "100835be76be38e30d865e96f2aaae62", 76.6, 93.1),
}
_KERAS_NOTOP = {
    "vgg16": ("vgg16/vgg16", 14_714_688, 56.2, "6d6bbae143d832006294945121d1f1fc", None, None),
    "vgg19": ("vgg19/vgg19", 20_024_384, 76.4, "253f8cb515780f3b799900260a226db6", None, None),
    "resnet50": ("resnet/resnet50", 23_508_032, 90.4, "4d473c1dd8becc155b73f8504c6f6626", None, None),
    "resnet101": ("resnet/resnet101", 42_500_160, 163.5, "88cf7a10940856eca736dc7b7e228a21", None, None),
    "resnet152": ("resnet/resnet152", 58_143_808, 223.8, "ee4c566cf9a93f14d82f913c2dc6dd0c", None, None),
}


def _torchvision(model: str, tag: str, facts: tuple, preprocess: Preprocess) -> WeightSet:
    file, num_params, size, top1, top5 = facts
    return WeightSet(
        model=model,
        tag=tag,
        dialect="torchvision",
        filename=f"{file}.pth",
        url=f"https://download.pytorch.org/models/{file}.pth",
        sha256=file.split("-")[-1],
        md5=None,
        size=size,
        licence="BSD-3-Clause",
        num_params=num_params,
        top1=top1,
        top5=top5,
        preprocess=preprocess,
    )


def _timm(model: str, tag: str, recipe: str, facts: tuple, preprocess: Preprocess) -> WeightSet:
    name = f"{model}.{recipe}"
    return dataclasses.replace(
        _torchvision(model, tag, facts, preprocess),
        dialect="timm",
        filename=f"{name}.safetensors",
        url=f"https://huggingface.co/timm/{name}/resolve/main/model.safetensors",
        sha256=_TIMM_SHA256.get(name),
    )


def _keras(model: str, tag: str, facts: tuple, *, top: bool) -> WeightSet:
    path, num_params, size, md5, top1, top5 = facts
    path = f"{path}_weights_tf_dim_ordering_tf_kernels{'' if top else '_notop'}.h5"
    vgg = model.startswith("vgg")
    return WeightSet(
        model=model,
        tag=tag,
        dialect="keras",
        filename=path.split("/")[-1],
        url=f"https://storage.googleapis.com/tensorflow/keras-applications/{path}",
        sha256=None,
        md5=md5,
        size=size,
        licence="CC-BY-4.0" if vgg else "MIT",  # as Oxford's VGG and Kaiming He's ResNet, whose weights these are
        num_params=num_params,
        top1=top1,
        top5=top5,
        preprocess=_KERAS,
        # Keras' VGG pools no other map to 7x7; its ResNet is the paper's, and its BatchNorm forgets ten times slower.
        options={"adaptive_pool": False} if vgg else {"stride_in_1x1": True, "bn_momentum": 0.99},
        top=top,
    )


_SQUEEZENET_CAFFE = WeightSet(
    model="squeezenet1_1",
    tag="caffe",
    dialect="caffe",
    filename="squeezenet_v1.1.npy",
    # github.com/forresti/SqueezeNet has the caffemodel; its copies as {layer: [weights, biases]} have no one address.
    url=None,
    sha256="4f2207c551d2ca71c4699709779ca3871b2fe65cdfe6bc9180af16bbad8ec5f5",
    md5=None,
    size=6.5,
    licence="BSD-2-Clause",
    num_params=1_235_496,
    top1=None,  # the authors state none for 1.1, only that it does not fall behind 1.0
    top5=None,
    preprocess=_CAFFE,
)

# What jft itself trained, with configs/digits04.py, and carries in the package: the quickstart's weights.
_DIGITS = WeightSet(
    model="vgg_tiny",
    tag="digits04",
    dialect="jft",
    filename="vgg_tiny-digits04.safetensors",
    url=None,
    sha256="55faf18c0b01c30823877e6734f141fd713e1c66c8194bffce39fa968a2407ea",
    md5=None,
    size=0.4,
    licence="Apache-2.0",
    num_params=93_669,
    top1=None,  # these are accuracies on ImageNet
    top5=None,
    preprocess=Preprocess(size=32, resize=37),
    options={"num_classes": 5},
)

CATALOG: dict[str, WeightSet] = {
    row.name: row
    for row in [
        *(_torchvision(model, "torchvision", facts, _IMAGENET) for model, facts in _TORCHVISION.items()),
        *(_torchvision(model, "torchvision_v2", facts, _IMAGENET_V2) for model, facts in _TORCHVISION_V2.items()),
        *(
            _timm(model, "timm", "tv_in1k", facts, _IMAGENET)
            for model, facts in _TORCHVISION.items()
            if not model.startswith("squeezenet")
        ),
        *(_timm(model, "timm_v2", "tv2_in1k", facts, _IMAGENET_V2) for model, facts in _TORCHVISION_V2.items()),
        *(_keras(model, "keras", facts, top=True) for model, facts in _KERAS_TOP.items()),
        *(_keras(model, "keras_notop", facts, top=False) for model, facts in _KERAS_NOTOP.items()),
        _SQUEEZENET_CAFFE,
        _DIGITS,
    ]
}
