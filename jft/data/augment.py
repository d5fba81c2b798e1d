"""Training images, varied on the device: which variants there are, and how one is made.

Some variations can be counted: an image mirrored or not, at one of five crops, has ten variants, each of which can be
computed once and kept. Crops at random places and automatic augmentation cannot.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jft.data import auto_augment as automatic
from jft.data import resized_crop, transforms
from jft.data.augmentations import AugmentFunction
from jft.data.transforms import Preprocess
from jft.utils import tree

CROPS = ("random", "center", "five")
AUTO_AUGMENTS = ("", "trivial", "rand")


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How training images vary. The default is not at all.

    Attributes:
      flip: mirrored left and right, half of the time.
      crop_padding: black border added on each side before cutting at a random place, as a share of that side: CIFAR's
        classic 4 of 32 pixels are 0.125. 0 adds none.
      crop: what fit 'crop' cuts out: 'random', at any place; 'center'; 'five', one of the center and the four corners
        (Krizhevsky et al. 2012). Fit 'whole' keeps the whole image whatever stands here.
      resized_crop: least and largest share of an image's area that a random resized crop takes, in place of `crop` and
        `crop_padding`; see `resized_crop.draw_boxes`. (): none.
      resized_crop_ratio: least and largest width / height of such a crop. (): 3/4 to 4/3.
      auto_augment: what the raw images go through first: 'trivial', `auto_augment.trivial_augment`; 'rand',
        `auto_augment.rand_augment`; empty: nothing.
      rand_operations: of 'rand': operations on an image.
      rand_magnitude: of 'rand': 0 .. 30.
      augment: what images go through in turn once they are cut, mirrored, resized to `spec.size` and rounded to uint8,
        before they are normalized; see `augmentations.AugmentFunction`.

    Raises:
      ValueError: a crop or automatic augmentation that there is not, or shares of an area that are none.
    """

    flip: bool = False
    crop_padding: float = 0.0
    crop: str = "center"
    resized_crop: tuple[float, ...] = ()
    resized_crop_ratio: tuple[float, ...] = ()
    auto_augment: str = ""
    rand_operations: int = 2
    rand_magnitude: int = 9
    augment: tuple[AugmentFunction, ...] = ()

    def __post_init__(self) -> None:
        tree.choose(dict.fromkeys(CROPS), self.crop, what="crop")
        tree.choose(dict.fromkeys(AUTO_AUGMENTS), self.auto_augment, what="auto_augment")
        if self.resized_crop and not (
            len(self.resized_crop) == 2 and 0 < self.resized_crop[0] <= self.resized_crop[1] <= 1
        ):
            raise ValueError(
                f"resized_crop = {self.resized_crop}: give the least and the largest share of the image's area, such "
                "as (0.35, 1.0), or () for no resized crops."
            )
        ratio = self.resized_crop_ratio
        if ratio and not (len(ratio) == 2 and 0 < ratio[0] <= ratio[1]):
            raise ValueError(
                f"resized_crop_ratio = {ratio}: give the least and the largest width / height, such as (0.75, 1.33), "
                "or () for 3/4 to 4/3."
            )
        if self.resized_crop and self.crop_padding:
            raise ValueError(f"resized_crop takes the place of crop_padding = {self.crop_padding:g}: set one of them.")

    @classmethod
    def from_config(cls, config: Any, augment: tuple[AugmentFunction, ...] = ()) -> "Augmentation":
        """What a config's fields of the same names say, but for `augment`, whose names are resolved already."""
        own = {field.name: config[field.name] for field in dataclasses.fields(cls) if field.name != "augment"}
        ranges = {name: tuple(config[name]) for name in ("resized_crop", "resized_crop_ratio")}
        return cls(**{**own, **ranges, "augment": augment})

    def uncountable(self, spec: Preprocess, fit: str) -> str | None:
        """Why an image has more variants than can be counted, for the log; None where `num_variants` counts them."""
        if self.auto_augment:
            return f"auto_augment = {self.auto_augment!r} changes every image anew"
        if self.augment:
            return "augment changes every image anew"
        if self.resized_crop:
            return "resized_crop takes another part of every image"
        if self.crop_padding:
            return f"crop_padding = {self.crop_padding:g} cuts every image at a random place"
        if self.cuts_anywhere(fit):
            return (
                f"crop = 'random' cuts {spec.size} pixels at a random place out of {spec.resize} "
                f"('center' and 'five' can be counted)"
            )
        return None

    def num_variants(self, fit: str) -> int:
        """Variants that flip and fixed crops make of an image: 1, 2, 5 or 10. Random places are not among them."""
        five = transforms.check_fit(fit) == "crop" and self.crop == "five"
        return (5 if five else 1) * (2 if self.flip else 1)

    def draw(self, rng: jax.Array, batch: int, *, fit: str) -> jax.Array:
        """A variant for each of `batch` images: int32 [batch], uniform in 0 .. num_variants - 1, by the key alone."""
        return jax.random.randint(rng, (batch,), 0, self.num_variants(fit), jnp.int32)

    def cuts_anywhere(self, fit: str) -> bool:
        """Whether crops lie at random places; a ValueError where padding meets crops at fixed ones."""
        cropped = transforms.check_fit(fit) == "crop"
        if cropped and self.crop != "random" and self.crop_padding:
            raise ValueError(
                f"crop_padding = {self.crop_padding:g} is for crops at random places, but crop is {self.crop!r}: "
                f"set crop_padding = 0 or crop = 'random'."
            )
        return self.crop_padding > 0 or (cropped and self.crop == "random")


