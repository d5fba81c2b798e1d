"""A run as a file of Keras or LiteRT: the same probabilities, and what cannot be written is refused."""

import functools
import pathlib
import types
import zipfile

import numpy as np
import onnx_case
import pytest
import small_digits

from jft.data import lazy_tf
from jft.exporters.keras import file, layers
from jft.exporters.opened import open_run
from jft.models.convnext import ConvNeXt
from jft.models.densenet import DenseNet
from jft.models.efficientnet import EfficientNet
from jft.models.layers import local_response_norm
from jft.models.mbconv import Blocks
from jft.models.resnet import ResNet
from jft.models.vgg import VGG
from jft.models.vit import ViT
from jft.training.loop import train

pytestmark = [pytest.mark.xdist_group("run"), pytest.mark.usefixtures("quick")]
needs_tensorflow = pytest.mark.skipif(not lazy_tf.is_installed(), reason="no TensorFlow: pip install tensorflow")
_TABLE = ((Blocks("mbconv", 2, 3, 2, 8, 1, squeeze=True),),)
_SMALL = {
    "grouped": ResNet(num_classes=3, blocks=(1, 1), groups=2, width_per_group=32),
    "dense": DenseNet(num_classes=3, blocks=(2, 1), growth=4),
    "mbconv": EfficientNet(num_classes=3, table=_TABLE, stem_width=8, top_width=16, padding="same"),
    "vgg": VGG(convs=(1, 1), widths=(8, 8), hidden=16, num_classes=3, default_size=32),  # whose map is resized to 7 x 7
    "grn": ConvNeXt(num_classes=3, blocks=(1, 1), width=8, grn=True),
    "vit": ViT(num_classes=3, width=16, depth=1, heads=2, patch=8, grid=3, registers=2, layer_scale=1.0, pool="both"),
    "stages": VGG(convs=(1, 1), widths=(8, 8), hidden=16, num_classes=3, new_head="linear", pool="stages"),
}


def keras_of(function):
    import keras

    return function, layers.build(keras, onnx_case.graph_of(function, (32, 32, 3)))


@needs_tensorflow
@pytest.mark.slow
@pytest.mark.parametrize("name", _SMALL)
def test_each_kind_of_block(name, tmp_path):
    import keras

    function, network = keras_of(onnx_case.of_model(_SMALL[name], onnx_case.seeded_variables(_SMALL[name], 32)))
    network.save(tmp_path / "model.keras")
    network = keras.models.load_model(tmp_path / "model.keras")
    images = onnx_case.images_of((32, 32, 3))
    wanted = onnx_case.of_jax(function, images)
    assert np.abs(network.predict(images, verbose=0) - wanted).max() < 1e-5 * np.abs(wanted).max()


@needs_tensorflow
@pytest.mark.slow
def test_an_operator_without_a_layer_is_named():
    with pytest.raises(ValueError, match=r"the network has no translation to Keras: ONNX's operator LRN\. Export ONNX"):
        keras_of(functools.partial(local_response_norm, size=5, alpha=1e-4, beta=0.75))


@needs_tensorflow
@pytest.mark.slow
def test_files_of_a_run(tmp_path, command, monkeypatch):
    run = tmp_path / "run"
    own = {"model": "squeezenet1_1", "weights": "", "freeze": "", "steps": 2, "batch_size": 8}
    train(small_digits.make(tmp_path / "features", **own), run)
    keras, tf = file._packages()
    opened = open_run(run, None, None)
    squares = opened.squares()
    wanted = opened.predictor.probabilities(opened.logits(squares), opened.predictor.temperature)
    paths = [tmp_path / name for name in ("model.keras", "model.tflite", "int8.tflite")]
    for path in paths:
        status, out, error = command("export", run, "--to", path, *["--int8"] * (path.stem == "int8"))
        assert status == 0, error
        assert str(path) in out and ("McNemar" in out) == (path.stem == "int8")
    found = keras.models.load_model(paths[0]).predict(squares, verbose=0)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    lite = tf.lite.Interpreter(str(paths[1]))
    lite.allocate_tensors()
    (images,), (answer,) = lite.get_input_details(), lite.get_output_details()
    assert images["dtype"] == np.uint8
    lite.set_tensor(images["index"], squares[:1])
    lite.invoke()
    np.testing.assert_allclose(lite.get_tensor(answer["index"]), wanted[:1], atol=1e-2)
    assert paths[2].stat().st_size < paths[1].stat().st_size < paths[0].stat().st_size
    for path in paths:
        with zipfile.ZipFile(path) as archive:
            assert archive.read("labels.txt").decode().split() == [*opened.predictor.class_names]
            text = archive.read("README.md").decode()
        assert f'"{path.name}"' in text.replace("'", '"') and ("McNemar" in text) == (path.stem == "int8")
    with pytest.raises(ValueError, match="exists already"):
        file.write(run, paths[0])
    monkeypatch.setattr(file, "LIMIT", -1.0)
    with pytest.raises(ValueError, match="the Keras file gives probabilities that differ"):
        file.write(run, tmp_path / "other.keras")
    assert not (tmp_path / "other.keras").exists()


def test_a_network_that_does_not_run_is_refused():
    class Interpreter:
        def __init__(self, *args, **options):
            self.get_input_details = self.get_output_details = lambda: [{"index": 0}]
            self.allocate_tensors, self.set_tensor = lambda: None, lambda index, images: None

        def invoke(self):
            raise RuntimeError("data[i] != 0 was not true")

    tf = types.SimpleNamespace(lite=types.SimpleNamespace(Interpreter=Interpreter))
    with pytest.raises(ValueError, match=r"cannot run the converted network \(data\[i\] != 0 .*export ONNX instead"):
        file._reader(tf, pathlib.Path("x"))(np.zeros((1, 8, 8, 3), np.uint8))


def test_what_cannot_be_asked_for(tmp_path, command, monkeypatch):
    def missing():
        raise ImportError("none here")

    monkeypatch.setattr(file, "import_tensorflow", missing)
    for arguments, wrong in (
        (("--to", tmp_path / "x.keras", "--int8"), "int8 is of .tflite files, not of x.keras: give x.tflite"),
        (("--to", tmp_path / "no" / "x.tflite"), "cannot be written: give a .keras or .tflite file in a folder"),
        (("--to", tmp_path / "x.tflite", "--training-images", 3), "--training-images belongs to the page"),
        (("--to", tmp_path / "x.tflite"), "need TensorFlow (none here): pip install tensorflow"),
    ):
        status, _, error = command("export", "nothing", *arguments)
        assert status == 1 and wrong in error
