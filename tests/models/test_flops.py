"""Costs of layers and stages: against published multiply-adds, against the models' own shapes, and by hand."""

import functools
import math

import jax
import jax.numpy as jnp
import kinds
import pytest

from jft.models import abstract_variables, create_model
from jft.models.flops import forward_flops, layer_costs, parameter_shapes, stage_costs
from jft.utils import tree

# Multiply-adds in 10^9: fvcore's, ptflops' and the papers' tables.
PUBLISHED = {
    "alexnet": 0.71,
    "vgg16": 15.47,
    "vgg19": 19.63,
    "googlenet": 1.50,
    "inception_v3": 5.73,
    "resnet18": 1.82,
    "resnet50": 4.11,
    "resnext50_32x4d": 4.26,
    "regnet_y_400mf": 0.402,
    "convnext_tiny": 4.456,
    "vit_base_patch16": 17.564,
}
HAVING_AUX = ["googlenet", "googlenet_caffe", "inception_v3"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_flops_are_twice_the_published_multiply_adds(name):
    model = create_model(name)
    flops = forward_flops(stage_costs(model, model.default_size))
    assert flops / 2e9 == pytest.approx(PUBLISHED[name], rel=0.01)


@pytest.mark.parametrize("name", kinds.each_model())
def test_layers_hold_every_leaf_of_the_model(name):
    model = create_model(name, aux_heads=name in HAVING_AUX)
    shapes = abstract_variables(model, model.default_size)
    leaves = {leaf: value.shape for leaf, value in tree.flatten(shapes["params"]).items()}
    stages = stage_costs(model, model.default_size)
    layers = [layer for stage in stages.values() for layer in stage.layers]
    assert {leaf: shape for layer in layers for leaf, shape in layer.params.items()} == leaves
    assert sum(layer.num_params for layer in layers) == sum(map(math.prod, leaves.values()))
    statistics = sum(leaf.size for leaf in jax.tree.leaves(shapes["batch_stats"]))
    assert sum(layer.num_statistics for layer in layers) == statistics
    assert all(layer.flops > 0 for layer in layers)
    assert [stage for stage in stages if stages[stage].after is None] == list(model.stages())
    assert tree.flatten(parameter_shapes(stages)).keys() == leaves.keys()


@pytest.mark.parametrize("name", ["vgg_tiny", "resnet18", "googlenet", "squeezenet1_0"])
def test_outputs_are_those_of_the_stages(name):
    model, size = create_model(name, num_classes=7), 96
    variables, before = abstract_variables(model, size), None
    x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    for stage, costs in stage_costs(model, size).items():
        x = jax.eval_shape(functools.partial(model.apply, train=False, start=before, stop=stage), variables, x)
        assert costs.output == x.shape[1:], stage
        before = stage


def test_by_hand():
    layers = {layer.name: layer for layer in layer_costs(create_model("alexnet_caffe"), 227)}
    grouped = layers["conv2/conv2"]
    assert (grouped.kind, grouped.output) == ("conv 5x5 in 2 groups", (27, 27, 256))
    assert grouped.num_params == 5 * 5 * 48 * 256 + 256
    assert grouped.flops == 2 * 5 * 5 * 48 * 256 * 27 * 27  # 96 channels in two groups; padding counted, biases not
    assert layers["conv1/conv1"].kind == "conv 11x11 /4"
    dense = layers["head/head"]
    assert (dense.stage, dense.kind, dense.output, dense.flops) == ("head", "dense", (1000,), 2 * 4096 * 1000)
    tokens = create_model("vit_tiny_patch16", width=32, depth=1, heads=2)
    layers = {layer.name: layer for layer in layer_costs(tokens, 48)}
    product = layers["block1/attention/product"]  # of 10 x 16 by 16 x 10 and of 10 x 10 by 10 x 16, in two heads
    assert (product.kind, product.output, product.params) == ("attention", (10, 32), {})
    assert product.flops == 2 * 2 * (2 * 10 * 16 * 10)
    assert layers["embed/tokens"].flops == 10 * 32 and layers["block1/norm1"].flops == 5 * 10 * 32
    norm = layer_costs(create_model("resnet18"), 224)[1]
    assert (norm.name, norm.kind, norm.output) == ("stem/bn1", "BatchNorm", (112, 112, 64))
    assert (norm.num_params, norm.num_statistics, norm.flops) == (128, 128, 2 * 112 * 112 * 64)


def test_auxiliary_heads_follow_their_stage_and_are_no_part_of_a_forward_pass():
    with_heads = stage_costs(create_model("googlenet", aux_heads=True), 224)
    without = stage_costs(create_model("googlenet"), 224)
    names = list(with_heads)
    assert names[names.index("aux1") - 1] == "4a" and names[names.index("aux2") - 1] == "4d"
    assert [with_heads["aux1"].after, with_heads["aux2"].after, with_heads["4a"].after] == ["4a", "4d", None]
    # Caffe's and torchvision's aux1 on 14x14: 512 to 128 channels at 4x4, BatchNorm, 2048 to 1024 to 1000.
    assert with_heads["aux1"].flops == 2 * (16 * 512 * 128 + 2048 * 1024 + 1024 * 1000) + 2 * 16 * 128
    assert with_heads["aux1"].output == (1000,)
    assert forward_flops(with_heads) == forward_flops(without)


def test_nothing_is_allocated_lowered_or_compiled():
    events = []

    def listen(event, duration, **kwargs):
        events.append(event)

    before = sum(array.nbytes for array in jax.live_arrays())
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        stage_costs(create_model("vgg19"), 224)
        quiet = [event for event in events if "mlir" in event or "backend_compile" in event]
        jax.jit(lambda x: x + 41.5)(1.0)
        assert any("backend_compile" in event for event in events)  # the listener would have heard
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert quiet == []
    assert sum(array.nbytes for array in jax.live_arrays()) - before < 1e6


def test_images_too_small():
    with pytest.raises(ValueError, match="stage 'block5' has an empty output"):
        stage_costs(create_model("vgg16"), 20)
