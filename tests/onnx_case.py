"""What the tests of the ONNX writer share: a function is written, checked by ONNX, and run beside JAX's."""

import importlib.util

import jax
import numpy as np
import pytest

from jft.exporters.onnx import file
from jft.exporters.onnx.simplify import simplified
from jft.exporters.onnx.trace import trace
from jft.exporters.onnx.translate import translate
from jft.models import abstract_variables
from jft.utils import tree
from jft.weights import seeded

_MISSING = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
needs_onnx = pytest.mark.skipif(bool(_MISSING), reason=f"no {' and '.join(_MISSING)}: pip install 'jft[onnx]'")
# Compiles in a fraction of the time.
_QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def seeded_variables(model, size):
    """Variables whose BatchNorm statistics, scales and biases are not trivial."""
    leaves = tree.flatten(abstract_variables(model, size))
    return tree.unflatten(seeded.seeded_leaves({name: leaf.shape for name, leaf in leaves.items()}))


def of_model(model, variables):
    """Normalized images [batch, h, w, 3] -> logits."""
    return lambda images: model.apply(variables, images, train=False)


def of_jax(function, images):
    """What JAX makes of images."""
    compiled = jax.jit(function).lower(images).compile(compiler_options=_QUICK)
    return np.asarray(compiled(images))


def images_of(shape, batch=5):
    """Images that differ in color and contrast, which noise alone does not once it is averaged over a map."""
    rng, ones = np.random.default_rng(0), (1,) * (len(shape) - 1)
    color, contrast = rng.normal(size=(batch, *ones, shape[-1])), rng.uniform(0.5, 2, (batch, *ones, 1))
    return (color + contrast * rng.normal(size=(batch, *shape))).astype(np.float32)


def errors(function, shape, path, root=""):
    """Differences of ONNX Runtime's from JAX's, relative to the largest value, for batches of 1 and 5."""
    file.write(function, path, shape, np.float32, root=root)
    images = images_of(shape)
    wanted = of_jax(function, images)
    opened = file.read_as_given(path)
    found = [float(np.abs(opened(images[:n]) - wanted[:n]).max()) for n in (1, 5)]
    assert max(found) < wanted.std(0).max() / 20  # where biases are nearly all, what images change is right too
    return [error / float(np.abs(wanted).max()) for error in found]


def graph_of(function, shape, root=""):
    """The simplified graph's output."""
    return simplified(translate(trace(function, shape, np.float32), "images", root))