def augment(
    images: jax.Array, rng: jax.Array, *, flip: bool, crop_padding: float, size: int | None = None
) -> jax.Array:
    """Cuts every image out at its own random place and mirrors half of them.

    Args:
      images: [batch, h, w, 3], uint8 or float.
      rng: one key for the whole batch; every image draws its own numbers from it.
      flip: mirror left and right with probability 1/2.
      crop_padding: see `Augmentation`.
      size: side of the square to cut out, in pixels; None cuts out h x w.

    Returns:
      [batch, size, size, 3], or [batch, h, w, 3] where `size` is None, in the type of `images`.

    Raises:
      ValueError: the padded images are smaller than `size`.
    """
    batch, height, width, _ = images.shape
    crop_rng, flip_rng = jax.random.split(rng)
    pads = tuple(round(crop_padding * length) for length in (height, width))
    target = (size or height, size or width)
    room = tuple(length + 2 * pad - wanted for length, pad, wanted in zip((height, width), pads, target, strict=True))
    if min(room) < 0:
        raise ValueError(f"cannot cut {target[0]}x{target[1]} out of {height}x{width} images padded by {pads}.")
    if max(room) > 0:
        padded = jnp.pad(images, ((0, 0), (pads[0], pads[0]), (pads[1], pads[1]), (0, 0)))
        images = _cut(padded, jax.random.randint(crop_rng, (batch, 2), 0, jnp.array(room) + 1), target)
    if flip:
        images = _mirror(images, jax.random.bernoulli(flip_rng, shape=(batch,)))
    return images


