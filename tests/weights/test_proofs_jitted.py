"""Whole models as users run them, under an optimizing jit, against the logits that the reference frameworks give.

test_proofs.py replays every stage of every weight set operation by operation, compiled hastily; here a model or two of
most families show that fusing and reordering change nothing.
"""

import functools

import jax
import pytest
from hasty import AS_USERS
from on_demand import on_demand

from jft.utils import tree
from jft.weights import catalog, proofs, seeded

FUSED = on_demand("test_proofs replays it, and others show that fusing changes nothing")


@pytest.mark.usefixtures("optimizing_compiler")
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("alexnet.torchvision", 160),
        ("alexnet_caffe.caffe", 227),
        pytest.param("googlenet.torchvision", 112, marks=FUSED),
        pytest.param("inception_v3.torchvision", 75, marks=FUSED),
        ("resnet18.torchvision", 96),
        ("squeezenet1_1.torchvision", 161),
        ("vgg_tiny.digits04", 32),
    ],
)
def test_logits_under_jit(name, size):
    row = catalog.CATALOG[name]
    model, leaves = proofs.seeded_model(row)
    golden = proofs.load(row).seeded
    images = seeded.seeded_images(size, spread=golden.spread)
    apply = jax.jit(functools.partial(model.apply, train=False), compiler_options=AS_USERS)
    logits = apply(tree.unflatten(leaves), images)
    error = proofs.difference(seeded.digest(f"{size}/head", logits), golden.stages[f"{size}/head"])
    assert error < proofs.LIMIT
