"""The catalog: one row for every published weight set that jft reads. To add a weight set, add a row."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jft.data.preprocess import Preprocess
from jft.utils import tree
from jft.utils.registry import is_own
from jft.weights import catalog_facts as published

TOP = ("fc6", "fc7", "head")  # stages that a 'notop' weight set lacks


@dataclasses.dataclass(frozen=True)
class WeightSet:
    """A published weight set: its source, tensor names, license, accuracy and preprocessing.

    Attributes:
      model: key of `jft.models.MODELS`.
      tag: name of the weight set, unique for its model.
      dialect: naming scheme of the tensors: 'torchvision', 'timm', 'keras', 'caffe', or 'jft' for jft's leaf names.
      filename: name of the local copy.
      url: official address, or None.
      sha256: SHA-256 of the file, or its published first digits; None where only `md5` is published.
      md5: MD5 of the file, or None.
      size: size in MiB, rounded; checked after a download if no hash is published.
      license: license of the weights, as stated by their publisher.
      num_params: number of parameters in the file, as fields `file_options` of the model; statistics do not count.
      top1: published ImageNet top-1 accuracy in percent, or None.
      top5: published ImageNet top-5 accuracy in percent, or None.
      preprocess: preprocessing that the weights were trained with.
      options: model fields for differences that conversion cannot absorb.
      top: whether the file holds the fully connected layers, with a head of 1000 classes.
      aux: whether the file holds the model's auxiliary heads.
    """

    model: str
    tag: str
    dialect: str
    filename: str
    url: str | None
    sha256: str | None
    md5: str | None
    size: float
    license: str
    num_params: int
    top1: float | None
    top5: float | None
    preprocess: Preprocess
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    top: bool = True
    aux: bool = False

    @property
    def name(self) -> str:
        """'model.tag', unique in the catalog."""
        return f"{self.model}.{self.tag}"

    @property
    def file_options(self) -> dict[str, Any]:
        """Fields of the model that has a leaf for every tensor of the file: `options`, plus auxiliary heads."""
        return {**self.options, **({"aux_heads": True} if self.aux else {})}


def find_row(model: str, tag: str) -> WeightSet:
    """The catalog row of a model's weight set.

    Args:
      model: key of `jft.models.MODELS`, such as 'vgg19'.
      tag: name of the set, such as 'torchvision'.

    Returns:
      The row.

    Raises:
      ValueError: unknown model or tag; lists the known ones.
    """
    if is_own(model):
        raise ValueError(f"{model} is a network of your own without published weights: set weights = '' to train it.")
    tree.choose({row.model: row for row in CATALOG.values()}, model, what="model with published weights")
    return tree.choose({row.tag: row for row in CATALOG.values() if row.model == model}, tag, what=f"{model} weights")


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
        license="BSD-3-Clause",
        num_params=num_params,
        top1=top1,
        top5=top5,
        preprocess=published.PREPROCESS.get(f"{model}.{tag}", preprocess),
        aux=model in published.TORCHVISION_AUX,
    )


def _timm(model: str, tag: str, recipe: str, facts: tuple, preprocess: Preprocess) -> WeightSet:
    name = f"{model}.{recipe}"
    return dataclasses.replace(
        _torchvision(model, tag, facts, preprocess),
        dialect="timm",
        filename=f"{name}.safetensors",
        url=f"https://huggingface.co/timm/{name}/resolve/main/model.safetensors",
        sha256=published.TIMM_SHA256.get(name),
        license="Apache-2.0" if model == "inception_v3" else "BSD-3-Clause",  # as timm states it
        aux=False,
    )


def _keras(model: str, tag: str, facts: tuple, *, top: bool) -> WeightSet:
    path, num_params, size, md5, top1, top5 = facts
    path = f"{path}_weights_tf_dim_ordering_tf_kernels{'' if top else '_notop'}.h5"
    family = _family(model)
    return WeightSet(
        model=model,
        tag=tag,
        dialect="keras",
        filename=path.split("/")[-1],
        url=f"https://storage.googleapis.com/tensorflow/keras-applications/{path}",
        sha256=None,
        md5=md5,
        size=size,
        license=published.KERAS_LICENSES[family],
        num_params=num_params,
        top1=top1,
        top5=top5,
        preprocess=published.PREPROCESS.get(f"{model}.{tag}", published.KERAS),
        options=published.KERAS_OPTIONS[family],
        top=top,
    )


def _caffe(model: str, facts: tuple) -> WeightSet:
    filename, num_params, size, license, top1, top5, preprocess = facts
    return WeightSet(
        model=model,
        tag="caffe",
        dialect="caffe",
        filename=filename,
        url=published.CAFFE_URLS.get(model),
        sha256=published.CAFFE_SHA256.get(model),
        md5=None,
        size=size,
        license=license,
        num_params=num_params,
        top1=top1,
        top5=top5,
        preprocess=preprocess,
        options=published.CAFFE_OPTIONS.get(model, {}),
    )


def _family(model: str) -> str:
    """'vgg' of 'vgg19', 'inception' of 'inception_v3'."""
    return model.split("_")[0].rstrip("0123456789")


# Trained by jft with configs/digits04.py and included in the package: the weights of the quickstart.
_DIGITS = WeightSet(
    model="vgg_tiny",
    tag="digits04",
    dialect="jft",
    filename="vgg_tiny-digits04.safetensors",
    url=None,
    sha256="55faf18c0b01c30823877e6734f141fd713e1c66c8194bffce39fa968a2407ea",
    md5=None,
    size=0.4,
    license="Apache-2.0",
    num_params=93_669,
    top1=None,  # ImageNet accuracy does not apply
    top5=None,
    preprocess=Preprocess(size=32, resize=37),
    options={"num_classes": 5},
)

CATALOG: dict[str, WeightSet] = {
    row.name: row
    for row in [
        *(_torchvision(m, "torchvision", facts, published.IMAGENET) for m, facts in published.TORCHVISION.items()),
        *(
            _torchvision(m, "torchvision_v2", facts, published.IMAGENET_V2)
            for m, facts in published.TORCHVISION_V2.items()
        ),
        *(_timm(m, "timm", "tv_in1k", facts, published.IMAGENET) for m, facts in published.TIMM.items()),
        *(
            _timm(m, "timm_v2", "tv2_in1k", facts, published.IMAGENET_V2)
            for m, facts in published.TORCHVISION_V2.items()
        ),
        *(_keras(m, "keras", facts, top=True) for m, facts in published.KERAS_TOP.items()),
        *(_keras(m, "keras_notop", facts, top=False) for m, facts in published.KERAS_NOTOP.items()),
        *(_caffe(m, facts) for m, facts in published.CAFFE_SETS.items()),
        _DIGITS,
    ]
}


def choose_set(name: str) -> WeightSet:
    """The weight set of a name such as 'vgg19.torchvision'; ValueError with the nearest names if there is none."""
    if name in CATALOG:
        return CATALOG[name]
    own = [other for other, row in CATALOG.items() if row.model == name]
    guess = f": it is one of {', '.join(own)}." if own else tree.did_you_mean(name, CATALOG) or "."
    raise ValueError(f"unknown weight set {name!r}{guess} `jft weights list` shows all {len(CATALOG)}.")
