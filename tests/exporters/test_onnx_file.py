"""ONNX Runtime makes of a converted model what JAX makes of it; without the extra an error names it."""

import importlib.util
import sys

import jax
import numpy as np
import pytest

from jft.data import transforms
from jft.data.transforms import Preprocess
from jft.evaluation.open_model import open_source
from jft.exporters import onnx_file, stablehlo
from jft.metrics.losses import Objective
from jft.models import abstract_variables
from jft.models.densenet import DenseNet
from jft.models.regnet import RegNet
from jft.models.resnet import ResNet
from jft.models.vit import ViT
from jft.utils import tree

MISSING = [name for name in ("jax2onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
needs_extra = pytest.mark.skipif(bool(MISSING), reason=f"no {' and '.join(MISSING)}: pip install 'jft[onnx]'")


@pytest.fixture(scope="module")
def weights():
    return open_source("vgg_tiny.digits04")


@needs_extra
@pytest.mark.parametrize(("fit", "kind"), [("whole", "softmax"), ("crop", "multilabel")])
def test_onnx_runtime_agrees_with_jax_for_batches_of_any_size(weights, tmp_path, fit, kind):
    side = transforms.stored_size(weights.spec, fit)
    variables = tree.unflatten(weights.read(False))
    predict = stablehlo.make_predict(weights.build(), variables, weights.spec, Objective(kind, 5), fit, 1.7)
    path = tmp_path / "model.onnx"
    onnx_file.write(predict, path, side)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]  # the weights are in it
    opened = onnx_file.read(path)
    images = np.random.default_rng(0).integers(0, 256, (5, side, side, 3), np.uint8)
    for batch in (1, 5):
        found = opened(images[:batch])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, predict(images[:batch]), atol=1e-5)


@needs_extra
def test_a_transformer(tmp_path):
    """Attention, exact GELU, LayerNorm, layer scales and positions that are resampled."""
    model = ViT(num_classes=3, width=16, depth=1, heads=2, patch=8, grid=3, registers=2, layer_scale=1e-5, pool="both")
    rng = np.random.default_rng(0)
    shapes = abstract_variables(model, 32)
    variables = jax.tree.map(lambda leaf: rng.normal(scale=0.3, size=leaf.shape).astype(np.float32), shapes)
    predict = stablehlo.make_predict(model, variables, Preprocess().at(32), Objective("softmax", 3), "whole")
    onnx_file.write(predict, tmp_path / "model.onnx", 32)
    images = rng.integers(0, 256, (5, 32, 32, 3), np.uint8)
    wanted = np.asarray(predict(images))
    np.testing.assert_allclose(onnx_file.read(tmp_path / "model.onnx")(images), wanted, atol=1e-5)
    assert np.ptp(wanted[:, 0]) > 0.01


@needs_extra
@pytest.mark.parametrize(
    "model",
    [
        ResNet(num_classes=3, blocks=(1, 1), groups=2),
        DenseNet(num_classes=3, blocks=(2, 1), growth=4),
        RegNet(num_classes=3, depths=(1, 1), widths=(8, 16)),
    ],
    ids=lambda model: type(model).__name__,
)
def test_a_network_whose_kernels_are_others_on_cpu(tmp_path, model):
    rng = np.random.default_rng(0)
    shapes = abstract_variables(model, 32)
    variables = jax.tree.map(lambda leaf: rng.uniform(0.1, 0.3, leaf.shape).astype(np.float32), shapes)
    variables["params"]["head"]["head"]["kernel"] *= rng.normal(size=(1, 3)).astype(np.float32)
    predict = stablehlo.make_predict(model, variables, Preprocess().at(32), Objective("softmax", 3), "whole")
    images = rng.integers(0, 256, (5, 32, 32, 3), np.uint8)
    wanted = np.asarray(predict(images))  # traced as on CPU first
    assert np.ptp(wanted) > 0.01
    onnx_file.write(predict, tmp_path / "model.onnx", 32)
    np.testing.assert_allclose(onnx_file.read(tmp_path / "model.onnx")(images), wanted, atol=1e-5)


@needs_extra
def test_what_the_converter_does_not_know_is_named(tmp_path):
    def predict(images):
        return jax.pure_callback(np.float32, jax.ShapeDtypeStruct((), np.float32), images[0, 0, 0, 0])

    with pytest.raises(ValueError, match=r"^jax2onnx cannot convert this model \(\w+: .*pure_callback.*\)\.$"):
        onnx_file.write(predict, tmp_path / "model.onnx", 8)
    assert list(tmp_path.iterdir()) == []


@needs_extra
def test_a_file_that_is_none_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"ONNX Runtime .* cannot read .*model\.onnx"):
        onnx_file.read(path)


@pytest.mark.parametrize("module", ["jax2onnx", "onnxruntime"])
def test_without_the_extra_an_error_names_it(tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / "model.onnx"
    with pytest.raises(ValueError, match=rf"{module}.*pip install 'jft\[onnx\]'"):
        onnx_file.write(lambda x: x, path, 8) if module == "jax2onnx" else onnx_file.read(path)
    assert not path.exists()
