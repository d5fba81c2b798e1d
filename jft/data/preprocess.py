"""`Preprocess`: what a weight set expects of images, and the geometry that follows from it. Needs no JAX."""

import dataclasses
from typing import Any

from jft.utils import tree
from jft.utils.color import check_background

# Values of fields that older specs lack.
_BEFORE = {"background": "", "max_value": 0.0}

FITS = ("crop", "whole")  # ways to fit an image to a square, see `to_model_input`


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """The preprocessing that a weight set was trained with. It is part of the weight set's row in the catalog.

    An image is resized so that its shorter side is `resize`, center-cropped to `size`, put in the order of `channels`
    or made gray, multiplied by `scale`, and normalized as `(x - mean) / std`.

    Attributes:
      size: side of the square that the network reads, in pixels.
      resize: shorter side before the central crop, in pixels.
      interpolation: 'bilinear' or 'bicubic'.
      antialias: whether downsampling averages over all covered pixels, as PIL and torchvision do.
      channels: channel order of the network, 'RGB' or 'BGR'; or 'L', gray levels as ITU-R 601 weighs red, green and
        blue, as of Pillow's mode L.
      scale: factor from gray levels 0 .. 255 to the range of `mean` and `std`.
      mean: mean of each channel, in the order of `channels`, after `scale`.
      std: standard deviation of each channel, in the order of `channels`, after `scale`.
      background: color behind transparent pixels, by its name in `PIL.ImageColor`; empty: drop alpha and read the
        hidden colors.
      max_value: the value of white in images of more than 8 bits a pixel, see `gray_levels`; 0: unknown.

    Raises:
      ValueError: a field has an invalid value.
    """

    size: int = 224
    resize: int = 256
    interpolation: str = "bilinear"
    antialias: bool = True
    channels: str = "RGB"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    background: str = "white"
    max_value: float = 0.0

    def __post_init__(self) -> None:
        tree.choose({"bilinear": 1, "bicubic": 1}, self.interpolation, what="interpolation")
        tree.choose({"RGB": 1, "BGR": 1, "L": 1}, self.channels, what="order of channels")
        for name in ("size", "resize", "scale"):
            if not getattr(self, name) > 0:
                raise ValueError(f"Preprocess.{name} is {getattr(self, name)}; it must be positive.")
        count = len(self.channels)
        if len(self.mean) != count or len(self.std) != count or not all(s > 0 for s in self.std):
            raise ValueError(
                f"Preprocess of {self.channels} needs as many means and positive stds as channels, {count}, not "
                f"mean={self.mean}, std={self.std}."
            )
        if not self.max_value >= 0:
            raise ValueError(f"Preprocess.max_value is {self.max_value}; it must be 0 or above.")
        check_background(self.background)

    def at(self, size: int) -> "Preprocess":
        """The same preprocessing for another input size in pixels, with `resize` in proportion."""
        return dataclasses.replace(self, size=size, resize=round(self.resize * size / self.size))

    def gray(self) -> "Preprocess":
        """The same preprocessing for a network that reads one channel: gray levels, the means of `mean` and `std`."""
        mean, std = (round(sum(values) / len(values), 6) for values in (self.mean, self.std))
        return dataclasses.replace(self, channels="L", mean=(mean,), std=(std,))

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dict of JSON types."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Preprocess":
        """Inverse of `to_dict`. ValueError for an unknown or missing field, so that none silently gets a default."""
        fields = _BEFORE | fields
        known = {field.name: None for field in dataclasses.fields(cls)}
        for name in fields:
            tree.choose(known, name, what="preprocessing field")
        if missing := [name for name in known if name not in fields]:
            raise ValueError(f"preprocessing lacks {', '.join(missing)}.")
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
        return cls(**values)


def scaled_size(height: int, width: int, short: int) -> tuple[int, int]:
    """Height and width after resizing the shorter side to `short`, rounded down like torchvision's Resize."""
    if height <= width:
        return short, int(short * width / height)
    return int(short * height / width), short


def crop_offset(length: int, size: int) -> int:
    """Pixels before a central crop, rounded half to even like torchvision's CenterCrop."""
    return round((length - size) / 2)


def stored_size(spec: Preprocess, fit: str) -> int:
    """Side in pixels of the squares made on the host: `spec.resize` for 'crop', which the device then crops."""
    return spec.resize if check_fit(fit) == "crop" else spec.size


def stored_offset(length: int, spec: Preprocess) -> int:
    """Pixels before the central square of side `spec.resize`, from which the device crops `spec.size`.

    Both crops round. This one is placed so that together they match torchvision's single CenterCrop(size).
    """
    return crop_offset(length, spec.size) - crop_offset(spec.resize, spec.size)


def check_fit(fit: str) -> str:
    """Returns `fit`; ValueError unless it is one of `FITS`."""
    tree.choose(dict.fromkeys(FITS), fit, what="fit")
    return fit
