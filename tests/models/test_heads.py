"""Networks that are cut, and what may follow them: linear heads, hidden layers, kernels scaled at the start."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jft.models import abstract_variables, create_model, initialize
from jft.models.chain import Chain
from jft.models.layers import Head
from jft.training.freeze import make_plan
from jft.utils import tree
from jft.weights import seeded


def shapes(model, size=None):
    variables = abstract_variables(model, size or model.default_size)
    return {name: leaf.shape for name, leaf in tree.flatten(variables["params"]).items()}


def count(leaves):
    return sum(int(np.prod(shape)) for shape in leaves.values())


def test_one_sigmoid_unit_on_frozen_vgg16():
    model = create_model("vgg16", num_classes=1)
    plan = make_plan(model, abstract_variables(model, 224), "fc7")
    learning = {name: shape for name, shape in shapes(model).items() if name not in plan.frozen}
    assert set(learning) == {"head/head/kernel", "head/head/bias"}
    assert count(learning) == 4_097


def test_codes_of_vgg16s_first_dense_layer():
    model = create_model("vgg16", num_classes=5, cut="fc6", new_head="linear", head_hidden=[256])
    assert tuple(model.stages()) == ("block1", "block2", "block3", "block4", "block5", "fc6", "head")
    image = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    codes = jax.eval_shape(
        lambda v, x: model.apply(v, x, train=False, stop="fc6"), abstract_variables(model, 224), image
    )
    assert codes.shape == (2, 4096)
    head = {name: shape for name, shape in shapes(model).items() if name.startswith("head/")}
    assert head == {
        "head/hidden1/kernel": (4096, 256),
        "head/hidden1/bias": (256,),
        "head/head/kernel": (256, 5),
        "head/head/bias": (5,),
    }


def test_resnet18_without_its_last_layer():
    found = shapes(create_model("resnet18", num_classes=10, cut="layer3", new_head="linear"))
    whole = shapes(create_model("resnet18", num_classes=10))
    kept = {name: shape for name, shape in whole.items() if name.split("/")[0] not in ("layer4", "head")}
    assert found == {**kept, "head/head/kernel": (256, 10), "head/head/bias": (10,)}
    assert count(found) == 2_782_784 + 2_570


def test_the_published_head_may_follow_a_cut():
    model = create_model("squeezenet1_1", num_classes=3, cut="fire5")
    assert tuple(model.stages())[-2:] == ("fire5", "head")
    assert shapes(model)["head/head/kernel"] == (1, 1, 256, 3)


def squeezenet_logits(kernel, **options):
    """Of two images' fire9, with a head of three classes."""
    model = create_model("squeezenet1_1", num_classes=3, **options)
    head = {"kernel": kernel, "bias": jnp.zeros(3)}
    fire9 = np.random.default_rng(0).random((2, 3, 3, 512), np.float32)
    return model.apply({"params": {"head": {"head": head}}}, fire9, train=False, start="fire9")


def test_a_new_squeezenet_head_has_no_relu_on_its_logits():
    """With one, a sigmoid is never below one half."""
    kernel = np.random.default_rng(1).normal(size=(1, 1, 512, 3)).astype(np.float32)
    new = create_model("squeezenet1_1").NEW_HEAD
    assert squeezenet_logits(kernel).min() == 0  # as published
    assert squeezenet_logits(kernel, **new).min() < -1


def test_a_new_squeezenet_head_of_zeros_learns():
    def loss(kernel, options):
        return jax.nn.log_softmax(squeezenet_logits(kernel, **options))[:, 0].sum()

    zeros = jnp.zeros((1, 1, 512, 3))
    assert not jax.grad(loss)(zeros, {}).any()  # as published
    assert jax.grad(loss)(zeros, create_model("squeezenet1_1").NEW_HEAD).all()


def test_layers_of_a_linear_head_are_numbered():
    found = shapes(create_model("vgg_tiny", num_classes=3, cut="block3", new_head="linear", head_hidden=(7, 5)))
    head = {name.removeprefix("head/"): shape for name, shape in found.items() if name.endswith("kernel")}
    assert [head[name] for name in ("hidden1/kernel", "hidden2/kernel", "head/kernel")] == [(64, 7), (7, 5), (5, 3)]


