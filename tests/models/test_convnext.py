"""ConvNeXt: what its scales do, and that its features are the normalized average."""

import jax
import jax.numpy as jnp
import numpy as np

from jft.models import abstract_variables, create_model
from jft.models.flops import layer_costs
from jft.models.scales import GlobalResponseNorm, LayerScale
from jft.training.optimizers import kernels
from jft.utils import tree
from jft.weights import seeded


def test_global_response_norm():
    x = np.random.default_rng(0).normal(0, 1, (2, 3, 4, 5)).astype(np.float32)
    scale, bias = (np.random.default_rng(i).normal(0, 1, 5).astype(np.float32) for i in (1, 2))
    norms = np.sqrt(np.sum(x.astype(np.float64) ** 2, axis=(1, 2), keepdims=True))
    wanted = x + scale * x * norms / (norms.mean(-1, keepdims=True) + 1e-6) + bias
    found = GlobalResponseNorm().apply({"params": {"scale": scale, "bias": bias}}, x)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_channel_that_is_zero_has_a_gradient():
    x = jnp.ones((1, 2, 2, 3)).at[..., 1].set(0)  # as GELU gives of large negative numbers
    variables = {"params": {"scale": jnp.ones(3), "bias": jnp.zeros(3)}}
    gradient = jax.grad(lambda x: jnp.sum(GlobalResponseNorm().apply(variables, x) ** 2))(x)
    assert np.isfinite(gradient).all()


def test_layer_scale_begins_small_and_multiplies():
    x = np.random.default_rng(0).normal(0, 1, (2, 4, 4, 3)).astype(np.float32)
    found, variables = LayerScale(0.25).init_with_output(jax.random.key(0), x)
    np.testing.assert_array_equal(found, 0.25 * x)
    gamma = np.array([1, 2, 3], np.float32)
    np.testing.assert_array_equal(LayerScale().apply({"params": {"gamma": gamma}}, x), x * gamma)
    assert tree.flatten(variables).keys() == {"params/gamma"}


def test_weight_decay_leaves_scales_and_biases_alone():
    for name in ("convnext_atto", "convnextv2_atto"):
        decayed = tree.flatten(kernels(abstract_variables(create_model(name), 32)["params"]))
        assert {leaf.rsplit("/", 1)[1] for leaf, decays in decayed.items() if decays} == {"kernel"}
        others = {"scale", "bias"} | ({"gamma"} if name == "convnext_atto" else set())
        assert {leaf.rsplit("/", 1)[1] for leaf, decays in decayed.items() if not decays} == others


def test_the_norm_reads_maps_or_their_averages():
    model = create_model("convnext_atto", blocks=(1, 1, 1, 1), width=8, num_classes=3)
    assert [stage for stage in list(model.stages())[:-1] if model.averages_after(stage)] == ["stage4", "norm"]
    shapes = tree.flatten(abstract_variables(model, 64))
    variables = tree.unflatten(seeded.seeded_leaves({name: leaf.shape for name, leaf in shapes.items()}))
    x = model.apply(variables, seeded.seeded_images(64), train=False, stop="stage4")
    assert x.shape == (2, 2, 2, 64)
    whole = model.apply(variables, x, train=False, start="stage4")
    averaged = model.apply(variables, jnp.mean(x, axis=(1, 2)), train=False, start="stage4")
    np.testing.assert_array_equal(whole, averaged)
    features = model.apply(variables, x, train=False, start="stage4", stop="norm")
    scale, bias = (variables["params"]["norm"]["norm"][leaf] for leaf in ("scale", "bias"))
    mean = np.mean(np.asarray(x, np.float64), axis=(1, 2))
    normalized = (mean - mean.mean(-1, keepdims=True)) / np.sqrt(mean.var(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(features, scale * normalized + bias, atol=1e-5)


def test_costs():
    layers = {layer.name: layer for layer in layer_costs(create_model("convnext_atto"), 224)}
    depthwise = layers["stage1/block0/dwconv"]
    assert (depthwise.kind, depthwise.flops) == ("conv 7x7 in 40 groups", 2 * 49 * 40 * 56 * 56)
    assert layers["stage1/block0/norm"].flops == 5 * 40 * 56 * 56
    assert layers["stage1/block0/layer_scale"].flops == 40 * 56 * 56
    (normed,) = (v for v in layer_costs(create_model("convnextv2_atto"), 224) if v.name == "stage4/block1/grn")
    assert (normed.kind, normed.flops, normed.num_params) == ("GlobalResponseNorm", 6 * 4 * 320 * 49, 2 * 4 * 320)
