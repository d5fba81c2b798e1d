"""VGG and ResNet against keras.applications, live: the same seeded weights and pictures, outputs of every stage."""

import functools
import os

import h5py
import numpy as np
import pytest
import seeded

from jft import tree
from jft.models import abstract_variables, create_model
from jft.weights import catalog, convert, readers

TOLERANCE = 1e-4  # of the largest value of a stage

VGG_STAGES = {f"block{i}_pool": f"block{i}" for i in range(1, 6)} | {"fc1": "fc6", "fc2": "fc7", "predictions": "head"}


def resnet_stages(*blocks):
    """Keras' last layer of each of jft's stages."""
    layers = {f"conv{i}_block{n}_out": f"layer{i - 1}" for i, n in enumerate(blocks, 2)}
    return {"pool1_pool": "stem", **layers, "predictions": "head"}


# model: keras.applications' name, size in pixels, stages. 224 once in each family: only there would SAME differ from
# the padding that Keras writes out.
MODELS = {
    "vgg16": ("VGG16", 224, VGG_STAGES),
    "vgg19": ("VGG19", 224, VGG_STAGES),
    "resnet50": ("ResNet50", 224, resnet_stages(3, 4, 6, 3)),
    "resnet101": ("ResNet101", 64, resnet_stages(3, 4, 23, 3)),
    "resnet152": ("ResNet152", 64, resnet_stages(3, 8, 36, 3)),
}


def keras_model(name, size, **options):
    """A model of keras.applications with seeded weights, and these by 'layer/position'."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras

    build = getattr(keras.applications, name)
    model = build(weights=None, classifier_activation=None, input_shape=(size, size, 3), **options)
    shapes = {f"{layer.name}/{i}": tuple(w.shape) for layer in model.layers for i, w in enumerate(layer.weights)}
    tensors = seeded.seeded_keras(shapes)
    for layer in model.layers:
        layer.set_weights([tensors[f"{layer.name}/{i}"] for i, _ in enumerate(layer.weights)])
    return model, tensors


def keras_outputs(model, stages, images):
    import keras

    outputs = keras.Model(model.input, [model.get_layer(layer).output for layer in stages])(images, training=False)
    return {stage: np.asarray(x) for stage, x in zip(stages.values(), outputs, strict=True)}


def save_legacy(model, path):
    """Writes the layout of the published .h5 files, as Keras 2's save_weights did."""
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


@functools.cache
def target_of(row):
    return tree.flatten(abstract_variables(create_model(row.model, **row.options), 224))


def jft_outputs(row, leaves, images):
    model, variables = create_model(row.model, **row.options), tree.unflatten(leaves)
    outputs, start, x = {}, None, images
    for stage in model.stages():
        x = outputs[stage] = model.apply(variables, x, train=False, start=start, stop=stage)
        start = stage
    return outputs


# Keras' tensors copy themselves to NumPy in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.mark.parametrize("name", MODELS)
def test_parity(name, tmp_path):
    keras_name, size, stages = MODELS[name]
    row = catalog.find_row(name, "keras")
    model, tensors = keras_model(keras_name, size)
    if name == "resnet50":  # through a file, as published
        save_legacy(model, tmp_path / "resnet50.h5")
        tensors = readers.read_tensors(tmp_path / "resnet50.h5")
    conversion = convert.convert(tensors, row, target_of(row))
    conversion.check(name)
    images = seeded.seeded_images(size)
    wanted = keras_outputs(model, stages, images)
    found = jft_outputs(row, conversion.leaves, images)
    assert found.keys() == wanted.keys()
    errors = {stage: float(np.max(np.abs(found[stage] - x)) / np.max(np.abs(x))) for stage, x in wanted.items()}
    assert max(errors.values()) < TOLERANCE, errors


def test_notop_file(tmp_path):
    model, tensors = keras_model("VGG16", 64, include_top=False)
    save_legacy(model, tmp_path / "vgg16_notop.h5")
    row = catalog.find_row("vgg16", "keras_notop")
    target = target_of(row)
    file = readers.read_tensors(tmp_path / "vgg16_notop.h5")
    assert convert.guess_row(file, catalog.CATALOG.values()) is row
    conversion = convert.convert(file, row, target)
    top = [leaf for leaf in target if leaf.split("/")[1] in ("fc6", "fc7", "head")]
    conversion.check("vgg16_notop.h5", fresh=top)
    assert set(conversion.leaves) == set(target) - set(top)
    np.testing.assert_array_equal(conversion.leaves["params/block5/conv5_3/kernel"], tensors["block5_conv3/0"])
    with pytest.raises(ValueError, match=r"fc1/0 \[params/fc6/dense/kernel\]"):
        conversion.check("vgg16_notop.h5")