@pytest.mark.parametrize(
    ("cut", "guess"),
    [("layer33", "did you mean 'layer3'"), ("fc6", "Known: stem, layer1, layer2, "), ("head", "Known: ")],
)
def test_an_unknown_cut_is_named(cut, guess):
    with pytest.raises(ValueError, match=f"unknown stage '{cut}'.*{guess}"):
        create_model("resnet18", cut=cut)


@pytest.mark.parametrize(
    ("name", "options", "after", "wanted"),
    [
        ("resnet18", {}, "layer4", True),
        ("resnet18", {}, "layer3", False),
        ("resnet18", {"cut": "layer3"}, "layer3", True),
        ("inception_v3", {}, "mixed_7c", True),
        ("squeezenet1_1", {}, "fire9", False),  # it classifies every place of the map
        ("squeezenet1_1", {"new_head": "linear"}, "fire9", True),
        ("squeezenet1_1", {"new_head": "linear"}, "fire8", False),
        ("vgg16", {}, "block5", False),
        ("vgg16", {"new_head": "linear", "cut": "block5", "head_hidden": (9,)}, "block5", True),
        ("vit_tiny_patch16", {}, "norm", True),
        ("vit_tiny_patch16", {}, "block12", False),
        ("vit_tiny_patch16", {"cut": "block6", "new_head": "linear"}, "block6", True),
    ],
)
def test_whether_the_average_is_all_that_follows_needs(name, options, after, wanted):
    assert create_model(name, **options).averages_after(after) is wanted


@pytest.mark.parametrize(
    ("name", "options", "boundary"),
    [
        ("resnet18", {"cut": "layer2"}, "layer2"),
        ("squeezenet1_1", {"cut": "fire4", "new_head": "linear", "head_hidden": (6,)}, "fire4"),
    ],
)
def test_the_average_gives_the_logits_of_the_map(name, options, boundary):
    model = create_model(name, num_classes=4, **options)
    kinds = {"kernel": "hwio", "scale": "scale", "var": "var"}
    variables = tree.unflatten(
        {
            leaf: seeded.seeded_tensor(leaf, value.shape, kinds.get(leaf.split("/")[-1], "bias"))
            for leaf, value in tree.flatten(abstract_variables(model, 48)).items()
        }
    )
    features = model.apply(variables, seeded.seeded_images(48), train=False, stop=boundary)
    assert features.ndim == 4 and features.shape[1] > 1
    wanted = model.apply(variables, features, train=False, start=boundary)
    found = model.apply(variables, features.mean(axis=(1, 2)), train=False, start=boundary)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert np.ptp(wanted) > 1e-3


class Thin(Chain):
    """A stage without parameters, and a head: XLA compiles their initialization quickly."""

    default_size: int = 8

    def published(self):
        return {"a": Doubled, "head": functools.partial(Head, self.num_classes, self.dtype)}


class Doubled(nn.Module):
    def __call__(self, x, *, train):
        return 2 * x


def test_the_classifying_layer_starts_as_small_as_asked():
    model = Thin(num_classes=3, new_head="linear", head_hidden=(5,))
    usual, half, zero = (tree.flatten(initialize(model, 8, 0, head_init=factor)) for factor in (1.0, 0.5, 0.0))
    for name, leaf in usual.items():
        factors = (0.5, 0.0) if name == "params/head/head/kernel" else (1.0, 1.0)
        for factor, other in zip(factors, (half, zero), strict=True):
            np.testing.assert_array_equal(other[name], factor * leaf, err_msg=name)
    assert np.ptp(usual["params/head/head/kernel"]) > 0
    images = seeded.seeded_images(8)
    np.testing.assert_array_equal(model.apply(tree.unflatten(zero), images, train=False), 0)
    assert np.ptp(model.apply(tree.unflatten(usual), images, train=False)) > 0
