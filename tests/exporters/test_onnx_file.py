"""model.onnx: ONNX Runtime makes of it what JAX makes of the run, of images and of normalized ones."""

import functools
import json
import sys

import jax
import numpy as np
import onnx_case
import pytest

from jft.data import transforms
from jft.data.transforms import Preprocess
from jft.evaluation.open_model import open_source
from jft.exporters import stablehlo
from jft.exporters.onnx import file, model
from jft.metrics.losses import Objective
from jft.models import Chain, layers
from jft.utils import tree


@pytest.fixture(scope="module")
def weights():
    return open_source("vgg_tiny.digits04")


@onnx_case.needs_onnx
@pytest.mark.parametrize(("fit", "kind"), [("whole", "softmax"), ("crop", "multilabel")])
def test_onnx_runtime_agrees_with_jax_for_batches_of_any_size(weights, tmp_path, fit, kind):
    side = transforms.stored_size(weights.spec, fit)
    variables = tree.unflatten(weights.read(False))
    predict = stablehlo.make_predict(weights.build(), variables, weights.spec, Objective(kind, 5), fit, 1.7)
    path = tmp_path / "model.onnx"
    file.write(predict, path, (side, side, 3), root="VGG")
    assert [held.name for held in tmp_path.iterdir()] == ["model.onnx"]  # the weights are in it
    opened = file.read(path)
    images = np.random.default_rng(0).integers(0, 256, (5, side, side, 3), np.uint8)
    wanted = onnx_case.of_jax(predict, images)
    for batch in (1, 5):
        found = opened(images[:batch])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted[:batch], rtol=1e-5, atol=1e-6)


@onnx_case.needs_onnx
@pytest.mark.parametrize("channels", ["RGB", "L"])
def test_normalized_images_channels_first(weights, tmp_path, channels):
    """Of such the function is the rest; the file's own facts say how to make them."""
    spec, fit = weights.spec, "crop"
    network, variables = weights.build(), tree.unflatten(weights.read(False))
    if channels == "L":
        spec = spec.gray()
        network = network.clone(in_channels=1)
        first = variables["params"]["block1"]["conv1_1"]
        first["kernel"] = first["kernel"].sum(2, keepdims=True)
    how = network, variables, spec, Objective("softmax", 5), fit, 1.7
    whole, rest = (stablehlo.make_predict(*how, normalized=normalized) for normalized in (False, True))
    shape = len(spec.channels), spec.size, spec.size
    facts = {"preprocess": json.dumps(spec.to_dict()), "fit": json.dumps(fit)}
    file.write(rest, tmp_path / "model.onnx", shape, np.float32, root="VGG", facts=facts)
    side = transforms.stored_size(spec, fit)
    images = np.random.default_rng(0).integers(0, 256, (5, side, side, 3), np.uint8)
    found, wanted = file.read(tmp_path / "model.onnx")(images), onnx_case.of_jax(whole, images)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@onnx_case.needs_onnx
def test_what_the_file_says_of_itself(weights, tmp_path):
    import onnx

    variables = tree.unflatten(weights.read(False))
    predict = stablehlo.make_predict(weights.build(), variables, Preprocess().at(32), Objective("softmax", 5), "whole")
    file.write(predict, tmp_path / "model.onnx", (32, 32, 3), root="VGG", facts={"fit": '"whole"'})
    held = onnx.load(tmp_path / "model.onnx")
    assert [(row.domain, row.version) for row in held.opset_import] == [("", model.OPSET)]
    assert {row.key: row.value for row in held.metadata_props} == {"fit": '"whole"'}
    (given,), (result,) = held.graph.input, held.graph.output
    lengths = [[n.dim_param or n.dim_value for n in row.type.tensor_type.shape.dim] for row in (given, result)]
    assert (given.name, result.name, lengths) == ("images", "probabilities", [["batch", 32, 32, 3], ["batch", 5]])
    names = {node.name: node for node in held.graph.node}
    assert len(names) == len(held.graph.node)
    first = names["block1/conv1_1/Conv"]
    assert [*first.input[1:]] == ["block1/conv1_1/kernel", "block1/conv1_1/bias"]
    assert {"preprocess/Cast", "block1/MaxPool", "head/head/Gemm"} <= {*names}


class Sorted(Chain):
    """A chain of a user's own, whose second stage ONNX could say but this writer cannot."""

    def published(self):
        def sort(x, *, train):
            return jax.numpy.sort(x, axis=1)

        return {
            "conv1": functools.partial(_Conv, 3),
            "order": functools.partial(_Call, sort),
            "head": functools.partial(layers.Head, self.num_classes, self.dtype),
        }


class _Conv(layers.nn.Module):
    width: int

    @layers.nn.compact
    def __call__(self, x, *, train):
        return layers.Conv(self.width, (3, 3), name="conv")(x)


class _Call(layers.nn.Module):
    function: object

    @layers.nn.compact
    def __call__(self, x, *, train):
        return self.function(x, train=train)


def test_what_has_no_translation_is_named_with_its_stage():
    network = Sorted(num_classes=3)
    function = onnx_case.of_model(network, onnx_case.seeded_variables(network, 8))
    with pytest.raises(ValueError, match=r"^stage 'order' has no translation to ONNX: JAX's primitive 'sort'$"):
        onnx_case.graph_of(function, (8, 8, 3), "Sorted")


@onnx_case.needs_onnx
def test_nothing_is_left_of_what_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match="'sort'"):
        file.write(lambda x: jax.numpy.sort(x), tmp_path / "model.onnx", (8,), np.float32)
    assert list(tmp_path.iterdir()) == []


@onnx_case.needs_onnx
def test_a_file_that_is_none_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"ONNX Runtime .* cannot read .*model\.onnx"):
        file.read(path)


@pytest.mark.parametrize("module", ["onnx", "onnxruntime"])
def test_without_the_extra_an_error_names_it(tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / "model.onnx"
    with pytest.raises(ValueError, match=rf"{module}.*pip install 'jft\[onnx\]'"):
        file.write(lambda x: x, path, (8,)) if module == "onnx" else file.read(path)
    assert not path.exists()
