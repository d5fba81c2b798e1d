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
      dialect: naming scheme of the tensors, such as 'torchvision', 'timm' or 'keras'; 'jft' for jft's leaf names.
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
    model: str, file: str, *facts: Any, tag: str = "torchvision", license: str = "BSD-3-Clause", **fields: Any
) -> WeightSet:
    """A set of https://download.pytorch.org/models. The digits that end `file` begin the SHA-256 (torch.hub checks).

    Args:
      model: key of `jft.models.MODELS`.
      file: name of the file, without its ending.
      *facts: see `_FACTS`.
      tag: of the set.
      license: of the weights.
      **fields: further ones of `WeightSet`.
    """
    url = f"https://download.pytorch.org/models/{file}.pth"
    named = {"tag": tag, "dialect": "torchvision", "filename": f"{file}.pth", "url": url, "license": license}
    return _row(model, facts, sha256=file.split("-")[-1], **named, **fields)


def timm(model: str, name: str, *facts: Any, license: str = "Apache-2.0", **fields: Any) -> WeightSet:
    """A set of https://huggingface.co/timm; `name` is timm's, 'model.recipe'. The hub publishes no hash beside it.

    Further arguments as those of `torchvision`; `tag` among the fields is needed.
    """
    url = f"https://huggingface.co/timm/{name}/resolve/main/model.safetensors"
    named = {"dialect": "timm", "filename": f"{name}.safetensors", "url": url, "license": license}
    return _row(model, facts, **named, **fields)


def keras(
    model: str,
    path: str,
    num_params: int,
    size: float,
    md5: str | None,
    *facts: Any,
    top: bool = True,
    base: str = "https://storage.googleapis.com/tensorflow/keras-applications",
    **fields: Any,
) -> WeightSet:
    """A set of keras.applications; `path` lies under `base`. Keras publishes MD5, or SHA-256, or neither.

    Further arguments as those of `torchvision`, with `md5` among the facts; `license` among the fields is needed.
    """
    named = {"tag": "keras" if top else "keras_notop", "dialect": "keras", "filename": path.split("/")[-1]}
    return _row(model, (num_params, size, *facts), url=f"{base}/{path}", md5=md5, top=top, **named, **fields)


def caffe(
    model: str, filename: str, num_params: int, size: float, license: str, *facts: Any, **fields: Any
) -> WeightSet:
    """What Caffe trained, as {layer: [weights, biases]} in an npy file, as caffe-tensorflow writes it.

    Such copies of the caffemodels have no one address, but for AlexNet's, and no published hash; sizes are those of the
    numbers alone. Accuracies, one central crop: github.com/BVLC/caffe models/*/readme.md; keras.io for VGG, the same
    numbers; the paper for SqueezeNet 1.0, of whose 1.1 the authors only say that it does not fall behind. Arguments as
    those of `torchvision`, with `license` among the facts.
    """
    named = {"tag": "caffe", "dialect": "caffe", "filename": filename, "license": license}
    return _row(model, (num_params, size, *facts), **named, **fields)


# What every row says, in this order; see `WeightSet`.
_FACTS = ("num_params", "size", "top1", "top5", "preprocess")


def _row(model: str, facts: tuple[Any, ...], **fields: Any) -> WeightSet:
    return WeightSet(
        **{"model": model, "url": None, "sha256": None, "md5": None, **fields}, **dict(zip(_FACTS, facts, strict=True))
    )
