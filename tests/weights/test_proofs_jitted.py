"""Whole models as users run them, under an optimising jit, against the logits that the reference frameworks give.

test_proofs.py replays every stage of every weight set operation by operation, compiled hastily; here one model or two
of each family show that fusing and reordering change nothing.
"""

import functools

import jax
import pytest
from on_demand import on_demand

from jft import tree
from jft.models import abstract_variables, create_model
from jft.weights import catalog, convert, proofs, seeded


@pytest.mark.usefixtures("optimising_compiler")
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("alexnet.torchvision", 160),
        ("alexnet_caffe.caffe", 227),
        pytest.param("googlenet.torchvision", 112, marks=on_demand("long")),
        pytest.param("inception_v3.torchvision", 75, marks=on_demand("long")),
        ("resnet18.torchvision", 96),
        ("squeezenet1_1.torchvision", 161),
        ("vgg_tiny.digits04", 32),
    ],
)
def test_logits_under_jit(name, size):
    row = catalog.CATALOG[name]
    model = create_model(row.model, **row.options)
    target = tree.flatten(abstract_variables(model, model.default_size))
    leaves = convert.convert(proofs.seeded_sources(row), row, target).leaves
    golden = proofs.load(row).seeded
    images = seeded.seeded_images(size, spread=golden.spread)
    logits = jax.jit(functools.partial(model.apply, train=False))(tree.unflatten(leaves), images)
    error = proofs.difference(seeded.digest(f"{size}/head", logits), golden.stages[f"{size}/head"])
    assert error < proofs.LIMIT
