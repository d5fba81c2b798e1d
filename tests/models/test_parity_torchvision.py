"""Every model against torchvision: the same seeded weights and pictures, digests of every stage at two sizes.

The goldens are made by scripts/golden/make_torchvision.py.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seeded

from jft import tree
from jft.models import create_model
from jft.weights import catalog, convert, rules

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
MODELS = sorted(row.model for row in catalog.CATALOG.values() if row.tag == "torchvision")
TOLERANCE = 1e-4  # of the largest golden value of a stage


@functools.cache
def target_of(name):
    model = create_model(name)
    images = jnp.zeros((1, 224, 224, 3))
    return tree.flatten(jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False)))


def state_dict(name):
    """Seeded tensors under torchvision's names and in its shapes, which are the leaves' shapes, permuted."""
    shapes = {}
    for rule in rules.rules_for(catalog.find_row(name, "torchvision"), create_model(name)):
        shape = target_of(name)[rule.target].shape
        shapes[rule.sources[0]] = {4: lambda s: (s[3], s[2], s[0], s[1]), 2: lambda s: s[::-1]}.get(
            len(shape), lambda s: s
        )(shape)
    return seeded.seeded_torch(shapes)


def stage_by_stage(name, leaves, images):
    """The output of every stage. Not under jit: the zoo shares its operations, which compile once for all models."""
    model, variables = create_model(name), tree.unflatten(leaves)
    outputs, start, x = {}, None, images
    for stage in model.stages():
        x = outputs[stage] = model.apply(variables, x, train=False, start=start, stop=stage)
        start = stage
    return outputs


def error(found, golden):
    return float(np.max(np.abs(found - golden)) / np.max(np.abs(golden)))


@pytest.mark.parametrize("name", MODELS)
def test_parity(name):
    conversion = convert.convert(state_dict(name), catalog.find_row(name, "torchvision"), target_of(name))
    conversion.check(name)
    golden = np.load(GOLDEN / f"{name}.npz")
    sizes = {int(key.split("/")[0]) for key in golden.files}
    assert len(sizes) == 2
    for size in sizes:
        outputs = stage_by_stage(name, conversion.leaves, seeded.seeded_images(size))
        errors = {
            f"{size}/{stage}": error(seeded.digest(f"{size}/{stage}", x), golden[f"{size}/{stage}"])
            for stage, x in outputs.items()
        }
        assert len(errors) == len(golden.files) / 2
        assert max(errors.values()) < TOLERANCE, errors
