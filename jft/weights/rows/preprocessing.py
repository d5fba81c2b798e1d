"""The preprocessing that whole dialects share. What one family has for itself stands in the family's file."""

import math

from jft.data.preprocess import Preprocess

# Bilinear resize of the shorter side to 256 with antialias, central crop of 224, RGB, ImageNet's mean and std.
IMAGENET = Preprocess()
# The second recipe of torchvision crops less (crop_pct 0.965 in timm).
IMAGENET_V2 = Preprocess(resize=232)
# "caffe" mode of keras.applications.imagenet_utils: BGR, gray levels 0 .. 255 minus the mean of ImageNet.
KERAS_CAFFE = Preprocess(channels="BGR", scale=1.0, mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0))
# Caffe's rounded mean.
CAFFE = Preprocess(channels="BGR", scale=1.0, mean=(104.0, 117.0, 123.0), std=(1.0, 1.0, 1.0))


def half(size: int = 224, resize: int = 256, interpolation: str = "bilinear") -> Preprocess:
    """-1 .. 1, which Google trains with ("tf" mode of Keras); sizes in pixels as in `Preprocess`."""
    half = (0.5, 0.5, 0.5)
    return Preprocess(size=size, resize=resize, interpolation=interpolation, mean=half, std=half)


def cropped(share: float, size: int = 224, interpolation: str = "bicubic") -> Preprocess:
    """timm's evaluation, by ImageNet's mean and std: of a resized image the central `share` (timm's crop_pct) is read.

    Args:
      share: of the shorter side.
      size: side of the square that the network reads, in pixels.
      interpolation: see `Preprocess`.
    """
    return Preprocess(size=size, resize=math.floor(size / share), interpolation=interpolation)
