"""Int8: a network of model.onnx quantized on training images by ONNX Runtime, kept only if it is not clearly worse."""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jft.data.source import Source
from jft.exporters.onnx import file as onnx_file
from jft.exporters.opened import Opened
from jft.metrics import classification

NAME = "model_int8.onnx"
# What is computed on 8 bits. The head, what comes after it, and the preprocessing stay in float32.
_OPERATORS = ("Conv", "Gemm", "MatMul", "Add", "Concat", "MaxPool", "Relu", "Clip")
_KEPT = ("preprocess", "joined", "head", "probabilities", "features", "maps")
_CALIBRATED_ON = 200  # training images
_BATCH = 20
_SIGNIFICANT = 0.05
_TIMED = 30  # runs of one image, of whose shortest the speed is told


@dataclasses.dataclass(frozen=True)
class Judged:
    """A quantized network beside the one that it comes from, on all test images.

    Attributes:
      size: bytes of its file.
      size_ratio: its size, divided by that of the float32 file.
      speed_ratio: how many times as fast it runs on a core of this machine's CPU, an image at a time.
      accuracy: of the float32 network and of this one.
      count: number of test images.
      p_value: of McNemar's exact test between the two.
    """

    size: int
    size_ratio: float
    speed_ratio: float
    accuracy: tuple[float, float]
    count: int
    p_value: float

    def __str__(self) -> str:
        before, after = self.accuracy
        return (
            f"int8: accuracy {after:.2%}, in float32 {before:.2%}, on {self.count:,} test images (McNemar's exact p = "
            f"{self.p_value:.3g}); {self.size_ratio:.2f} of the size, {self.speed_ratio:.2f} times as fast on a "
            "core of the exporting CPU"
        )


def quantize(path: Path, out: Path, opened: Opened, train: Source, classes: int) -> Judged:
    """Quantizes a network statically (weights int8 by channel, activations uint8), and judges it on the test images.

    The ranges of the activations are those of up to 200 training images; see
    https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html.

    Args:
      path: a file of `file.write` that takes uint8 images, whose first outputs are probabilities.
      out: the file to write.
      opened: the run.
      train: its training images.
      classes: number of probabilities.

    Returns:
      Figures of both.

    Raises:
      ValueError: images have several labels; or McNemar's exact test finds it worse at 5 %: `out` is removed.
    """
    check(opened)
    _quantize(path, out, calibration(opened, train))
    return judge((path, out), lambda file: onnx_file.read_as_given(file, threads=1), opened, classes)


def check(opened: Opened) -> None:
    """Raises a ValueError if a quantized network of the run could not be judged."""
    if opened.test.multi_label:
        raise ValueError("int8 is judged by McNemar's test, which needs images with one label each: leave int8 out.")


def calibration(opened: Opened, train: Source) -> Iterator[np.ndarray]:
    """Batches of up to 200 training images in all, as the model reads them: uint8 [n, side, side, 3]."""
    rows = np.linspace(0, len(train) - 1, min(_CALIBRATED_ON, len(train))).round().astype(int)
    return _batches(opened, train, rows)


def judge(files: tuple[Path, Path], read: Callable[[Path], Callable], opened: Opened, classes: int) -> Judged:
    """Compares a quantized network with the one that it comes from, on all test images.

    Args:
      files: the float32 network and the quantized one.
      read: opens such a file on one core: uint8 [n, side, side, 3] -> float32 [n, at least `classes`].
      opened: the run.
      classes: number of probabilities.

    Returns:
      Figures of both.

    Raises:
      ValueError: McNemar's exact test finds the quantized one worse at 5 %: its file is removed.
    """
    networks = [read(file) for file in files]
    right = _right(networks, opened, classes)
    found = classification.mcnemar(*right)
    before, after = _seconds(networks, next(_batches(opened, opened.test, np.arange(1))))
    sizes = [file.stat().st_size for file in files]
    accuracy = float(right[0].mean()), float(right[1].mean())
    judged = Judged(sizes[1], sizes[1] / sizes[0], before / after, accuracy, len(opened.test), found.p_value)
    if found.p_value < _SIGNIFICANT and accuracy[1] < accuracy[0]:
        files[1].unlink()
        raise ValueError(f"the quantized network is significantly worse, so it is not kept: {judged}. Leave int8 out.")
    return judged


def _batches(opened: Opened, source: Source, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Images of these rows, as the network takes them."""
    read, spec = opened.predictor.read, opened.predictor.spec
    for start in range(0, len(rows), _BATCH):
        yield np.stack([read(source.pixels(row, spec)) for row in rows[start : start + _BATCH].tolist()])


def _right(networks: list[Callable[[Any], np.ndarray]], opened: Opened, classes: int) -> np.ndarray:
    """Which test images each network answers correctly: bool [networks, n]."""
    batches = _batches(opened, opened.test, np.arange(len(opened.test)))
    answers = [[network(images)[:, :classes].argmax(1) for network in networks] for images in batches]
    return np.concatenate(answers, axis=1) == opened.test.labels


def _seconds(networks: list[Callable[[Any], np.ndarray]], image: np.ndarray) -> list[float]:
    """Shortest processor time of each on one image, in turn: other work on the machine only lengthens it."""
    times = []
    for _ in range(_TIMED):
        starts = [time.process_time()]
        for network in networks:
            network(image)
            starts.append(time.process_time())
        times.append(np.diff(starts))
    return np.min(times, axis=0).tolist()


def _quantize(path: Path, out: Path, batches: Iterator[np.ndarray]) -> None:
    import onnx
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def get_next(self) -> Any:
            return next(({"images": batch} for batch in batches), None)

    prepared = out.with_name(f".{out.name}.prepared")
    disabled = logging.root.manager.disable
    logging.disable(max(disabled, logging.WARNING))  # its advice to prepare the model, which is done here
    try:
        quantization.quant_pre_process(path, prepared, skip_symbolic_shape=True)
        graph = onnx.load(prepared).graph
        last = graph.output[0].name
        left = [
            node.name
            for node in graph.node
            if node.op_type not in _OPERATORS or node.name.split("/")[0] in _KEPT or last in node.output
        ]
        quantization.quantize_static(
            prepared,
            out,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=list(_OPERATORS),
            nodes_to_exclude=left,
        )
    finally:
        logging.disable(disabled)
        prepared.unlink(missing_ok=True)
