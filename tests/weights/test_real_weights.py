"""Real weights of SqueezeNet, EfficientNet-Lite and MobileNet against their proofs, and on 100 images of ImageNet."""

import functools
import json

import jax
import numpy as np
import pytest

from jft.data.augment import make_eval_transform
from jft.data.decode import decode
from jft.models import abstract_variables, create_model
from jft.utils import tree
from jft.weights import catalog, hub, proofs
from jft.weights.target import absent

# What independent implementations get right of the 100, in the first place and in the first five: SqueezeNet's is plain
# NumPy, EfficientNet's timm's with its own preprocessing. One image may tip over by rounding.
KNOWN = {
    "squeezenet1_1.caffe": (65, 83),
    "efficientnet_lite0.efficientnet_lite": (86, 98),
    "efficientnet_lite1.efficientnet_lite": (87, 98),
}
# A leaf of each, the stage that it lies in first.
LEAF = {
    "squeezenet1_1.caffe": "params/fire5/expand3x3/kernel",
    "efficientnet_lite0.efficientnet_lite": "params/stage6/block1/depthwise/conv/kernel",
    "efficientnet_lite1.efficientnet_lite": "params/stage6/block1/depthwise/conv/kernel",
    "mobilenet_v1_025.keras_notop": "params/stage5/block0/depthwise/conv/kernel",
}


def each(names):
    """Parameters of a test: XLA compiles EfficientNet long."""
    return [pytest.param(name, marks=pytest.mark.slow if name.startswith("efficientnet") else ()) for name in names]


@functools.cache
def opened(name, folder):
    """Row, model and leaves."""
    row = catalog.CATALOG[name]
    model = create_model(row.model, **row.options)
    target = tree.flatten(abstract_variables(model, row.preprocess.size))
    leaves, manifest = hub.load(row, target, weights_path=folder, fresh=absent(row, target))
    assert manifest["source_sha256"] == row.sha256
    return row, model, leaves


@pytest.mark.xdist_group("proofs of squeezenet")
@pytest.mark.parametrize("name", each(LEAF))
def test_real_weights_are_what_their_proof_says(real_data, name):
    row, model, leaves = opened(name, real_data / "weights")
    assert proofs.check_leaves(row, leaves) == []
    errors = proofs.check_activations(row, leaves)
    stages = [stage for stage in model.stages() if row.top or stage != "head"]
    assert list(errors) == [f"{row.preprocess.size}/{stage}" for stage in stages]
    assert all(error < proofs.LIMIT for error in errors.values()), errors
    # The same numbers in another order, and a number that rounding would hardly show.
    kernel = LEAF[name]
    mirrored = {**leaves, kernel: leaves[kernel][::-1]}
    assert proofs.check_leaves(row, mirrored) == [kernel]
    wrong = [key for key, error in proofs.check_activations(row, mirrored).items() if error > proofs.LIMIT]
    assert wrong == [f"{row.preprocess.size}/{stage}" for stage in stages[stages.index(kernel.split("/")[1]) :]]
    nudged = leaves[kernel].copy()
    nudged.flat[7] = np.nextafter(nudged.flat[7], np.float32(9))
    assert proofs.check_leaves(row, {**leaves, kernel: nudged}) == [kernel]


@pytest.mark.parametrize("name", each(KNOWN))
def test_real_weights_classify_imagenet(real_data, name):
    row, model, leaves = opened(name, real_data / "weights")
    folder = real_data / "imagenet_samples"
    index = json.loads((folder / "imagenet_class_index.json").read_text())
    numbers = {wnid: int(number) for number, (wnid, _) in index.items()}
    paths = sorted(folder.glob("*.jpg"))
    labels = np.array([numbers[path.name.split("_")[0]] for path in paths])
    assert len(labels) == 100
    images = np.stack([decode(path, row.preprocess, fit="crop") for path in paths])
    transform = make_eval_transform(row.preprocess, fit="crop")
    classify = jax.jit(lambda variables, images: model.apply(variables, transform(images), train=False))
    logits = [classify(tree.unflatten(leaves), part) for part in np.split(images, 5)]
    ranked = np.argsort(-np.concatenate(logits), axis=1)
    top1, top5 = np.sum(ranked[:, 0] == labels), np.sum(ranked[:, :5] == labels[:, None])
    print(f"top-1 {top1} %, top-5 {top5} % of {len(labels)}")
    assert abs(top1 - KNOWN[name][0]) <= 1
    assert abs(top5 - KNOWN[name][1]) <= 1
