"""Ways out: a file of another framework gives back the numbers it was made from, and is refused where it could not."""

import functools
import json
import os
import re

import h5py
import numpy as np
import pytest
import safetensors.numpy
import small_files
from on_demand import on_demand

from jft.data.transforms import Preprocess
from jft.evaluation import open_model
from jft.exporters import state_dict
from jft.utils import tree
from jft.weights import catalog, provenance, rules, seeded

# Whose logits are compared too; the others are of the same family, or large: their tensors show it.
COMPARED = ("alexnet", "vgg11", "vgg13_bn", "resnet50", "squeezenet1_1")


@pytest.fixture
def tiny(monkeypatch):
    small_files.shrink(monkeypatch)


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("alexnet", 64),
        ("convnext_tiny", 32),
        ("vit_base_patch32", 32),
        ("vgg11", 20),
        ("vgg13_bn", 12),
        ("resnet34", 32),
        ("resnet50", 32),
        ("resnext50_32x4d", 32),
        ("densenet121", 32),
        ("regnet_y_400mf", 32),
        ("squeezenet1_0", 64),
        ("squeezenet1_1", 64),
        ("googlenet", 224),
        ("inception_v3", 299),
    ],
)
def test_torchvision_in_and_out_is_the_same_file_but_for_counters(tiny, tmp_path, monkeypatch, model, size):
    if model not in COMPARED:
        monkeypatch.setattr(state_dict, "compare", lambda *_: 0.0)
    source, out = tmp_path / "source.safetensors", tmp_path / "out.safetensors"
    tensors = small_files.seeded_file(source, model, "torchvision", size)
    done = state_dict.export(str(source), out, model=model, image_size=size)
    assert (done.error, done.rounded, done.model.num_classes) == (0, 0, 10)
    assert done.model.aux_heads == (model in ("googlenet", "inception_v3"))
    found = safetensors.numpy.load_file(out)
    assert found.keys() == tensors.keys()
    counters = [name for name in tensors if name.endswith(".num_batches_tracked")]
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape
        # jft does not keep the batches that BatchNorm has seen; no output depends on them.
        np.testing.assert_array_equal(found[name], 0 if name in counters else tensor, err_msg=name)
    with safetensors.safe_open(out, "np") as file:
        about = {key: json.loads(value) for key, value in file.metadata().items() if key != "format"}
    assert about["model"] == model and about["class_names"] is None and about["license"] == provenance.UNKNOWN
    assert about["source"]["source"] == "source.safetensors"
    # It may be fine-tuned: names show what a file is like, and only its hash what it is.
    assert about["source"]["like"] == f"{model}.torchvision" and "weights" not in about["source"]
    assert Preprocess.from_dict(about["preprocess"]) == catalog.find_row(model, "torchvision").preprocess.at(size)
    text = state_dict.describe(done)
    name = {"vit_base_patch32": "vit_b_32"}.get(model, model)
    assert f"load: model = torchvision.models.{name}(num_classes=10" in text
    lost = f"; {len(counters)} counters num_batches_tracked are 0: jft does not track them" if counters else ""
    assert f"read again: {done.leaves} leaves, bit-identical{lost}\n" in text


def keras_model(name, size):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras
    from keras.src.applications import densenet, resnet

    options = {"weights": None, "classes": 10, "classifier_activation": None, "input_shape": (size, size, 3)}
    if name == "DenseNet":
        return densenet.DenseNet([2, 1, 1, 1], **options)  # DenseNet121 has more layers in each block
    if name != "ResNet":
        options |= {"include_preprocessing": False} if name.startswith("ConvNeXt") else {}
        return getattr(keras.applications, name)(**options)

    def stack(x):  # as ResNet50's, but for the number of blocks
        x = resnet.stack_residual_blocks_v1(x, 64, 2, stride1=1, name="conv2")
        return resnet.stack_residual_blocks_v1(x, 128, 1, name="conv3")

    return resnet.ResNet(stack, preact=False, use_bias=True, **options)


def learn_scales(path):
    """Changes the scales of a file of jft's own, as training would."""
    leaves = dict(safetensors.numpy.load_file(path))
    with safetensors.safe_open(path, "np") as file:
        about = file.metadata()
    for name in leaves:
        if name.endswith("/scale"):
            leaves[name] = seeded.seeded_tensor(name, leaves[name].shape, "scale")
    safetensors.numpy.save_file(leaves, path, about)


