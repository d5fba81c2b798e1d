"""Real weights: SqueezeNet 1.1 from its Caffe file against its proof, and on 100 images of ImageNet."""

import json

import jax
import numpy as np
import pytest

from jft.data.augment import make_eval_transform
from jft.data.decode import decode
from jft.models import abstract_variables, create_model
from jft.utils import tree
from jft.weights import catalog, hub, proofs


@pytest.fixture
def squeezenet(real_data):
    """Row, model and leaves."""
    row = catalog.find_row("squeezenet1_1", "caffe")
    model = create_model(row.model, **row.options)
    target = tree.flatten(abstract_variables(model, row.preprocess.size))
    leaves, manifest = hub.load(row, target, weights_path=real_data / "weights")
    assert manifest["source_sha256"] == row.sha256
    return row, model, leaves


@pytest.mark.xdist_group("proofs of squeezenet")
def test_squeezenet_is_what_its_proof_says(squeezenet):
    row, model, leaves = squeezenet
    assert proofs.check_leaves(row, leaves) == []
    errors = proofs.check_activations(row, leaves)
    assert list(errors) == [f"224/{stage}" for stage in model.stages()]
    assert all(error < proofs.LIMIT for error in errors.values()), errors
    # The same numbers in another order, and a number that rounding would hardly show.
    kernel = "params/fire5/expand3x3/kernel"
    mirrored = {**leaves, kernel: leaves[kernel][::-1]}
    assert proofs.check_leaves(row, mirrored) == [kernel]
    wrong = [key for key, error in proofs.check_activations(row, mirrored).items() if error > proofs.LIMIT]
    assert wrong == [f"224/{stage}" for stage in ("fire5", "fire6", "fire7", "fire8", "fire9", "head")]
    nudged = leaves[kernel].copy()
    nudged.flat[7] = np.nextafter(nudged.flat[7], np.float32(9))
    assert proofs.check_leaves(row, {**leaves, kernel: nudged}) == [kernel]


def test_squeezenet_classifies_imagenet(real_data, squeezenet):
    row, model, leaves = squeezenet
    folder = real_data / "imagenet_samples"
    index = json.loads((folder / "imagenet_class_index.json").read_text())
    numbers = {wnid: int(number) for number, (wnid, _) in index.items()}
    paths = sorted(folder.glob("*.jpg"))
    labels = np.array([numbers[path.name.split("_")[0]] for path in paths])
    assert len(labels) == 100
    images = np.stack([decode(path, row.preprocess, fit="crop") for path in paths])
    transform = make_eval_transform(row.preprocess, fit="crop")
    classify = jax.jit(lambda variables, images: model.apply(variables, transform(images), train=False))
    ranked = np.argsort(-classify(tree.unflatten(leaves), images), axis=1)
    top1, top5 = np.sum(ranked[:, 0] == labels), np.sum(ranked[:, :5] == labels[:, None])
    print(f"top-1 {top1} %, top-5 {top5} % of {len(labels)}")
    # 65 and 83 with an independent implementation; one image may tip over by rounding.
    assert abs(top1 - 65) <= 1
    assert abs(top5 - 83) <= 1
