"""Preprocessing as data: what a weight set asks of a picture, and the functions that give it, on host and on device."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """What a weight set was trained to read. The catalog row holds one; nothing else in jft knows a mean.

    A picture is resized so that its shorter side is `resize`, cropped centrally to `size`, multiplied by `scale`,
    put in the order of `channels`, and normalised as `(x - mean) / std`.

    Attributes:
      size: side of the square that the network reads, in pixels.
      resize: shorter side before the central crop, in pixels.
      interpolation: 'bilinear' or 'bicubic'.
      antialias: whether shrinking averages over the pixels it skips, as PIL and torchvision do.
      channels: order in which the network reads them, 'RGB' or 'BGR'.
      scale: factor from grey levels 0 .. 255 to the range of `mean` and `std`.
      mean: per channel, in the order of `channels`, after `scale`.
      std: per channel, likewise.
    """

    size: int = 224
    resize: int = 256
    interpolation: str = "bilinear"
    antialias: bool = True
    channels: str = "RGB"
    scale: float = 1 / 255
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
