"""Keras' .weights.h5 and .keras, written by Keras itself: the leaves of its legacy layout, the outputs of its model."""

import functools
import io
import json
import os
import zipfile

import h5py
import ml_dtypes
import numpy as np
import pytest
import small_files
from on_demand import on_demand

from jft.evaluation import open_model
from jft.utils import tree
from jft.weights import readers, seeded
from jft.weights.readers import keras_config

# Keras' tensors copy themselves to NumPy in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def keras():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras

    return keras


def vgg():
    """As `small_files.TINY` has vgg16, in the names of keras.applications; one layer draws, which is a state too."""
    layers = keras().layers
    conv = functools.partial(layers.Conv2D, kernel_size=3, padding="same", activation="relu")
    return keras().Sequential(
        [
            keras().Input((12, 12, 3)),
            conv(4, name="block1_conv1"),
            layers.MaxPooling2D(),
            conv(6, name="block2_conv1"),
            conv(6, name="block2_conv2"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(8, activation="relu", name="fc1"),
            layers.Dropout(0.5),
            layers.Dense(8, activation="relu", name="fc2"),
            layers.Dense(10, name="predictions"),
        ]
    )


def resnet():
    from keras.src.applications import resnet

    def stack(x):  # as ResNet50's, but for the number of blocks
        x = resnet.stack_residual_blocks_v1(x, 64, 2, stride1=1, name="conv2")
        return resnet.stack_residual_blocks_v1(x, 128, 1, name="conv3")

    options = {"weights": None, "classes": 10, "classifier_activation": None, "input_shape": (64, 64, 3)}
    return resnet.ResNet(stack, preact=False, use_bias=True, **options)


MODELS = {"vgg16": (vgg, 12), "resnet50": (resnet, 64)}


@functools.cache
def model_of(name):
    """The model, with seeded weights and the state of an optimizer."""
    build, _ = MODELS[name]
    keras().backend.clear_session()
    [keras().layers.Conv2D(1, 1) for _ in range(3)]  # numbers in a file do not depend on what was built before
    model = build()
    for layer in model.layers:
        shapes = {f"{layer.name}/{i}": tuple(w.shape) for i, w in enumerate(layer.weights)}
        layer.set_weights(list(seeded.seeded_keras(shapes).values()))
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def rewrite(path, change, config=None):
    """The same .keras with its h5 file changed; and with another config."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    inner = io.BytesIO(members["model.weights.h5"])
    with h5py.File(inner, "r+") as file:
        change(file)
    members["model.weights.h5"] = inner.getvalue()
    members["config.json"] = members["config.json"] if config is None else json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def forget_names(file):
    """As Keras 3.0 to 3.5 wrote it."""
    file.visititems(lambda _, entry: entry.attrs.pop("name", None) and None)


def old_root(file):
    """As Keras 2.12 wrote it."""
    forget_names(file)
    file.move("layers", "_layer_checkpoint_dependencies")


def save(model, path, kind):
    if kind == "weights":
        model.save_weights(path := path / "a.weights.h5")
    else:
        model.save(path := path / "a.keras")
    change = {"without names": forget_names, "of Keras 2.12": old_root}.get(kind)
    return rewrite(path, change) if change else path


def leaves_of(path, name):
    weights = open_model.open_source(str(path), model=name, image_size=MODELS[name][1])
    return weights, weights.read(False)


@pytest.mark.parametrize("kind", ["weights", "model", "without names", "of Keras 2.12"])
@pytest.mark.parametrize("name", MODELS)
def test_leaves_are_those_of_the_legacy_layout(name, kind, tmp_path, monkeypatch):
    small_files.shrink(monkeypatch)
    model = model_of(name)
    model.save(tmp_path / "legacy.h5")
    _, wanted = leaves_of(tmp_path / "legacy.h5", name)
    _, leaves = leaves_of(save(model, tmp_path, kind), name)
    assert leaves.keys() == wanted.keys()
    for leaf, value in leaves.items():
        np.testing.assert_array_equal(value, wanted[leaf], strict=True)


@pytest.mark.parametrize(
    "name",
    ["vgg16", pytest.param("resnet50", marks=on_demand("its leaves are compared above"))],
)
def test_outputs_are_those_of_keras(name, tmp_path, monkeypatch):
    small_files.shrink(monkeypatch)
    model, images = model_of(name), seeded.seeded_images(MODELS[name][1])
    weights, leaves = leaves_of(save(model, tmp_path, "weights"), name)
    found = np.asarray(weights.build().apply(tree.unflatten(leaves), images, train=False))
    wanted = np.asarray(model(images, training=False))
    assert np.max(np.abs(found - wanted)) < 1e-5 * np.max(np.abs(wanted))


def test_layers_within_a_model_and_half_floats(tmp_path):
    layers = keras().layers
    inner = keras().Sequential([keras().Input((2,)), layers.Dense(3, name="a"), layers.Dense(2, name="b")])
    outer = keras().Sequential([inner, layers.Dense(2, name="c", dtype="bfloat16")])
    outer.save(tmp_path / "a.keras")
    for path in (tmp_path / "a.keras", rewrite(tmp_path / "a.keras", forget_names)):
        tensors = readers.read_tensors(path)
        assert sorted(tensors) == ["a/0", "a/1", "b/0", "b/1", "c/0", "c/1"]
        np.testing.assert_array_equal(tensors["a/0"], inner.layers[0].kernel)
        assert tensors["c/0"].dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(tensors["c/0"].astype("f4"), np.asarray(outer.layers[1].kernel).astype("f4"))


def test_layers_are_in_the_order_of_their_numbers(tmp_path):
    """Layer 10 comes behind layer 9: where layers have no names that last, as Inception's, their order tells them."""
    layers = [keras().layers.Dense(1, name=f"dense{i}") for i in range(12)]
    keras().Sequential([keras().Input((1,)), *layers]).save_weights(tmp_path / "a.weights.h5")
    tensors = readers.read_tensors(tmp_path / "a.weights.h5")
    assert list(tensors) == [f"dense{i}/{k}" for i in range(12) for k in (0, 1)]


def test_weights_without_names_say_what_to_do(tmp_path):
    model_of("vgg16").save_weights(tmp_path / "a.weights.h5")
    with h5py.File(tmp_path / "a.weights.h5", "r+") as file:
        forget_names(file)
    with pytest.raises(ValueError, match=r"a.weights.h5: .*no names, as Keras wrote .* 3.5: .*model.save\('x.keras'\)"):
        readers.read_tensors(tmp_path / "a.weights.h5")


@pytest.mark.parametrize("legacy", [False, True])
def test_lambda_layers_are_refused_and_not_run(legacy, tmp_path):
    marker = tmp_path / "marker"
    model = keras().Sequential([keras().Input((2,)), keras().layers.Dense(2)])
    path = tmp_path / ("a.h5" if legacy else "a.keras")
    model.save(path)
    layer = {"class_name": "Lambda", "config": {"function": f"open({str(marker)!r}, 'w')"}}
    config = {"class_name": "Sequential", "config": {"layers": [layer]}}
    if legacy:
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = json.dumps(config)
    else:
        rewrite(path, lambda file: None, config)
    with pytest.raises(ValueError, match=r"a\.(h5|keras): its model has a Lambda layer, .*x.weights.h5'\)\.$"):
        readers.read_tensors(path)
    assert not marker.exists()


def test_names_of_a_config_that_makes_no_sense():
    for config in (None, [], {"config": 1}, {"config": {"layers": 1}}, {"config": {"layers": [1, None]}}):
        assert keras_config.layer_names(config) == {}
    nothing = keras_config.layer_names({"config": {"layers": [{}]}})
    assert nothing["layers/none"] == "None"


def test_models_in_pieces_are_told(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.json", "{}")
    with pytest.raises(ValueError, match=r"a.keras: a Keras model without model.weights.h5, .*save_weights"):
        readers.read_tensors(tmp_path / "a.keras")


def test_a_damaged_archive_is_noticed(tmp_path):
    model_of("vgg16").save(tmp_path / "a.keras")
    text = (tmp_path / "a.keras").read_bytes()
    (tmp_path / "a.keras").write_bytes(text[: len(text) // 2] + b"\0\1" + text[len(text) // 2 + 2 :])
    with pytest.raises(ValueError, match=r"'model.weights.h5' is damaged: its CRC.*Download it again"):
        readers.read_tensors(tmp_path / "a.keras")
