"""Every model against torchvision: the same seeded weights and pictures, digests of every stage at two sizes.

The goldens are made by scripts/golden/make_torchvision.py.
"""

import functools
import pathlib

import flax.linen as nn
import numpy as np
import pytest
import seeded

from jft import tree
from jft.models import abstract_variables, create_model
from jft.weights import catalog, convert, rules

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
MODELS = sorted(row.model for row in catalog.CATALOG.values() if row.tag == "torchvision")
TOLERANCE = 1e-4  # of the largest golden value of a stage


@functools.cache
def target_of(name):
    return tree.flatten(abstract_variables(create_model(name), 224))


@functools.cache
def golden_of(name):
    return dict(np.load(GOLDEN / f"{name}.npz"))


def state_dict(name):
    """Seeded tensors under torchvision's names and in its shapes, which are the leaves', permuted."""
    shapes = {}
    for rule in rules.rules_for(catalog.find_row(name, "torchvision"), create_model(name)):
        shape = target_of(name)[rule.target].shape
        permuted = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[len(shape)]
        shapes[rule.sources[0]] = tuple(shape[i] for i in permuted)
    return seeded.seeded_torch(shapes)


def stage_by_stage(name, leaves, images):
    """The output of every stage. Not under jit: the zoo shares its operations, which so compile once for all models."""
    model, variables = create_model(name), tree.unflatten(leaves)
    outputs, start, x = {}, None, images
    for stage in model.stages():
        x = outputs[stage] = model.apply(variables, x, train=False, start=start, stop=stage)
        start = stage
    return outputs


def error(name, size, stage, x):
    """Largest difference from the golden digest of a stage, relative to its largest value."""
    golden = golden_of(name)[f"{size}/{stage}"]
    found = seeded.digest(f"{size}/{stage}", x)
    return float(np.max(np.abs(found - golden)) / np.max(np.abs(golden)))


# ResNets share compiled operations, so one worker takes them all.
RESNETS = pytest.mark.xdist_group("parity of ResNets")


@pytest.mark.parametrize("name", [pytest.param(name, marks=RESNETS if "res" in name else ()) for name in MODELS])
def test_parity(name):
    conversion = convert.convert(state_dict(name), catalog.find_row(name, "torchvision"), target_of(name))
    conversion.check(name)
    sizes = {int(key.split("/")[0]) for key in golden_of(name)}
    assert len(sizes) == 2
    for size in sizes:
        outputs = stage_by_stage(name, conversion.leaves, seeded.seeded_images(size))
        errors = {f"{size}/{stage}": error(name, size, stage, x) for stage, x in outputs.items()}
        assert len(errors) == len(golden_of(name)) / 2
        assert max(errors.values()) < TOLERANCE, errors


def test_the_goldens_see_a_wrong_flatten_order():
    source = state_dict("vgg11")
    leaves = convert.convert(source, catalog.find_row("vgg11", "torchvision"), target_of("vgg11")).leaves
    unpermuted = {**leaves, "params/fc6/dense/kernel": source["classifier.0.weight"].T}
    outputs = stage_by_stage("vgg11", unpermuted, seeded.seeded_images(160))
    assert error("vgg11", 160, "block5", outputs["block5"]) < TOLERANCE
    assert error("vgg11", 160, "fc6", outputs["fc6"]) > 100 * TOLERANCE


@RESNETS
def test_the_goldens_see_same_padding():
    source = state_dict("resnet18")
    leaves = convert.convert(source, catalog.find_row("resnet18", "torchvision"), target_of("resnet18")).leaves
    stem = {name: leaf for name, leaf in leaves.items() if "/stem/" in name}
    for padding, right in ((3, True), ("SAME", False)):
        conv = nn.Conv(64, (7, 7), (2, 2), padding=padding, use_bias=False)
        x = conv.apply({"params": {"kernel": stem["params/stem/conv1/kernel"]}}, seeded.seeded_images(224))
        scale, bias = stem["params/stem/bn1/scale"], stem["params/stem/bn1/bias"]
        mean, var = stem["batch_stats/stem/bn1/mean"], stem["batch_stats/stem/bn1/var"]
        x = nn.relu((x - mean) / np.sqrt(var + 1e-5) * scale + bias)
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        assert (error("resnet18", 224, "stem", x) < TOLERANCE) is right
