"""Files that Keras itself writes, and what its live models make of the same weights.

The proofs compare stage by stage with Keras' outputs as they once were; here the file format takes part.
"""

import collections
import functools
import math
import os

import h5py
import numpy as np
import pytest
from on_demand import on_demand

from jft.models import abstract_variables, create_model
from jft.utils import tree
from jft.weights import catalog, convert, proofs, readers, seeded

pytestmark = [
    # Keras' tensors copy themselves to NumPy in a way that NumPy 2 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


def keras():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras

    return keras


def build(name, size, **options):
    """A model of keras.applications with seeded weights."""
    model = getattr(keras().applications, name)(
        weights=None, classifier_activation=None, input_shape=(size, size, 3), **options
    )
    count = collections.Counter()
    for layer in model.layers:
        weights, known = layer.weights, layer.name
        if name == "InceptionV3" and weights:  # whose layers are numbered, and called so by the rules
            kind = {1: "conv", 2: "predictions", 3: "bn"}[len(weights)]
            count[kind] += 1
            known = kind if kind == "predictions" else f"{kind}{count[kind]}"
        shapes = {f"{known}/{i}": tuple(w.shape) for i, w in enumerate(weights)}
        layer.set_weights(list(seeded.seeded_keras(shapes).values()))
    return model


def save_legacy(model, path):
    """Writes the layout of the published .h5 files, as Keras 2's save_weights did."""
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


@functools.cache
def target_of(row):
    model = create_model(row.model, **row.options)
    return tree.flatten(abstract_variables(model, model.default_size))


def difference(found, wanted):
    wanted = np.asarray(wanted)
    assert found.shape == wanted.shape
    return float(np.max(np.abs(found - wanted)) / np.max(np.abs(wanted)))


# Keras' layers that end some of jft's stages.
INCEPTION = {f"mixed{i}": f"mixed_{block}" for i, block in {0: "5b", 3: "6a", 7: "6e", 8: "7a", 10: "7c"}.items()}
RESNET = {"pool1_pool": "stem", **{f"conv{i + 1}_block{n}_out": f"layer{i}" for i, n in enumerate((3, 4, 6, 3), 1)}}
# Sizes and groups of the proofs, whose compiled operations serve here too.
WHOLE = {
    "InceptionV3": ("inception_v3", 75, INCEPTION),
    "ResNet50": ("resnet50", 96, RESNET),
}


ON_DEMAND = on_demand("test_proofs replays it, and test_rules has the names that Keras gives its layers")


@pytest.mark.parametrize(
    "keras_name",
    [
        pytest.param("InceptionV3", marks=[pytest.mark.xdist_group("proofs of inception"), ON_DEMAND]),
        pytest.param("ResNet50", marks=[pytest.mark.xdist_group("proofs of resnet"), pytest.mark.slow]),
    ],
)
def test_whole_file(keras_name, tmp_path):
    name, size, stages = WHOLE[keras_name]
    keras().backend.clear_session()
    others = [keras().layers.Conv2D(1, 1) for _ in range(7)]  # Inception's layers are numbered after these
    model = build(keras_name, size)
    assert any(layer.name == f"conv2d_{len(others)}" for layer in model.layers) is (name == "inception_v3")
    save_legacy(model, tmp_path / "file.h5")
    file = readers.read_tensors(tmp_path / "file.h5")
    row = catalog.find_row(name, "keras")
    assert convert.guess_row(file, catalog.CATALOG.values()) is row
    conversion = convert.convert(file, row, target_of(row))
    conversion.check("file.h5")

    images = seeded.seeded_images(size)
    outputs = [model.get_layer(layer).output for layer in (*stages, "predictions")]
    wanted = keras().Model(model.input, outputs)(images, training=False)
    variables = tree.unflatten(conversion.leaves)
    ours = create_model(row.model, **row.options)
    found = dict(proofs.activations(ours, variables, images, [*stages.values(), "head"]))
    errors = [difference(found[stage], x) for stage, x in zip((*stages.values(), "head"), wanted, strict=True)]
    assert all(error < proofs.LIMIT for error in errors), errors


def test_notop_file(tmp_path):
    model = build("VGG16", 64, include_top=False)
    save_legacy(model, tmp_path / "vgg16_notop.h5")
    row = catalog.find_row("vgg16", "keras_notop")
    target = target_of(row)
    file = readers.read_tensors(tmp_path / "vgg16_notop.h5")
    assert convert.guess_row(file, catalog.CATALOG.values()) is row
    conversion = convert.convert(file, row, target)
    top = [leaf for leaf in target if leaf.split("/")[1] in ("fc6", "fc7", "head")]
    conversion.check("vgg16_notop.h5", fresh=top)
    assert set(conversion.leaves) == set(target) - set(top)
    kernel = np.asarray(model.get_layer("block5_conv3").weights[0])
    np.testing.assert_array_equal(conversion.leaves["params/block5/conv5_3/kernel"], kernel)
    with pytest.raises(ValueError, match=r"fc1/0 \[params/fc6/dense/kernel\]"):
        conversion.check("vgg16_notop.h5")


def test_cnn():
    """The plain network, layer by layer."""
    layers = keras().layers
    model = keras().Sequential(
        [
            keras().Input((64, 64, 3)),
            layers.Conv2D(64, 3, activation="relu", name="conv1"),
            layers.Conv2D(64, 3, activation="relu", name="conv2"),
            layers.MaxPooling2D(),
            layers.Dropout(0.25, name="conv2_end"),
            layers.Conv2D(64, 3, activation="relu", name="conv3"),
            layers.MaxPooling2D(name="conv3_end"),
            layers.Flatten(),
            layers.Dense(128, activation="relu", name="fc4"),
            layers.Dense(1, name="head"),
        ]
    )
    ours = create_model("cnn", num_classes=1)
    target = tree.flatten(abstract_variables(ours, 64))
    leaves = seeded.seeded_leaves({name: leaf.shape for name, leaf in target.items()})
    assert model.count_params() == sum(leaf.size for leaf in leaves.values())
    ends = {}
    for stage in ours.stages():
        own = {name.rsplit("/", 1)[1]: leaf for name, leaf in leaves.items() if name.split("/")[1] == stage}
        model.get_layer(stage).set_weights([own["kernel"], own["bias"]])
        ends[stage] = model.get_layer(f"{stage}_end" if stage in ("conv2", "conv3") else stage).output
    images = seeded.seeded_images(64)
    wanted = keras().Model(model.inputs, ends)([images], training=False)
    found = dict(proofs.activations(ours, tree.unflatten(leaves), images, ends))
    errors = {stage: difference(found[stage], wanted[stage]) for stage in ours.stages()}
    assert all(error < proofs.LIMIT for error in errors.values()), errors
    params = tree.flatten(abstract_variables(ours, 224)["params"])
    assert sum(math.prod(leaf.shape) for leaf in params.values()) == 23_963_777
