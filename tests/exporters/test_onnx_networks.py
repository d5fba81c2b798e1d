"""Networks of every kind of block as ONNX: equal to JAX, and as short as one would draw them."""

import collections
import functools

import kinds
import onnx_case
import pytest
from on_demand import on_demand

from jft.exporters.onnx.graph import CONSTANT, INPUT, ordered
from jft.models import MODELS, create_model
from jft.models.convnext import ConvNeXt
from jft.models.densenet import DenseNet
from jft.models.efficientnet import EfficientNet
from jft.models.mbconv import Blocks
from jft.models.regnet import RegNet
from jft.models.resnet import ResNet
from jft.models.vit import ViT
from jft.utils import tree
from jft.weights import proofs
from jft.weights.catalog import CATALOG

LIMIT = 1e-5
_TABLE = (
    (
        Blocks("mbconv", 2, 3, 2, 8, 1, squeeze=True),
        Blocks("uib", 2, 5, 1, 8, 1, start=3, activation="hard_swish"),
    ),
)
_SMALL = {
    "basic": ResNet(num_classes=3, blocks=(1, 1), bottleneck=False),
    "grouped": ResNet(num_classes=3, blocks=(1, 1), groups=2, width_per_group=32),
    "dense": DenseNet(num_classes=3, blocks=(2, 1), growth=4),
    "regnet": RegNet(num_classes=3, depths=(1, 1), widths=(8, 16)),
    "mbconv": EfficientNet(num_classes=3, table=_TABLE, stem_width=8, top_width=16, padding="same"),
    "convnext": ConvNeXt(num_classes=3, blocks=(1, 1), width=8),
    "grn": ConvNeXt(num_classes=3, blocks=(1, 1), width=8, grn=True),
    "vit": ViT(num_classes=3, width=16, depth=1, heads=2, patch=8, grid=3, registers=2, layer_scale=1.0, pool="both"),
}


@functools.cache
def graph(name, size=32):
    model = _SMALL[name]
    function = onnx_case.of_model(model, onnx_case.seeded_variables(model, size))
    return ordered(onnx_case.graph_of(function, (size, size, 3), type(model).__name__))


def counts(name):
    return collections.Counter(node.op for node in graph(name) if node.op not in (CONSTANT, INPUT))


# Whose parts others have too.
_LONG = ("basic", "regnet", "convnext")


@onnx_case.needs_onnx
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in _LONG)) for name in _SMALL])
def test_each_kind_of_block(tmp_path, name):
    model = _SMALL[name]
    function = onnx_case.of_model(model, onnx_case.seeded_variables(model, 32))
    found = onnx_case.errors(function, (32, 32, 3), tmp_path / "model.onnx", type(model).__name__)
    assert max(found) < LIMIT


def test_batchnorm_is_folded_and_only_the_input_transposed():
    assert counts("basic") == {
        **{"Transpose": 1, "Conv": 6, "Relu": 5, "MaxPool": 1, "Add": 2},
        **{"GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1},
    }
    strided = [node for node in graph("basic") if node.scope == "layer2/block0/downsample_conv"]
    assert [node.attributes["strides"] for node in strided if node.op == "Conv"] == [(2, 2)]


def test_a_batchnorm_that_no_convolution_precedes_is_one():
    assert counts("dense")["BatchNormalization"] == 5  # of 2 + 1 layers, a transition, and norm5


def test_between_convolutions_convnext_keeps_channels_last():
    found = counts("convnext")
    assert found["Conv"] == 4 and found["MatMul"] == 4 and found["LayerNormalization"] == 5 and found["Gelu"] == 2
    # The images; around each depthwise convolution, after the stem and before the second stage's convolution.
    assert found["Transpose"] <= 10


def test_attention_has_its_softmax():
    found = counts("vit")
    assert found["Softmax"] == found["Gelu"] == 1 and found["LayerNormalization"] == 3 and "Erf" not in found


def published(name):
    """A network with the seeded weights of its proof."""
    row = next((row for row in CATALOG.values() if row.model == name and row.top), None)
    if row is None:
        model = create_model(name, num_classes=10)
        return model, onnx_case.seeded_variables(model, model.default_size)
    model, leaves = proofs.seeded_model(row)
    return model.clone(aux_heads=False), tree.unflatten(leaves)


def sizes(name, model):
    """Two sizes of images, small but whole to each stage; one where dense layers read a flat map."""
    if name in ("alexnet_caffe", "cnn"):
        return (model.default_size,)
    if name == "inception_v3":
        return (139, 192)
    return (112, 224) if getattr(model, "patch", 0) == 14 else (64, 96)


def check_published(name, tmp_path):
    model, variables = published(name)
    for size in sizes(name, model):
        path = tmp_path / f"{size}.onnx"
        found = onnx_case.errors(onnx_case.of_model(model, variables), (size, size, 3), path)
        path.unlink()
        assert max(found) < LIMIT, size


@onnx_case.needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(kinds.smallest_models()))
def test_the_smallest_of_each_kind(tmp_path, name):
    check_published(name, tmp_path)


@on_demand("the smallest of each kind are among the long tests")
@onnx_case.needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*MODELS} - kinds.smallest_models()))
def test_every_other_network(tmp_path, name):
    check_published(name, tmp_path)
