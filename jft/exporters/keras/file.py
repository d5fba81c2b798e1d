"""Writes a run as one file of Keras or LiteRT: uint8 images to probabilities, preprocessing and temperature inside."""

import contextlib
import dataclasses
import io
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jft.data.lazy_tf import import_tensorflow
from jft.data.source import Source
from jft.exporters import stablehlo
from jft.exporters.keras import card, layers
from jft.exporters.onnx import int8 as int8_file
from jft.exporters.onnx.int8 import Judged
from jft.exporters.onnx.simplify import simplified
from jft.exporters.onnx.trace import trace
from jft.exporters.onnx.translate import translate
from jft.exporters.opened import LIMIT, Opened, open_run
from jft.utils.files import check_folder, written_whole

SUFFIXES = (".keras", ".tflite")
_FLOAT16_LIMIT = 2e-2  # largest difference of a probability; weights are rounded to 11 bits


@dataclasses.dataclass(frozen=True)
class Written:
    """A file that was written.

    Attributes:
      path: the file.
      size: bytes.
      error: largest difference of a probability from the checkpoint's.
      images: number of test images on which they were compared.
      int8: figures of a quantized network.
    """

    path: Path
    size: int
    error: float
    images: int
    int8: Judged | None = None

    def __str__(self) -> str:
        near = f"probabilities within {self.error:.1e} of the checkpoint's on {self.images} test images"
        return f"{self.path}: {self.size / 1e6:.1f} MB, {self.int8 or near}"


def write(
    workdir: str | Path,
    out: str | Path,
    *,
    data_dir: str | None = None,
    data: Source | None = None,
    int8: bool = False,
) -> Written:
    """Writes a .keras file in float32, or a .tflite file with weights in float16 or, quantized, int8.

    The file takes uint8 images [batch, side, side, 3] and gives float32 probabilities [batch, classes]; it carries its
    model card and class names, see `card.pack`.

    Args:
      workdir: folder of a run.
      out: the file, .keras or .tflite; must not exist.
      data_dir: folder or file of the run's data now; None: the place of the training data.
      data: the images that the run was trained on, where it was given them in memory.
      int8: quantize a .tflite statically, weights and activations, on up to 200 training images; see `int8.judge`.

    Returns:
      What was written.

    Raises:
      ValueError: there is no run; `out` cannot be written; TensorFlow is not installed; the network has no translation
        or is not converted; or the file does not reproduce the checkpoint's probabilities: by more than 1e-4, or 2e-2
        in float16, or significantly worse in int8. Nothing is kept.
    """
    out = Path(out)
    check_out(out, int8=int8)
    keras, tf = _packages()
    opened = open_run(workdir, data_dir, data)
    if int8:
        int8_file.check(opened)
        if opened.predictor.model.pool == "stages":
            raise ValueError(
                "a head on all stages divides by small numbers, which LiteRT has not in 8 bits: leave int8 out, or "
                "export model_int8.onnx, where the head stays in float32."
            )
    network = _network(keras, opened)
    with written_whole(out) as aside:
        judged = None
        if out.suffix == ".keras":
            error = _write_keras(keras, network, aside, out.name, opened)
        else:
            train = opened.trained.images("train", dataset=data, data_dir=data_dir) if int8 else None
            error, judged = _write_lite(tf, network, aside, out.name, opened, train)
        return Written(out, aside.stat().st_size, error, len(opened.squares()), judged)


def check_out(out: Path, *, int8: bool = False) -> None:
    """Raises a ValueError if the file cannot be written; called before anything is computed."""
    if out.suffix not in SUFFIXES or not out.parent.is_dir():
        raise ValueError(f"{out} cannot be written: give a .keras or .tflite file in a folder that exists.")
    if int8 and out.suffix == ".keras":
        raise ValueError(f"int8 is of .tflite files, not of {out.name}: give {out.stem}.tflite, or leave int8 out.")
    if out.exists():
        raise ValueError(f"{out} exists already and is not overwritten: give another file, or remove it.")
    check_folder(out.parent, "give a file in another folder")