# Keras' tensors copy themselves to NumPy in a way that NumPy 2 deprecates.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
@pytest.mark.parametrize(
    ("model", "name", "size", "learnt"),
    [
        ("resnet50", "ResNet", 64, False),
        pytest.param("densenet121", "DenseNet", 32, False, marks=pytest.mark.slow),
        pytest.param("resnet50", "ResNet50", 64, False, marks=on_demand("the case above has its first blocks")),
        pytest.param("inception_v3", "InceptionV3", 75, True, marks=on_demand("long")),
        pytest.param("convnext_tiny", "ConvNeXtTiny", 64, False, marks=on_demand("large")),
    ],
)
def test_keras_loads_what_was_written(tmp_path, monkeypatch, model, name, size, learnt):
    if name in ("ResNet", "DenseNet"):
        small_files.shrink(monkeypatch)
    source, own, out = tmp_path / "source.h5", tmp_path / "own.safetensors", tmp_path / "out.h5"
    tensors = small_files.seeded_file(source, model, "keras", size)
    open_model.write_own(open_model.open_source(str(source), model=model), own)
    if learnt:
        learn_scales(own)
    done = state_dict.export(str(own), out, format="keras", image_size=size)
    assert done.error < 2e-6
    assert bool(done.rounded) == learnt
    assert "num_batches_tracked" not in state_dict.describe(done)
    with h5py.File(out) as file:
        assert json.loads(file["jft/model"][()]) == model
        for layer in file.attrs["layer_names"]:
            if not learnt:
                for i, weight in enumerate(file[layer].attrs["weight_names"]):
                    wanted = tensors[f"{layer.decode()}/{i}"]
                    # Biases of convolutions move into the mean; the variance goes to another epsilon and back.
                    if not weight.endswith((b"conv/bias:0", b"moving_mean:0")):
                        np.testing.assert_allclose(file[layer][weight][()], wanted, rtol=1e-6, err_msg=str(weight))

    loaded = keras_model(name, size)
    loaded.load_weights(out)  # by order
    # Keras counts those that its layers give no name: variable, variable_1, ...
    held = [
        [layer.name, [re.sub(r"^variable_\d+$", "variable", w.name) for w in layer.weights]]
        for layer in loaded.layers
        if layer.weights
    ]
    with h5py.File(out) as file:
        written = [
            [layer.decode(), [w.decode().split("/")[-1][:-2] for w in file[layer].attrs["weight_names"]]]
            for layer in file.attrs["layer_names"]
        ]
    assert [weights for _, weights in written] == [weights for _, weights in held]
    if model != "inception_v3":  # whose names count what the process has built before
        assert written == held
    images = seeded.seeded_images(size)
    weights = open_model.open_source(str(own), image_size=size)
    wanted = np.asarray(weights.build().apply(tree.unflatten(weights.read(False)), images, train=False))
    found = np.asarray(loaded(images, training=False))
    assert np.max(np.abs(found - wanted)) < 1e-5 * np.max(np.abs(wanted))


def test_keras_vgg_is_the_same_file(tiny, tmp_path):
    source, out = tmp_path / "source.h5", tmp_path / "out.h5"
    tensors = small_files.seeded_file(source, "vgg16", "keras", 12)
    done = state_dict.export(str(source), out, format="keras", model="vgg16", image_size=12)
    assert (done.error, done.rounded) == (0, 0)
    with h5py.File(out) as file:
        layers = [name.decode() for name in file.attrs["layer_names"]]
        assert layers == ["block1_conv1", "block2_conv1", "block2_conv2", "fc1", "fc2", "predictions"]
        for name, tensor in tensors.items():
            layer, position = name.split("/")
            weight = file[layer].attrs["weight_names"][int(position)]
            np.testing.assert_array_equal(file[layer][weight], tensor)
    # adaptive_pool is all that differs from torchvision's, and nothing at the model's own size.
    as_torch = state_dict.export(str(source), tmp_path / "out.safetensors", model="vgg16", image_size=12)
    assert (as_torch.error, as_torch.rounded) == (0, 0)
    with pytest.raises(ValueError, match="keras's vgg16 does not take images of 24 pixels"):
        state_dict.export(str(tmp_path / "out.safetensors"), out, format="keras", model="vgg16", image_size=24)


