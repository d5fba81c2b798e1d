"""Automatic augmentation of training images on the device: TrivialAugment and RandAugment.

Both choose among the same 14 operations for every image. Ranges and the 31 magnitudes are those of torchvision, and
each operation gives the same pixels as PIL, which torchvision calls. There are no branches: one gather does all five
geometric operations (`MOVES`), another all seven operations on gray levels (`TONES`).
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

MOVES = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
TONES = ("identity", "brightness", "contrast", "posterize", "solarize", "auto_contrast", "equalize")
BLENDS = ("color", "sharpness")
OPERATIONS = TONES + MOVES + BLENDS
MAX_MAGNITUDE = 30

_FIXED_BITS = 16  # PIL moves images in fixed-point numbers with 16 bits after the point


@dataclasses.dataclass(frozen=True)
class Ranges:
    """Strength of the operations at magnitude 30; smaller magnitudes scale it linearly.

    Attributes:
      shear: shift of each row (column) against its neighbor, in pixels.
      translate: shift in pixels, or if `relative` as a share of the side.
      relative: whether `translate` is a share of the side.
      rotate: angle in degrees.
      enhance: distance from 1 of the factor on brightness, color, contrast and sharpness.
      posterize: number of the 8 bits that are cleared.
    """

    shear: float
    translate: float
    relative: bool
    rotate: float
    enhance: float
    posterize: int


TRIVIAL = Ranges(shear=0.99, translate=32, relative=False, rotate=135, enhance=0.99, posterize=6)
RAND = Ranges(shear=0.3, translate=150 / 331, relative=True, rotate=30, enhance=0.9, posterize=4)


def trivial_augment(images: jax.Array, rng: jax.Array) -> jax.Array:
    """TrivialAugment Wide (Müller & Hutter 2021): one operation on each image, at a random magnitude.

    Args:
      images: uint8 [batch, h, w, 3], RGB.
      rng: one key for the whole batch; every image draws its own operation, magnitude and sign.

    Returns:
      uint8 [batch, h, w, 3]; black where an image was moved away.
    """
    operation_rng, magnitude_rng = jax.random.split(rng)
    # A magnitude of 0 .. 30 and a sign, as in torchvision: 0 comes twice as often as 7 or -7.
    magnitude = jax.random.randint(magnitude_rng, (len(images),), 0, 2 * (MAX_MAGNITUDE + 1))
    magnitude = jnp.where(magnitude > MAX_MAGNITUDE, MAX_MAGNITUDE + 1 - magnitude, magnitude)
    return operate(images, _draw_operations(operation_rng, len(images)), magnitude, TRIVIAL)


def rand_augment(images: jax.Array, rng: jax.Array, operations: int, magnitude: int) -> jax.Array:
    """RandAugment (Cubuk et al. 2020): several operations on each image in turn, all at one magnitude.

    Args:
      images: uint8 [batch, h, w, 3], RGB.
      rng: one key for the whole batch; every image draws its own operations and signs.
      operations: number of operations on each image; the same one may be drawn several times.
      magnitude: magnitude of all operations, 0 .. 30.

    Returns:
      uint8 [batch, h, w, 3]; black where an image was moved away.

    Raises:
      ValueError: a magnitude outside 0 .. 30, or a negative number of operations.
    """
    if operations < 0 or not 0 <= magnitude <= MAX_MAGNITUDE:
        raise ValueError(
            f"RandAugment takes 0 or more operations and a magnitude of 0 .. {MAX_MAGNITUDE}, not {operations} and "
            f"{magnitude}."
        )

    def step(images: jax.Array, rng: jax.Array) -> tuple[jax.Array, None]:
        operation_rng, sign_rng = jax.random.split(rng)
        negative = jax.random.bernoulli(sign_rng, shape=(len(images),))
        signed = jnp.where(negative, -magnitude, magnitude)
        return operate(images, _draw_operations(operation_rng, len(images)), signed, RAND), None

    return jax.lax.scan(step, jnp.asarray(images), jax.random.split(rng, operations))[0]


def operate(images: jax.Array, operation: jax.Array, magnitude: jax.Array, ranges: Ranges) -> jax.Array:
    """Applies one operation to each image.

    Args:
      images: uint8 [batch, h, w, 3], RGB, sides below 8,192 pixels.
      operation: int32 [batch], indices into `OPERATIONS`.
      magnitude: int32 [batch], -30 .. 30; operations without a sign ignore it.
      ranges: strength of the operations at magnitude 30.

    Returns:
      uint8 [batch, h, w, 3].

    Raises:
      ValueError: images of another type.
    """
    if images.dtype != jnp.uint8:
        raise ValueError(f"automatic augmentation needs uint8 images, these are {images.dtype}: do not scale them.")
    matrices = jnp.asarray(_matrices(ranges, *images.shape[1:3]))
    matrix = matrices[operation, magnitude + MAX_MAGNITUDE]
    return jax.vmap(functools.partial(_operate, ranges=ranges))(jnp.asarray(images), operation, magnitude, matrix)


def _draw_operations(rng: jax.Array, batch: int) -> jax.Array:
    return jax.random.randint(rng, (batch,), 0, len(OPERATIONS))


def _operate(
    image: jax.Array, operation: jax.Array, magnitude: jax.Array, matrix: jax.Array, *, ranges: Ranges
) -> jax.Array:
    """`operate` for one image, uint8 [h, w, 3]; the matrix is the identity for operations that do not move pixels."""
    factor = 1 + magnitude * np.float32(ranges.enhance / MAX_MAGNITUDE)
    gray = _gray(image)
    tables = _tones(image, gray, factor, jnp.abs(magnitude), ranges.posterize)
    table = tables[jnp.where(operation < len(TONES), operation, TONES.index("identity"))]
    toned = jnp.stack([table[i][image[..., i]] for i in range(3)], axis=-1)
    other = jnp.where(operation == OPERATIONS.index("color"), gray[..., None].astype(jnp.uint8), _smooth(image))
    blended = operation >= len(TONES) + len(MOVES)
    # Moving comes last, because XLA would repeat the gather in every operation that reads its result.
    return _move(jnp.where(blended, _blend(other, image, factor), toned), matrix)


def _matrices(ranges: Ranges, height: int, width: int) -> np.ndarray:
    """The affine matrices of all operations and magnitudes, int32 [operations, 61, 2, 3], in fixed-point numbers.

    Pixel (x, y) of the result is the source pixel at `floor(matrix @ (x, y, 1))`. Computed in double precision like
    PIL, to select the same pixels. There are few magnitudes, so the table holds them all.
    """
    table = np.tile(np.eye(3)[:2], (len(OPERATIONS), 2 * MAX_MAGNITUDE + 1, 1, 1))
    across, down = (ranges.translate * (side if ranges.relative else 1) for side in (width, height))
    for i in range(-MAX_MAGNITUDE, MAX_MAGNITUDE + 1):
        share, at = i / MAX_MAGNITUDE, i + MAX_MAGNITUDE
        angle = math.radians(ranges.rotate * share)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        center = np.array([width / 2, height / 2])
        table[OPERATIONS.index("shear_x"), at, 0, 1] = ranges.shear * share
        table[OPERATIONS.index("shear_y"), at, 1, 0] = ranges.shear * share
        table[OPERATIONS.index("translate_x"), at, 0, 2] = -int(np.float32(across * share))
        table[OPERATIONS.index("translate_y"), at, 1, 2] = -int(np.float32(down * share))
        table[OPERATIONS.index("rotate"), at] = np.column_stack([turn, center - turn @ center])
    table[..., 2] += table[..., :2].sum(axis=-1) / 2  # from corners of pixels to their centers
    return np.floor(table * 2**_FIXED_BITS + 0.5).astype(np.int32)


def _move(image: jax.Array, matrix: jax.Array) -> jax.Array:
    """Moves the pixels of an image by a matrix, int32 [2, 3], see `_matrices`; pixels from outside are black."""
    height, width = image.shape[:2]
    row, column = jnp.arange(height)[:, None], jnp.arange(width)
    x, y = ((m[0] * column + m[1] * row + m[2]) >> _FIXED_BITS for m in matrix)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return jnp.where(inside[..., None], image.at[y, x].get(mode="clip"), 0)


def _gray(image: jax.Array) -> jax.Array:
    """int32 [h, w]: ITU-R 601-2 luma in PIL's integer arithmetic."""
    weights = np.array([19595, 38470, 7471], np.int32)
    return (jnp.sum(image.astype(jnp.int32) * weights, axis=-1) + 2**15) >> 16