def _packages() -> tuple[Any, Any]:
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    try:
        tf = import_tensorflow()
        import keras
    except ImportError as error:
        raise ValueError(f"Keras and LiteRT files need TensorFlow ({error}): pip install tensorflow.") from error
    if (backend := keras.backend.backend()) != "tensorflow":
        raise ValueError(f"Keras runs on {backend} here, and its files need TensorFlow: set KERAS_BACKEND=tensorflow.")
    return keras, tf


def _network(keras: Any, opened: Opened) -> Any:
    of = opened.predictor
    predict = stablehlo.make_predict(of.model, of.variables, of.spec, of.objective, of.fit, of.temperature)
    root = type(of.model).__name__
    traced = trace(predict, (of.side, of.side, 3), np.uint8)
    return layers.build(keras, simplified(translate(traced, "images", root)), root)


def _error(opened: Opened, found: Callable[[np.ndarray], np.ndarray], limit: float, name: str) -> float:
    squares = opened.squares()
    wanted = opened.predictor.probabilities(opened.logits(squares), opened.predictor.temperature)
    error = float(np.abs(found(squares) - wanted).max())
    if not error <= limit:
        raise ValueError(
            f"{name} gives probabilities that differ from the checkpoint's by up to {error:.1e}, more than {limit}: "
            "nothing was kept."
        )
    return error


def _write_keras(keras: Any, network: Any, path: Path, name: str, opened: Opened) -> float:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.keras"  # Keras insists on the suffix
        network.save(file)
        card.pack(file, name, opened)  # before it is read again: what is compared is what is kept
        read = keras.models.load_model(file)
        path.write_bytes(file.read_bytes())
    return _error(opened, lambda images: read.predict(images, verbose=0), LIMIT, "the Keras file")


def _write_lite(
    tf: Any, network: Any, path: Path, name: str, opened: Opened, train: Source | None
) -> tuple[float, Judged | None]:
    if train is None:
        path.write_bytes(_converted(tf, network, float16=True))
        card.pack(path, name, opened)
        return _error(opened, _reader(tf, path), _FLOAT16_LIMIT, "the LiteRT file"), None
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "model.tflite"
        whole.write_bytes(_converted(tf, network))
        error = _error(opened, _reader(tf, whole), LIMIT, "the LiteRT file in float32")
        path.write_bytes(_converted(tf, network, images=lambda: int8_file.calibration(opened, train)))
        judged = int8_file.judge(
            (whole, path), lambda file: _reader(tf, file), opened, len(opened.predictor.class_names)
        )
    card.pack(path, name, opened, judged)  # at the end, which interpreters do not read
    return error, judged


def _converted(
    tf: Any, network: Any, *, float16: bool = False, images: Callable[[], Iterator[np.ndarray]] | None = None
) -> bytes:
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    if float16 or images is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if float16:
        converter.target_spec.supported_types = [tf.float16]
    if images is not None:
        converter.representative_dataset = lambda: ([image[None]] for batch in images() for image in batch)
    try:
        # TensorFlow prints the signature, and Python's warnings are of its own versions.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            return converter.convert()
    except Exception as error:  # the converter raises errors of many types
        raise ValueError(f"TensorFlow {tf.__version__} cannot convert the network to LiteRT ({error}).") from error


def _reader(tf: Any, path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """A function of the file on one thread, an image at a time, as phones run it; ValueError if it does not run."""
    network = tf.lite.Interpreter(str(path), num_threads=1)

    def run(squares: np.ndarray) -> np.ndarray:
        rows = []
        network.allocate_tensors()
        (images,), (answer,) = network.get_input_details(), network.get_output_details()
        for square in squares:
            network.set_tensor(images["index"], square[None])
            network.invoke()
            rows.append(network.get_tensor(answer["index"])[0])
        return np.stack(rows)

    def checked(squares: np.ndarray) -> np.ndarray:
        try:
            return run(squares)
        except RuntimeError as error:
            raise ValueError(f"LiteRT cannot run the converted network ({error}): export ONNX instead.") from error

    return checked
