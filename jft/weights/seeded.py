"""Weights, images and digests that are functions of a name, so that proofs need to store outputs only.

Uses only NumPy: the reference frameworks, installed without JAX, draw the same numbers from this file.
"""

import math
import re
import zlib
from collections.abc import Container, Iterable, Mapping

import numpy as np

# Larger kernels repeat one block of numbers, scaled differently for each output, because drawing a hundred million
# normal numbers takes seconds. The block's length is prime, so no two outputs of a layer start at the same position.
_LARGE = 2**20
_BLOCK = 65_521

# Blocks of a stage after which it is long: see `_in_long_stage`; and Keras' name of the next one, 'block6s'.
_LONG, _LETTER = 18, "s"

_RANGES = {
    **{"scale": (0.5, 1.5), "var": (0.5, 1.5), "last_scale": (0.1, 0.3), "project_scale": (0.2, 0.6)},
    "token": (-1.0, 1.0),
}


def generator(name: str) -> np.random.Generator:
    """Random numbers that depend on the name alone."""
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))


def seeded_tensor(name: str, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """A float32 tensor.

    Args:
      name: name of the tensor, which is the seed.
      shape: shape of the tensor.
      kind: 'oihw' or 'hwio': a kernel or matrix, He-normal, outputs first or last; 'scale' and 'var': 0.5 .. 1.5;
        'depthwise': He-normal too, [height, width, channels, 1];
        'last_scale': 0.1 .. 0.3 for residual branches, or 50 blocks would sum to 1e15; 'project_scale': 0.2 .. 0.6 for
        those of inverted bottlenecks, whose last layer has no activation; 'token': -1 .. 1, a transformer's tokens
        and positions; 'bias' and 'mean': small.
    """
    rng = generator(name)
    if kind == "depthwise":
        return np.sqrt(np.float32(2 / math.prod(shape[:2]))) * rng.standard_normal(shape, np.float32)
    if kind in ("oihw", "hwio"):
        outputs = 0 if kind == "oihw" else -1
        size = math.prod(shape)
        kernel = rng.standard_normal(min(size, _BLOCK) if size > _LARGE else size, np.float32)
        kernel *= np.sqrt(2 * shape[outputs] / size)
        if size <= _LARGE:
            return kernel.reshape(shape)
        scale = rng.uniform(0.5, 1.5, shape[outputs]).astype(np.float32)
        kernel = np.resize(kernel, shape)
        kernel *= scale.reshape([-1 if i == outputs % len(shape) else 1 for i in range(len(shape))])
        return kernel
    low, high = _RANGES.get(kind, (-0.2, 0.2))
    return rng.uniform(low, high, shape).astype(np.float32)


# Layer scales, as the last scale of a residual branch. What is not here is a kernel, or a scale if it has one axis.
_TORCH_KINDS = {
    "running_mean": "mean",
    "running_var": "var",
    "bias": "bias",
    "gamma": "last_scale",
    "layer_scale": "last_scale",
    "in_proj_bias": "bias",
    **dict.fromkeys(
        ("cls_token", "class_token", "reg_token", "register_tokens", "pos_embed", "pos_embedding"), "token"
    ),
}


def seeded_torch(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Every tensor of a torch state dict."""
    tensors = {}
    for name, shape in shapes.items():
        stem, _, leaf = name.rpartition(".")
        if leaf == "num_batches_tracked":
            tensors[name] = np.zeros((), np.int64)
            continue
        kind = _TORCH_KINDS.get(leaf, "oihw")
        if leaf == "weight" and len(shape) == 1:
            last = stem.endswith((".bn3", ".conv3.bn", ".f.c.1"))  # of ResNet; of RegNet, timm's and torchvision's
            last = last or (stem.endswith(".bn2") and f"{stem[:-1]}3.weight" not in shapes)
            last = last and not stem.startswith("blocks.")
            if _projects(stem, shapes):
                kind = "last_scale" if _in_long_stage(stem, shapes) else "project_scale"
            else:
                kind = "last_scale" if last else "scale"
        tensors[name] = seeded_tensor(name, shape, kind)
    return tensors


def _projects(norm: str, names: Container[str]) -> bool:
    """Whether a BatchNorm is the last of a block of `jft.models.mbconv`, in any of torch's dialects."""
    if re.fullmatch(r"_blocks\.\d+\._bn2|blocks\.\d+\.\d+\.pw_proj\.bn|features\.\d+\.conv\.\d", norm):
        return True
    found = re.fullmatch(r"(blocks\.\d+\.\d+\.bn|features\.\d+\.(?:\d+\.)?block\.)(\d)(\.1)?", norm)
    if not found or (norm.startswith("blocks") and not any(f"blocks.{i}.0.bn3.weight" in names for i in (1, 3))):
        return False  # MobileNetV1's last convolution of a block has an activation
    # torchvision's squeeze-excitation, which has no BatchNorm, may come between.
    return not any(f"{found[1]}{int(found[2]) + i}{found[3] or ''}.weight" in names for i in (1, 2))


def _in_long_stage(norm: str, names: Iterable[str]) -> bool:
    """Whether more than `_LONG` blocks follow each other, as in EfficientNetV2-L alone.

    With larger scales the branches of such add up to values of hundreds, and rounding in the first blocks to a tenth of
    the last: float32 and float64 differ as much, and a comparison says nothing.
    """
    stage = ".".join(norm.split(".")[:2])
    return any(name.startswith(f"{stage}.{_LONG}.") for name in names)


def seeded_keras(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Every tensor of a Keras or Caffe file, by 'layer/position'."""
    tensors = {}
    for name, shape in shapes.items():
        layer, position = name.rsplit("/", 1)
        if layer.lower().endswith("_bn") or layer in ("bn", "bn_Conv1"):
            last = "last_scale" if layer.endswith("_3_bn") else "scale"
            if found := re.fullmatch(r"(.*)[a-z]_project_bn|.*_project_bn", layer.lower()):
                in_long = found[1] and any(other.startswith(f"{found[1]}{_LETTER}_") for other in shapes)
                last = "last_scale" if in_long else "project_scale"
            kinds = (last, "bias", "mean", "var")
        elif re.search(r"(_dwconv2?|_depthwise|conv_dw_\d+)$", layer):
            kinds = ("depthwise",)
        elif layer.endswith("_layer_scale"):
            kinds = ("last_scale",)
        elif layer.endswith("_layernorm"):
            kinds = ("scale", "bias")
        elif re.search(r"convnext_.*_(stem|downsampling_block_\d)$", layer):  # a convolution and a LayerNorm
            kinds = ("hwio", "bias", "scale", "bias") if layer.endswith("_stem") else ("scale", "bias", "hwio", "bias")
        else:  # bn1 .. bn94 are Inception's, which have no scale
            kinds = ("bias", "mean", "var") if re.fullmatch(r"bn\d+", layer) else ("hwio", "bias")
        tensors[name] = seeded_tensor(name, shape, kinds[int(position)])
    return tensors


def seeded_leaves(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Every leaf of a model without residual branches, by jft's own names."""
    return {
        name: seeded_tensor(name, shape, {"kernel": "hwio"}.get(kind := name.rsplit("/", 1)[1], kind))
        for name, shape in shapes.items()
    }


# By the dialect that names the tensors.
SEEDED = {
    "torchvision": seeded_torch,
    "timm": seeded_torch,
    "efficientnet_lite": seeded_torch,
    "dinov2": seeded_torch,
    "robustness": seeded_torch,
    "keras": seeded_keras,
    "caffe": seeded_keras,
    "jft": seeded_leaves,
}


def seeded_images(size: int, batch: int = 2, spread: float = 1.0) -> np.ndarray:
    """Normalized images, float32 [batch, size, size, 3], of mean 0 and standard deviation `spread`."""
    return np.float32(spread) * generator(f"images {size}").standard_normal((batch, size, size, 3), np.float32)


def digest(name: str, activation: np.ndarray) -> np.ndarray:
    """Mean, standard deviation and 256 values of an activation [batch, …, channels], as float32.

    The name is the seed of the sample. An activation with fewer values gives them all.
    """
    values = np.asarray(activation, np.float32).ravel()
    sample = generator(name).choice(values.size, min(256, values.size), replace=False)
    return np.concatenate([[values.mean(dtype=np.float64), values.std(dtype=np.float64)], values[sample]]).astype("f4")