def _tones(image: jax.Array, gray: jax.Array, factor: jax.Array, strength: jax.Array, max_bits: int) -> jax.Array:
    """The lookup table of each tone operation: uint8 [tones, 3 channels, 256]."""
    levels = jnp.arange(256)
    pixels = gray.size
    total = jnp.sum(gray)
    mean = total // pixels + (2 * (total % pixels) >= pixels)  # rounded, without leaving 32 bits
    cleared = jnp.round(strength * (max_bits / MAX_MAGNITUDE)).astype(jnp.int32)
    inverted = jnp.where(levels < 255 - strength * (255 / MAX_MAGNITUDE), levels, 255 - levels)
    counts = _histogram(image)
    tones = {
        "identity": levels,
        "brightness": _blend(0, levels, factor),
        "contrast": _blend(mean, levels, factor),
        "posterize": levels >> cleared << cleared,
        "solarize": inverted,
        "auto_contrast": _stretched(counts),
        "equalize": _equalized(counts),
    }
    return jnp.stack([jnp.broadcast_to(tones[name], (3, 256)).astype(jnp.uint8) for name in TONES])


def _histogram(image: jax.Array) -> jax.Array:
    """int32 [3, 256]: number of pixels with each gray level, for each channel."""
    where = image + 256 * np.arange(3)
    return jnp.zeros(3 * 256, jnp.int32).at[where.reshape(-1)].add(1, mode="promise_in_bounds").reshape(3, 256)