def variant(
    images: jax.Array,
    number: jax.Array,
    spec: Preprocess,
    *,
    fit: str,
    augmentation: Augmentation,
    key: jax.Array | None = None,
) -> jax.Array:
    """One variant of each image, of those that can be counted.

    The crops come in the order of center, upper left, upper right, lower left, lower right, each upright and then,
    with flip, mirrored. So number 0 is what evaluation reads: `transforms.to_model_input`.

    Args:
      images: uint8 or float [batch, h, w, 3], RGB, 0 .. 255.
      number: int32 [batch], 0 .. num_variants - 1.
      spec: of the weights.
      fit: 'crop' or 'whole', see `transforms.to_model_input`.
      augmentation: says which variants there are; of it only `flip` and a fixed `crop` count here, and with a key
        `augment`.
      key: of `augment`; None leaves it out.

    Returns:
      float32 [batch, spec.size, spec.size, 3], normalized.
    """
    crop, mirrored = (number // 2, number % 2 == 1) if augmentation.flip else (number, None)
    if transforms.check_fit(fit) == "crop":
        images = transforms.resize_shorter(images, spec)
        if augmentation.crop == "five":
            images = _cut(
                images, _five_corners(images.shape[1], images.shape[2], spec.size)[crop], (spec.size, spec.size)
            )
        else:
            images = transforms.center_crop(images, spec.size)
    if mirrored is not None:
        images = _mirror(images, mirrored)
    return _finished(images, spec, augmentation, key)


def _finished(images: jax.Array, spec: Preprocess, augmentation: Augmentation, key: jax.Array | None) -> jax.Array:
    """Images, cut and mirrored, as the model reads them: float32 [batch, spec.size, spec.size, 3]."""
    images = transforms.resize(images, spec.size, spec.size, spec)
    if key is not None and augmentation.augment:
        images = jnp.clip(jnp.round(images), 0, 255).astype(jnp.uint8)
        for number, function in enumerate(augmentation.augment):
            images = function(images, jax.random.fold_in(key, number))
    return transforms.normalize(images, spec)


def make_train_transform(
    spec: Preprocess, *, fit: str, augmentation: Augmentation
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """What the training step does to its images.

    Where variants can be counted it is `variant(images, augmentation.draw(rng, batch, fit=fit), ...)` and nothing else,
    so that whoever draws with the same key knows which variants the step saw.

    Args:
      spec: of the weights.
      fit: 'crop' cuts `spec.size` squares out of images whose shorter side is `spec.resize`; 'whole' squashes
        images, or what `crop_padding` leaves of them, to `spec.size`.
      augmentation: how images vary.

    Returns:
      `(images, rng) -> inputs`: pure, jittable; images uint8 [batch, h, w, 3], inputs float32
      [batch, spec.size, spec.size, 3], normalized.

    Raises:
      ValueError: padding was asked for, and a crop at a fixed place.
    """
    cuts_anywhere = augmentation.cuts_anywhere(fit)

    def transform(images: jax.Array, rng: jax.Array) -> jax.Array:
        if augmentation.auto_augment:
            auto_rng, rng = jax.random.split(rng)
            images = _automatic(images, auto_rng, augmentation)
        own_rng = None
        if augmentation.augment:
            own_rng, rng = jax.random.split(rng)
        if augmentation.resized_crop:
            images = _resized_crops(images, rng, spec, augmentation)
            return _finished(images, spec, augmentation, own_rng)
        if not cuts_anywhere:
            number = augmentation.draw(rng, len(images), fit=fit)
            return variant(images, number, spec, fit=fit, augmentation=augmentation, key=own_rng)
        if fit == "crop":
            images = transforms.resize_shorter(images, spec)
        size = spec.size if fit == "crop" else None
        images = augment(images, rng, flip=augmentation.flip, crop_padding=augmentation.crop_padding, size=size)
        return _finished(images, spec, augmentation, own_rng)

    return transform


def make_eval_transform(spec: Preprocess, *, fit: str) -> Callable[[jax.Array], jax.Array]:
    """What evaluation and prediction do to their images: `transforms.to_model_input` for one spec and fit."""
    transforms.check_fit(fit)
    return functools.partial(transforms.to_model_input, spec=spec, fit=fit)


def make_views(
    spec: Preprocess, *, fit: str, augmentation: Augmentation
) -> tuple[int, Callable[[jax.Array, jax.Array], jax.Array]]:
    """How many variants an image has, and `(images, number) -> x`, that one of each, as `make_eval_transform`'s.

    Raises:
      ValueError: crops were asked for, and images are squashed whole.
    """
    if augmentation.crop == "five" and transforms.check_fit(fit) != "crop":
        raise ValueError("five crops need images that are cropped, and this model squashes them whole: use flip.")

    def view(images: jax.Array, number: jax.Array) -> jax.Array:
        numbers = jnp.full(len(images), number, jnp.int32)
        return variant(images, numbers, spec, fit=fit, augmentation=augmentation)

    return augmentation.num_variants(fit), view


def _resized_crops(images: jax.Array, rng: jax.Array, spec: Preprocess, augmentation: Augmentation) -> jax.Array:
    """A random part of each image, resized to [batch, spec.size, spec.size, 3], half of them mirrored with `flip`."""
    for_box, for_flip = jax.random.split(rng)
    least, most = augmentation.resized_crop
    narrow, wide = augmentation.resized_crop_ratio or resized_crop.RATIO
    batch, height, width, _ = images.shape
    boxes = resized_crop.draw_boxes(for_box, batch, height, width, (least, most), (narrow, wide))
    images = resized_crop.resize_boxes(images, boxes, spec)
    if augmentation.flip:
        images = _mirror(images, jax.random.bernoulli(for_flip, shape=(len(images),)))
    return images


def _automatic(images: jax.Array, rng: jax.Array, augmentation: Augmentation) -> jax.Array:
    if augmentation.auto_augment == "trivial":
        return automatic.trivial_augment(images, rng)
    return automatic.rand_augment(images, rng, augmentation.rand_operations, augmentation.rand_magnitude)


def _five_corners(height: int, width: int, size: int) -> jax.Array:
    """Upper left corners, int32 [5, 2], of the central crop and of those in the corners of an h x w image."""
    if min(height, width) < size:
        raise ValueError(f"a {height}x{width} image has no {size}x{size} crops; raise Preprocess.resize.")
    down, right = height - size, width - size
    center = transforms.crop_offset(height, size), transforms.crop_offset(width, size)
    return jnp.array([center, (0, 0), (0, right), (down, 0), (down, right)], jnp.int32)


def _cut(images: jax.Array, corners: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Cuts [batch, *size, 3] out of [batch, h, w, 3], at `corners` int32 [batch, 2]."""
    cut = functools.partial(jax.lax.dynamic_slice, slice_sizes=(*size, images.shape[-1]))
    return jax.vmap(lambda image, corner: cut(image, (corner[0], corner[1], 0)))(images, corners)


def _mirror(images: jax.Array, mirrored: jax.Array) -> jax.Array:
    """[batch, h, w, 3] with those mirrored for which `mirrored`, bool [batch], says so."""
    return jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