def test_a_run_knows_its_classes(tiny, tmp_path, one_device):
    leaves = small_files.make_run(tmp_path / "flowers", "vgg13_bn", ["rose", "tulip", "Löwenzahn"])
    out = tmp_path / "out.safetensors"
    done = state_dict.export(str(tmp_path / "flowers"), out)
    assert (done.source.model, done.model.num_classes, done.error) == ("vgg13_bn", 3, 0)
    found = safetensors.numpy.load_file(out)
    np.testing.assert_array_equal(found["classifier.6.weight"].T, leaves["params/head/head/kernel"])
    np.testing.assert_array_equal(found["features.1.running_var"], leaves["batch_stats/block1/bn1_1/var"])
    with safetensors.safe_open(out, "np") as file:
        about = {key: json.loads(value) for key, value in file.metadata().items() if key != "format"}
    assert about["class_names"] == ["rose", "tulip", "Löwenzahn"]
    assert about["fit"] == "whole" and "resized to 12 pixels" in state_dict.describe(done)
    assert about["source"]["source"] == "flowers, step 7" and about["license"] == "BSD-3-Clause"
    with pytest.raises(ValueError, match="holds weights of vgg13_bn, not of vgg11: leave --model out"):
        state_dict.export(str(tmp_path / "flowers"), out, model="vgg11")
    # What `convert` makes of it knows as much.
    own = tmp_path / "own.safetensors"
    open_model.write_own(done.source, own)
    again = open_model.open_source(str(own))
    assert (again.class_names, again.spec.size, again.fit) == (("rose", "tulip", "Löwenzahn"), 12, "whole")


def weights(model, size=224, **options):
    return open_model.SourceWeights(model, options, Preprocess(size=size), "crop", None, "softmax", dict, None)


@pytest.mark.parametrize(
    ("format", "model", "options", "message"),
    [
        ("torchvision", "alexnet_caffe", {}, r"its alexnet has widths=.*, original=False instead of True. Write jft"),
        ("torchvision", "googlenet_caffe", {}, r"its googlenet has original=False instead of True"),
        ("torchvision", "vgg_tiny", {}, r"no such vgg_tiny: .* grid=7 instead of 4"),
        ("torchvision", "cnn", {}, r"no model like cnn. Write jft"),
        (
            "torchvision",
            "resnet50",
            {"stride_in_1x1": True},
            r"stride_in_1x1=False instead of True. Use --format keras",
        ),
        ("torchvision", "inception_v3", {"count_include_pad": False}, r"count_include_pad=True .* Use --format keras"),
        ("keras", "resnet50", {}, r"stride_in_1x1=True instead of False. Use --format torchvision"),
        ("keras", "resnet18", {}, r"its resnet50 has .* Use --format torchvision"),
        ("keras", "inception_v3", {}, r"count_include_pad=False .* Use --format torchvision"),
        ("keras", "vgg11", {}, r"its vgg16 has convs=\(2, 2, 3, 3, 3\) instead of \(1, 1, 2, 2, 2\)"),
        (
            "keras",
            "mobilenet_v3_small",
            {"padding": "same"},
            r"jft does not write mobilenet_v3_small in Keras' layout\. Use --format timm",
        ),
        ("torchvision", "efficientnet_lite0", {}, r"its efficientnet_b0 has another table, activation='silu' instead"),
        ("keras", "squeezenet1_1", {}, r"keras has no model like squeezenet1_1. Use --format torchvision"),
    ],
)
def test_an_architecture_that_the_framework_lacks(tmp_path, format, model, options, message):
    out = tmp_path / {"keras": "out.h5", "torchvision": "out.safetensors"}[format]
    with pytest.raises(ValueError, match=message):
        state_dict.write(weights(model, **options), out, format)


LAYER = "encoder.layers.encoder_layer_1"


def test_a_transformer_at_another_size(tiny, tmp_path):
    """timm is told to resample positions as jft does; torchvision does not."""
    source, out = tmp_path / "source.safetensors", tmp_path / "out.safetensors"
    tensors = small_files.seeded_file(source, "vit_base_patch32", "torchvision", 48)
    done = state_dict.export(str(source), out, format="timm", model="vit_base_patch32", image_size=48)
    assert (done.error, done.rounded) == (0, 0)
    found = safetensors.numpy.load_file(out)
    assert len(found) == len(tensors)
    for name, own in {"pos_embed": "encoder.pos_embedding", "blocks.1.mlp.fc2.weight": f"{LAYER}.mlp.3.weight"}.items():
        np.testing.assert_array_equal(found[name], tensors[own], err_msg=name)
    wanted = "load: model = timm.create_model('vit_base_patch32_224', num_classes=10, dynamic_img_size=True); "
    assert wanted in state_dict.describe(done)
    with pytest.raises(ValueError, match="vit_base_patch32 reads images of 32 pixels alone, not of 48"):
        state_dict.export(str(source), out, model="vit_base_patch32", image_size=48)


def test_a_network_that_is_published_without_a_classifier(tiny):
    """Fine-tuned it has one."""
    row, model, _ = state_dict.find_published(weights("vit_small_patch14_reg4_dinov2", num_classes=3), "timm")
    assert (row.name, model.num_classes) == ("vit_small_patch14_reg4_dinov2.lvd142m", 3)
    assert state_dict.find_published(weights("vgg16"), "keras")[0].name == "vgg16.keras"