def _stretched(counts: jax.Array) -> jax.Array:
    """int32 [3, 256]: the lookup table that stretches each channel to 0 .. 255."""
    levels = jnp.arange(256)
    lowest = jnp.min(jnp.where(counts > 0, levels, 255), axis=1, keepdims=True)
    span = _brightest(counts) - lowest
    return jnp.where(span > 0, jnp.clip((levels - lowest) * 255 // jnp.maximum(span, 1), 0, 255), levels)


def _equalized(counts: jax.Array) -> jax.Array:
    """int32 [3, 256]: the lookup table that equalizes the histogram of each channel."""
    step = (counts.sum(axis=1, keepdims=True) - jnp.take_along_axis(counts, _brightest(counts), axis=1)) // 255
    below = jnp.cumsum(counts, axis=1) - counts
    spread = jnp.minimum((step // 2 + below) // jnp.maximum(step, 1), 255)
    return jnp.where(step > 0, spread, jnp.arange(256))


def _brightest(counts: jax.Array) -> jax.Array:
    """int32 [3, 1]: the highest level that occurs in each channel."""
    return jnp.max(jnp.where(counts > 0, jnp.arange(256), 0), axis=1, keepdims=True)


def _smooth(image: jax.Array) -> jax.Array:
    """uint8 [h, w, 3]: PIL's SMOOTH filter, weight 5 for a pixel and 1 for its eight neighbors; the border is kept."""
    wide = image.astype(jnp.uint16)
    columns = wide[:-2] + wide[1:-1] + wide[2:]
    total = columns[:, :-2] + columns[:, 1:-1] + columns[:, 2:] + 4 * wide[1:-1, 1:-1]
    rounded = (2 * total + 13) // 26  # total / 13, in 16 bits, which is several times faster than in 32
    return image.at[1:-1, 1:-1].set(rounded.astype(jnp.uint8))


def _blend(first: jax.Array | int, second: jax.Array, share: jax.Array) -> jax.Array:
    """uint8: `first + share * (second - first)`, clipped and rounded down as in PIL; `share` may exceed 0 .. 1."""
    first, second = (jnp.asarray(values, jnp.float32) for values in (first, second))
    return jnp.clip(first + share * (second - first), 0, 255).astype(jnp.uint8)
