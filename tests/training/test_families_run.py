"""Small networks of all families: frozen up to any stage, cached, trained, resumed and exported."""

import functools

import jax
import numpy as np
import pytest
import tiny_run
from on_demand import on_demand
from plain_step import make_batch, make_state_and_step

from jft.models import MODELS, create_model, initialize
from jft.models.alexnet import AlexNet
from jft.models.cnn import CNN
from jft.models.convnext import ConvNeXt
from jft.models.densenet import DenseNet
from jft.models.efficientnet import EfficientNet, EfficientNetV2
from jft.models.googlenet import GoogLeNet
from jft.models.inception import InceptionV3
from jft.models.mbconv import Blocks
from jft.models.mobilenet import MobileNetV1, MobileNetV2, MobileNetV3, MobileNetV4
from jft.models.regnet import RegNet
from jft.models.resnet import ResNet
from jft.models.squeezenet import SqueezeNet
from jft.models.vgg import VGG
from jft.models.vit import ViT
from jft.utils import tree


def table(*rows, kind="mbconv", **fields):
    """Stages of one block each: expansion, kernel, stride, and whether it squeezes."""
    return tuple((Blocks(kind, e, k, s, 8, 1, squeeze=squeeze, **fields),) for e, k, s, squeeze in rows)


MBCONV = table((1, 3, 1, False), (4, 5, 2, True), (4, 3, 1, True))
SMALL = {"stem_width": 8, "top_width": 16}
SEPARABLE = table((1, 3, 1, False), (1, 3, 2, False), kind="separable")
UNIVERSAL = table((4, 3, 2, False), (4, 5, 1, False), kind="uib", start=3)
# The model as which it is trained: its constructor, and the stage up to which it is frozen where its maps are cached.
FAMILIES = {
    "efficientnet_b0": (functools.partial(EfficientNet, table=MBCONV, padding="same", **SMALL), "stage2"),
    "efficientnet_v2_s": (
        functools.partial(EfficientNetV2, table=(*table((4, 3, 2, False), kind="fused"), *MBCONV), **SMALL),
        "stage2",
    ),
    "mobilenet_v1": (functools.partial(MobileNetV1, table=SEPARABLE, stem_width=8), "stage1"),
    "mobilenet_v2": (functools.partial(MobileNetV2, table=MBCONV[:2], **SMALL), "stage1"),
    "mobilenet_v3_small": (functools.partial(MobileNetV3, table=MBCONV, **SMALL, hidden_width=16), "stage2"),
    "mobilenet_v4_conv_small": (
        functools.partial(MobileNetV4, table=UNIVERSAL, **SMALL, hidden_width=16),
        "stage1",
    ),
    "densenet121": (functools.partial(DenseNet, blocks=(1, 1, 1, 1), growth=4), "denseblock3"),
    "regnet_y_400mf": (functools.partial(RegNet, depths=(1, 1), widths=(16, 24)), "stage1"),
    "resnext50_32x4d": (functools.partial(ResNet, blocks=(1, 1, 1, 1), groups=8, width_per_group=4), "layer3"),
    "convnextv2_atto": (functools.partial(ConvNeXt, blocks=(1, 1, 1, 1), width=4, grn=True), "stage3"),
    "vit_small_patch14_reg4_dinov2": (
        functools.partial(
            ViT, width=8, depth=2, heads=2, patch=8, grid=6, registers=4, class_position=False, layer_scale=0.5
        ),
        "block1",
    ),
}
# Older ones. GoogLeNet and Inception, of which every boundary takes half a minute to compile, are not here.
OLDER = {
    "alexnet": functools.partial(AlexNet, widths=(4, 6, 8, 6, 4), hidden=8, default_size=64),
    "cnn": CNN,
    "squeezenet1_1": functools.partial(SqueezeNet, default_size=64),
    "vgg11": functools.partial(VGG, convs=(1, 2), widths=(4, 6), hidden=8, grid=3, default_size=12),
}
ALL = {name: functools.partial(build, default_size=32) for name, (build, _) in FAMILIES.items()} | OLDER


def each(names, few):
    """Of the names a few among the long tests, the others on demand."""
    marks = {True: pytest.mark.slow, False: on_demand("other families are trained alike")}
    return [pytest.param(name, marks=marks[name in few]) for name in names]


def test_every_family_is_here():
    others = {type(create_model(name)) for name in MODELS} - {type(build()) for build in ALL.values()}
    assert others == {GoogLeNet, InceptionV3}


@pytest.mark.parametrize(
    "name", each(FAMILIES, ("efficientnet_b0", "densenet121", "resnext50_32x4d", "regnet_y_400mf"))
)
def test_cached_features_and_live_ones_teach_the_same_and_a_resumed_run_goes_on(tmp_path, name):
    build, freeze = FAMILIES[name]
    with tiny_run.under_its_name(name, functools.partial(build, default_size=32)):
        tiny_run.check(tmp_path, name, freeze=freeze, batch_norm="frozen")


@pytest.mark.parametrize("name", each(ALL, ("mobilenet_v4_conv_small", "vgg11")))
def test_frozen_up_to_any_stage(name):
    """What is frozen keeps its bits, statistics included; in every later stage something moves."""
    model = ALL[name](num_classes=4)
    variables = initialize(model, model.default_size, seed=0)
    before = {kind: tree.flatten(variables[kind]) for kind in variables}
    batch = make_batch(size=model.default_size)
    stages = [stage for stage in model.stages() if stage in variables["params"]]
    for boundary in stages[:-1]:
        plan, state, step = make_state_and_step(model, variables, boundary)
        assert plan.boundary == boundary
        after, _ = jax.jit(step)(state, batch)
        frozen = set(stages[: stages.index(boundary) + 1])
        for kind, leaves in before.items():
            found = tree.flatten(getattr(after, kind))
            moved = {name for name, x in leaves.items() if np.asarray(x).tobytes() != np.asarray(found[name]).tobytes()}
            assert not {leaf for leaf in moved if leaf.split("/")[0] in frozen}
            moving = {leaf.split("/")[0] for leaf in leaves} - frozen
            assert {leaf.split("/")[0] for leaf in moved} == moving, (boundary, kind)