@pytest.mark.parametrize(
    ("model", "options", "format", "name"),
    [
        ("efficientnet_lite0", {}, "timm", "efficientnet_lite0.timm"),
        ("efficientnet_b0", {"padding": "same", "bn_epsilon": 1e-3, "drop_path": 0.0}, "timm", "efficientnet_b0.tf_ns"),
        ("efficientnet_v2_s", {}, "torchvision", "efficientnet_v2_s.torchvision"),
        ("mobilenet_v2", {}, "torchvision", "mobilenet_v2.torchvision"),
        ("mobilenet_v3_small", {}, "torchvision", "mobilenet_v3_small.torchvision"),
    ],
)
def test_networks_of_inverted_bottlenecks_go_to_the_set_that_pads_alike(model, options, format, name):
    assert state_dict.find_published(weights(model, **options), format)[0].name == name


def test_what_changes_nothing_is_no_difference():
    row, model, left_out = state_dict.find_published(
        weights("vgg16", adaptive_pool=False, num_classes=3), "torchvision"
    )
    assert (row.name, model.adaptive_pool, model.num_classes, left_out) == ("vgg16.torchvision", True, 3, ())
    options = {"stride_in_1x1": True, "bn_momentum": 0.9}
    assert state_dict.find_published(weights("resnet101", **options), "keras")[0].name == "resnet101.keras"
    options = {"count_include_pad": False, "aux_heads": True}
    row, model, left_out = state_dict.find_published(weights("inception_v3", **options), "keras")
    assert (model.aux_heads, left_out) == (False, ("aux",))
    assert state_dict.find_published(weights("googlenet", aux_heads=True), "torchvision")[1].aux_heads


@pytest.mark.parametrize(
    ("name", "format", "message"),
    [
        ("out.pth", "torchvision", "must end in .safetensors"),
        ("out.keras", "keras", "must end in .h5"),
        ("out.weights.h5", "keras", "not in .weights.h5"),
        ("out.h5", "tensorflow", "unknown format 'tensorflow'"),
    ],
)
def test_names_under_which_nothing_would_load(tmp_path, name, format, message):
    with pytest.raises(ValueError, match=message):
        state_dict.export("vgg16.torchvision", tmp_path / name, format=format)


def test_sources_that_cannot_be_exported(tmp_path):
    out = tmp_path / "out.safetensors"
    with pytest.raises(ValueError, match="keras_notop has no classifier layers"):
        state_dict.export("vgg16.keras_notop", out)
    with pytest.raises(ValueError, match=r"did you mean 'vgg16\."):
        state_dict.export("vgg16.torchvison", out)
    leaves = {"params/stem/conv1/kernel": np.zeros((7, 7, 3, 64), "f4")}
    safetensors.numpy.save_file(leaves, tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match="does not say which model it is for: give --model"):
        state_dict.export(str(tmp_path / "own.safetensors"), out)
    with pytest.raises(ValueError, match="does not say which resnet50 it is for: give --weights torchvision or "):
        state_dict.export(str(tmp_path / "own.safetensors"), out, model="resnet50")
    assert not out.exists()


def test_a_file_that_does_not_prove_right_is_not_kept(tiny, tmp_path, monkeypatch):
    source, out = tmp_path / "source.safetensors", tmp_path / "out.safetensors"
    small_files.seeded_file(source, "vgg11", "torchvision", 12)
    out.write_text("what was there before")
    attempt = functools.partial(state_dict.export, str(source), out, model="vgg11", image_size=12)
    sources_of = rules.sources_of

    def wrong(change):
        def changed(table, leaves):
            tensors = dict(sources_of(table, leaves))
            tensors["features.0.weight"] = change(tensors["features.0.weight"])
            return tensors

        monkeypatch.setattr(rules, "sources_of", changed)

    wrong(lambda kernel: np.nextafter(kernel, np.float32(1)))  # logits hardly move
    with pytest.raises(ValueError, match="does not restore vgg11: 1 of "):
        attempt()
    wrong(lambda kernel: kernel.transpose(1, 0, 2, 3))
    with pytest.raises(ValueError, match="the written file is no vgg11 and was not kept"):
        attempt()
    monkeypatch.setattr(rules, "sources_of", sources_of)
    monkeypatch.setattr(state_dict, "compare", lambda *_: float("nan"))
    with pytest.raises(ValueError, match="the logits by nan"):
        attempt()
    assert out.read_text() == "what was there before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.safetensors", "source.safetensors"]
