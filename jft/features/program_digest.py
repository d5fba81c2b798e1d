"""A digest of the computation of features: of the lowered program, the compiler and its flags, and image decoding.

A change of a layer, of JAX or of a flag changes the program for XLA or the way it compiles, and so the digest. Nothing
is compiled or run. Comparing features of sample images instead would miss changes for other images, and would differ
between starts: GPUs choose kernels by timing, and kernels round differently. The digest may change although the
features do not; then they are computed again.
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib.version
import numpy as np
from jax.extend import backend

from jft.data import decode, host_resize, transforms
from jft.data.transforms import Preprocess
from jft.features.feature_step import Wanted, make_feature_step
from jft.models import Chain, between
from jft.utils import tree

_SAMPLES = Path(decode.__file__).parent / "samples"  # tiny images: turned by EXIF, with alpha, of 16 bits
_RAW = (20, 28)  # height and width of an array that the step resizes; enlarging and shrinking take other paths
_LARGE = (160, 200)
_HOST_RESIZE = b"sparse"  # the way of `host_resize`; another may round otherwise in few pixels, and not in the sample's

# Environment variables with compiler options, and options without effect on the result.
_ENVIRONMENT = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE")
_NO_MATTER = ("--xla_force_host_platform_device_count", "--xla_dump_")


@dataclasses.dataclass(frozen=True)
class Program:
    """The computation of features.

    Attributes:
      digest: 64 hexadecimal digits.
      output: shape of the features of one variant of an image.
    """

    digest: str
    output: tuple[int, ...]


def examine(model: Chain, variables: Mapping[str, Any], spec: Preprocess, wanted: Wanted) -> Program:
    """Traces and lowers the feature step without compiling it.

    Args:
      model: the model.
      variables: `{'params', 'batch_stats'}`; only the shapes up to the boundary are used.
      spec: preprocessing of the weights.
      wanted: which features.

    Raises:
      ValueError: the image size does not fit the variables.
    """
    stages = between(tuple(model.stages()), None, wanted.boundary)
    leaves = tree.flatten({kind: variables.get(kind, {}) for kind in ("params", "batch_stats")})
    shapes = {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in leaves.items() if n.split("/")[1] in stages}
    empty = {"params": {}, "batch_stats": {}}
    step, step_text = _lowered(make_feature_step(model, spec, wanted), empty | tree.unflatten(shapes), _batch(_RAW))
    small = spec.at(16)

    def shrink(batch: dict[str, jax.Array]) -> jax.Array:
        return transforms.to_model_input(batch["image"], small, fit=wanted.fit)

    _, shrinking = _lowered(shrink, _batch(_LARGE))
    digest = hashlib.sha256()
    for part in (*step_text, *shrinking, *_compiler(), *_pixels(spec, wanted)):
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return Program(digest.hexdigest(), tuple(step.out_info.shape[1:]))


def _batch(size: tuple[int, int]) -> dict[str, jax.ShapeDtypeStruct]:
    return {"image": jax.ShapeDtypeStruct((1, *size, 3), jnp.uint8), "number": jax.ShapeDtypeStruct((1,), jnp.int32)}


def _lowered(function: Callable, *shapes: Any) -> tuple[jax.stages.Lowered, list[bytes]]:
    """A function lowered for XLA; and its text, with the constants that the text may leave out."""
    traced = jax.jit(function).trace(*shapes)
    lowered = traced.lower()
    constants = [np.asarray(constant).tobytes() for constant in traced.jaxpr.consts]
    return lowered, [lowered.as_text().encode(), *constants]


def _compiler() -> Iterator[bytes]:
    """The compiler's versions and options."""
    yield f"{jax.__version__} {jaxlib.version.__version__} {backend.get_backend().platform_version}".encode()
    yield str(jax.config.read("jax_disable_most_optimizations")).encode()
    for name in _ENVIRONMENT:
        flags = (flag for flag in os.environ.get(name, "").split() if not flag.startswith(_NO_MATTER))
        yield " ".join(flags).encode()


def _pixels(spec: Preprocess, wanted: Wanted) -> Iterator[bytes]:
    """The pixels that the host decodes from built-in image files and, if it resizes them, from an array."""
    for path in sorted(_SAMPLES.iterdir()):
        try:
            yield decode.decode(path.read_bytes(), spec, fit=wanted.fit).tobytes()
        except ValueError:  # not read with this spec
            yield b"refused"
    if wanted.resize_on == "host":
        yield _HOST_RESIZE
        array = np.arange(np.prod(_RAW) * 3).reshape(1, *_RAW, 3).astype(np.uint8)
        yield host_resize.resize(array, spec, wanted.fit).tobytes()
