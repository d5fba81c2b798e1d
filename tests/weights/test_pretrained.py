"""Pretrained weights over initial values: what comes from where, and what is refused."""

import functools

import jax
import numpy as np
import pytest
import safetensors.numpy
from small_chain import Small

from jft.models import abstract_variables, create_model, initialize
from jft.utils import tree
from jft.weights import catalog, fit, pretrained, rules

pytestmark = pytest.mark.xdist_group("ResNet-18 from a file")


@pytest.fixture(scope="module")
def initial():
    return initialize(create_model("resnet18", num_classes=5), 64, seed=0)


def overlay(initial, row, **options):
    """Over the initial values of all leaves, of which those are asked for that the weights do not give."""
    shapes = jax.eval_shape(lambda: initial)

    def draw(only):
        return tree.unflatten({name: leaf for name, leaf in tree.flatten(initial).items() if name in only})

    return pretrained.overlay(shapes, draw, row, **options)


@pytest.fixture(scope="module")
def torch_file(tmp_path_factory):
    """ResNet-18 in torchvision's names and layout, drawn from a seed by name."""
    row = catalog.find_row("resnet18", "torchvision")
    model = create_model("resnet18")
    shapes = tree.flatten(abstract_variables(model, 64))
    back = {rules.hwio: (3, 2, 0, 1), rules.dense: (1, 0), rules.same: None}
    tensors = {}
    for rule in rules.rules_for(row, model):
        values = np.random.default_rng(len(tensors)).uniform(0.5, 1.5, shapes[rule.target].shape).astype(np.float32)
        axes = back[rule.transform]
        tensors[rule.sources[0]] = np.ascontiguousarray(values.transpose(axes) if axes else values)
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    safetensors.numpy.save_file(tensors, path)
    return path, tensors


@pytest.mark.parametrize(("fresh", "anew"), [("", {"head"}), ("layer4", {"head", "layer4"})])
def test_what_comes_from_the_weights(torch_file, initial, fresh, anew):
    path, tensors = torch_file
    row = catalog.find_row("resnet18", "torchvision")
    variables, loaded, manifest = overlay(initial, row, weights_path=path, fresh=fresh)
    before, after = tree.flatten(initial), tree.flatten(variables)
    assert before.keys() == after.keys()
    for name, leaf in after.items():
        assert (name in loaded) == (name.split("/")[1] not in anew), name
        assert np.array_equal(before[name], leaf) == (name not in loaded), name
    np.testing.assert_array_equal(
        after["params/layer1/block0/conv1/kernel"], tensors["layer1.0.conv1.weight"].transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(after["batch_stats/stem/bn1/var"], tensors["bn1.running_var"])
    assert manifest["source"] == "resnet18.safetensors" and len(manifest["source_sha256"]) == 64


@pytest.mark.parametrize("channels", [1, 4])
def test_a_first_kernel_for_other_channels(torch_file, channels):
    """As timm's adapt_input_conv, with one channel: red, green and blue alike give the same as that channel alone."""
    path, tensors = torch_file
    model = create_model("resnet18", num_classes=5, in_channels=channels)
    variables, loaded, _ = overlay(
        initialize(model, 64, 0), catalog.find_row("resnet18", "torchvision"), weights_path=path, fresh=""
    )
    name = "params/stem/conv1/kernel"
    kernel, rgb = tree.flatten(variables)[name], tensors["conv1.weight"].transpose(2, 3, 1, 0)
    assert name in loaded and kernel.shape == (7, 7, channels, 64)
    scale = 1 if channels == 1 else 3 / channels
    for i in range(channels):
        one = rgb.sum(axis=2) if channels == 1 else rgb[:, :, i % 3]
        np.testing.assert_allclose(kernel[:, :, i], one * np.float32(scale), rtol=1e-6)
    images = jax.ShapeDtypeStruct((1, 64, 64, channels), np.float32)
    assert jax.eval_shape(functools.partial(model.apply, train=False), variables, images).shape == (1, 5)
    with pytest.raises(ValueError, match=rf"images have 9 channels.* the model reads {channels}.*in_channels=9"):
        model.apply(variables, np.zeros((1, 64, 64, 9)), train=False)


def test_leaves_of_another_size_are_not_fitted():
    leaf = {"params/fc6/dense/kernel": np.zeros((4, 2))}
    with pytest.raises(ValueError, match=r"fc6/dense/kernel of the weights is \[4, 2\], where the model has \[6, 2\]"):
        fit.fitted(leaf, {"params/fc6/dense/kernel": (6, 2)})


def test_partial_weights_need_fresh_stages(torch_file, initial, tmp_path):
    _, tensors = torch_file
    path = tmp_path / "partial.safetensors"
    safetensors.numpy.save_file({k: v for k, v in tensors.items() if k != "layer4.1.conv2.weight"}, path)
    row = catalog.find_row("resnet18", "torchvision")
    with pytest.raises(ValueError, match=r"missing \(1\):\s+layer4\.1\.conv2\.weight .*train with fresh='layer4'"):
        try:
            overlay(initial, row, weights_path=path, fresh="")
        except ValueError as error:
            raise ValueError(str(error).replace("\n", " ")) from error
    _, loaded, _ = overlay(initial, row, weights_path=path, fresh="layer4")
    assert not any("layer4" in name for name in loaded)


def test_fresh_that_matches_nothing(torch_file, initial):
    row = catalog.find_row("resnet18", "torchvision")
    with pytest.raises(ValueError, match="fresh: pattern 'layer9' matches none"):
        overlay(initial, row, weights_path=torch_file[0], fresh="layer9")


def test_initial_values_are_a_function_of_the_seed():
    one, two, other = (initialize(Small(num_classes=3), 8, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True))
    assert not np.array_equal(one["params"]["head"]["head"]["kernel"], other["params"]["head"]["head"]["kernel"])


def test_leaves_that_are_drawn_alone_have_the_values_that_they_have_among_all():
    model = Small(num_classes=3)
    every, wanted = tree.flatten(initialize(model, 8, 0)), ["params/head/head/kernel", "params/a/conv/kernel"]
    some = tree.flatten(initialize(model, 8, 0, only=wanted))
    assert sorted(some) == sorted(wanted) and every.keys() > some.keys()
    assert all(np.array_equal(leaf, every[name]) for name, leaf in some.items())
    assert initialize(model, 8, 0, only=()) == {"params": {}, "batch_stats": {}}
