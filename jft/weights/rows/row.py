"""`WeightSet`, a row of the catalog; and the rows of each dialect, made of the facts that differ."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jft.data.preprocess import Preprocess


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
      dtype: type of the numbers in the file, which become float32.
      license: license of the weights, as stated by their publisher.
      num_params: number of parameters in the file, as fields `file_options` of the model; statistics do not count.
      top1: published ImageNet top-1 accuracy in percent, or None.
      top5: published ImageNet top-5 accuracy in percent, or None.
      preprocess: preprocessing that the weights were trained with.
      options: model fields for differences that conversion cannot absorb.
      top: whether the file holds the fully connected layers, with a head of 1000 classes.
      aux: whether the file holds the model's auxiliary heads.
      fit: how an image becomes a square, 'crop' or 'whole', where published accuracies are measured.
      class_names: what the logits mean; None: ImageNet's classes, if they are 1000.
      repository: of a set that is no row of the catalog, the repository that it was made of: 'hf:owner/name'.
      path: the file itself, where it lies outside of jft's cache; '': none does.
      variant: distinguishes the sets of one model and dialect that have other `options` than the rest of them.
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
    dtype: str = "float32"
    fit: str = "crop"
    class_names: tuple[str, ...] | None = None
    repository: str = ""
    path: str = ""
    variant: str = ""

    @property
    def proof(self) -> str:
        """Name of the proof that it shares with the other sets of its model, dialect and variant."""
        return f"{self.model}.{self.dialect}{f'.{self.variant}' if self.variant else ''}"

    @property
    def name(self) -> str:
        """'model.tag', unique in the catalog; of a repository its name."""
        return self.repository or f"{self.model}.{self.tag}"

    @property
    def file_options(self) -> dict[str, Any]:
        """Fields of the model that has a leaf for every tensor of the file: `options`, plus auxiliary heads."""
        return {**self.options, **({"aux_heads": True} if self.aux else {})}


def torchvision(
    model: str,
    file: str,
    num_params: int,
    size: float,
    top1: float,
    top5: float,
    preprocess: Preprocess,
    *,
    tag: str = "torchvision",
    license: str = "BSD-3-Clause",
    options: Mapping[str, Any] | None = None,
    aux: bool = False,
    dtype: str = "float32",
) -> WeightSet:
    """A set of https://download.pytorch.org/models. The digits that end `file` begin the SHA-256 (torch.hub checks)."""
    return WeightSet(
        model=model,
        tag=tag,
        dialect="torchvision",
        filename=f"{file}.pth",
        url=f"https://download.pytorch.org/models/{file}.pth",
        sha256=file.split("-")[-1],
        md5=None,
        size=size,
        license=license,
        num_params=num_params,
        top1=top1,
        top5=top5,
        preprocess=preprocess,
        options=options or {},
        aux=aux,
        dtype=dtype,
    )


def timm(
    model: str,
    name: str,
    num_params: int,
    size: float,
    top1: float | None,
    top5: float | None,
    preprocess: Preprocess,
    *,
    tag: str,
    license: str = "Apache-2.0",
    sha256: str | None = None,
    options: Mapping[str, Any] | None = None,
    top: bool = True,
    variant: str = "",
) -> WeightSet:
    """A set of https://huggingface.co/timm; `name` is timm's, 'model.recipe'. The hub publishes no hash beside it."""
    return WeightSet(
        model=model,
        tag=tag,
        dialect="timm",
        filename=f"{name}.safetensors",
        url=f"https://huggingface.co/timm/{name}/resolve/main/model.safetensors",
        sha256=sha256,
        md5=None,
        size=size,
        license=license,
        num_params=num_params,
        top1=top1,
        top5=top5,
        preprocess=preprocess,
        options=options or {},
        top=top,
        variant=variant,
    )


def keras(
    model: str,
    path: str,
    num_params: int,
    size: float,
    md5: str | None,
    top1: float | None,
    top5: float | None,
    preprocess: Preprocess,
    *,
    license: str,
    sha256: str | None = None,
    options: Mapping[str, Any] | None = None,
    top: bool = True,
    base: str = "https://storage.googleapis.com/tensorflow/keras-applications",
) -> WeightSet:
    """A set of keras.applications; `path` lies under `base`. Keras publishes MD5, or SHA-256, or neither."""
    return WeightSet(
        model=model,
        tag="keras" if top else "keras_notop",
        dialect="keras",
        filename=path.split("/")[-1],
        url=f"{base}/{path}",
        sha256=sha256,
        md5=md5,
        size=size,
        license=license,
        num_params=num_params,
        top1=top1,
        top5=top5,
        preprocess=preprocess,
        options=options or {},
        top=top,
    )


def caffe(
    model: str,
    filename: str,
    num_params: int,
    size: float,
    license: str,
    top1: float | None,
    top5: float | None,
    preprocess: Preprocess,
    *,
    url: str | None = None,
    sha256: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> WeightSet:
    """What Caffe trained, as {layer: [weights, biases]} in an npy file, as caffe-tensorflow writes it.

    Such copies of the caffemodels have no one address, but for AlexNet's, and no published hash; sizes are those of the
    numbers alone. Accuracies, one central crop: github.com/BVLC/caffe models/*/readme.md; keras.io for VGG, the same
    numbers; the paper for SqueezeNet 1.0, of whose 1.1 the authors only say that it does not fall behind.
    """
    return WeightSet(
        model=model,
        tag="caffe",
        dialect="caffe",
        filename=filename,
        url=url,
        sha256=sha256,
        md5=None,
        size=size,
        license=license,
        num_params=num_params,
        top1=top1,
        top5=top5,
        preprocess=preprocess,
        options=options or {},
    )
