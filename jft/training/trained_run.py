"""A run after training: the model with its folder, so that it is judged, shown and exported by one object."""

import dataclasses
from pathlib import Path
from typing import Any

from PIL import Image

from jft.data import grid
from jft.data.dataset import Dataset, check_given
from jft.data.source import Source
from jft.evaluation import evaluate as evaluate_lib
from jft.evaluation import load as load_lib
from jft.evaluation.evaluate_model import evaluate_model
from jft.evaluation.predictor import Predictor
from jft.evaluation.report import charts, write_report
from jft.exporters import bundle
from jft.exporters.demo.page import Demo, write_demo
from jft.exporters.keras import file as keras_file
from jft.utils.files import written_whole
from jft.utils.logger import read_metrics
from jft.utils.registry import code_allowed


@dataclasses.dataclass(frozen=True, repr=False, kw_only=True)
class TrainedRun(Predictor):
    """A run: the model of its best checkpoint, and the folder that it was trained in. Made by `train` and `load`.

    Attributes:
      workdir: folder of the run.
      data: the images that it was trained on, where they were given in memory; None: its config says where they lie,
        or they are to be given again.
      allow_code: whether to import what the run names as "module:function", such as its dataset and metrics.
    """

    workdir: Path
    data: Source | None = None
    allow_code: bool = False

    @property
    def config(self) -> dict[str, Any]:
        """Every field of the config, in types that JSON has."""
        assert self.info is not None  # a run has one
        return dict(self.info.config)

    @property
    def log(self) -> list[dict[str, Any]]:
        """Every line of `metrics.jsonl`: {'kind', 'step', ...}, of training every `log_every` steps."""
        return read_metrics(self.workdir)

    @property
    def history(self) -> list[dict[str, Any]]:
        """The evaluations on validation, in order: {'step', 'loss', 'accuracy', 'top5', 'count', ...}."""
        return [{k: v for k, v in line.items() if k != "kind"} for line in self.log if line["kind"] == "validation"]

    def evaluate(self, data: Dataset | Source | None = None, *, split: str = "test", tta: str = "") -> dict[str, Any]:
        """Evaluates on every image of a split, and keeps the figures in the folder, see `evaluation.evaluate.evaluate`.

        Args:
          data: other images of the same classes; a split of them, such as `data.test`, is evaluated whole. None: those
            that it was trained on.
          split: 'test', 'validation' or 'train'; 'all' for images that are new altogether.
          tta: test-time augmentation, 'flip' or 'crops', reported apart; '': none.

        Returns:
          'loss' in nats, 'accuracy' and 'top5' as shares of 1, 'count', 'accuracy_interval', 'per_class',
          'confusion_matrix', 'top_losses', ...

        Raises:
          ValueError: the images' classes are not the model's; or those that it was trained on are not here.
        """
        with code_allowed(self.allow_code):
            return evaluate_lib.evaluate(self.workdir, tta=tta, **self._images(data, split))

    def report(
        self, out: str | Path | None = None, *, data: Dataset | Source | None = None, split: str = "test"
    ) -> Path:
        """Evaluates, and writes a page that needs nothing else.

        Args:
          out: the file; None: `report.html` in the folder of the run.
          data: the images that it was trained on, where they were given in memory and the run has been loaded since.
          split: images to judge it by, 'test' or 'validation'.

        Returns:
          The file.
        """
        with code_allowed(self.allow_code):
            path, _ = write_report(self.workdir, split=split, out=out, data=self._own(data))
        return path

    def export(
        self,
        out: str | Path,
        *,
        data_dir: str | None = None,
        data: Dataset | Source | None = None,
        preprocessing: bool = True,
        int8: bool = False,
    ) -> list[bundle.Shipped]:
        """Writes StableHLO, ONNX, weights and a model card, each proved on test images, see `exporters.bundle.ship`.

        Args:
          out: the folder to make; must not exist.
          data_dir: where the run's data lie now; None: where they lay in training.
          data: as of `report`.
          preprocessing: whether model.onnx reads uint8 images; otherwise normalized ones, channels first.
          int8: write model_int8.onnx too, unless it is significantly worse.

        Returns:
          A line for each file: its name, its size in bytes, and how near its probabilities are.
        """
        with code_allowed(self.allow_code):
            own = self._own(data)
            options = {"preprocessing": preprocessing, "int8": int8}
            return bundle.ship(self.workdir, out, data_dir=data_dir, data=own, **options)

    def export_file(
        self,
        out: str | Path,
        *,
        data_dir: str | None = None,
        data: Dataset | Source | None = None,
        int8: bool = False,
    ) -> keras_file.Written:
        """Writes one file of Keras or LiteRT, compared on test images, see `exporters.keras.file.write`.

        Args:
          out: the file, .keras in float32 or .tflite; must not exist.
          data_dir: where the run's data lie now; None: where they lay in training.
          data: as of `report`.
          int8: quantize a .tflite, unless it is significantly worse then; otherwise its weights are float16.

        Returns:
          Its path, its size in bytes, and how near its probabilities are.
        """
        with code_allowed(self.allow_code):
            return keras_file.write(self.workdir, out, data_dir=data_dir, data=self._own(data), int8=int8)

    def demo(
        self,
        out: str | Path,
        *,
        data_dir: str | None = None,
        data: Dataset | Source | None = None,
        training_images: int = 0,
        int8: bool = False,
    ) -> Demo:
        """Writes one HTML file with the network inside, that classifies images in a browser; see `write_demo`.

        Args:
          out: the file, .html; a page that jft wrote is replaced.
          data_dir: where the run's data lie now; None: where they lay in training.
          data: as of `report`.
          training_images: how many training images to embed, among which the page shows the nearest; 0: none.
          int8: quantize the network, unless it is significantly worse then.

        Returns:
          Its path, its size in bytes, and how near its probabilities are.
        """
        with code_allowed(self.allow_code):
            own = self._own(data)
            options = {"training_images": training_images, "int8": int8}
            return write_demo(self.workdir, out, data_dir=data_dir, data=own, **options)

    def plot(self, path: str | Path | None = None) -> Image.Image | Path:
        """Draws loss and accuracy by step, of training and validation.

        Args:
          path: a file to write, .png, .svg or .pdf.

        Returns:
          A PIL image, which a notebook shows by itself; or the path that was written.
        """
        lines = [line for line in self.log if line["kind"] == "validation" or "loss" in line]
        figure = charts.training_curves(lines)
        if path is None:
            return grid.rendered(figure)
        grid.check_path(Path(path))
        with written_whole(Path(path)) as aside:
            figure.savefig(aside, format=Path(path).suffix[1:].lower())
        return Path(path)

    def _own(self, data: Dataset | Source | None) -> Source | None:
        """The images in memory that it was trained on."""
        check_given(data)
        given = data.source if isinstance(data, Dataset) else data
        return self.data if given is None else given

    def _images(self, data: Dataset | Source | None, split: str) -> dict[str, Any]:
        """Fields of `evaluate.Images`."""
        check_given(data)
        if isinstance(data, Dataset) and data.source is None:
            names = ("dataset", "data_dir", "skip_unreadable", "image_column", "label_column")
            return {"split": split, **{name: data.fields[name] for name in names if name in data.fields}}
        if isinstance(data, Source):
            return {"split": "all", "dataset": dataclasses.replace(data, official={})}
        return {"split": split, "dataset": self._own(data)}


def open_run(
    workdir: str | Path, data: Source | None = None, batch_size: int = 32, *, allow_code: bool = False
) -> TrainedRun:
    """The run in a folder; arguments as of `TrainedRun` and `load`."""
    with code_allowed(allow_code):
        model = load_lib.load(workdir, batch_size=batch_size)
    return _of_predictor(model, Path(workdir), data, allow_code)


def _of_predictor(model: Predictor, workdir: Path, data: Source | None, allow_code: bool) -> TrainedRun:
    fields = {field.name: getattr(model, field.name) for field in dataclasses.fields(Predictor) if field.init}
    return TrainedRun(**fields, workdir=workdir.absolute(), data=data, allow_code=allow_code)


def load(
    source: str | Path,
    *,
    weights: str | None = None,
    weights_path: str | Path | None = None,
    batch_size: int = 32,
    allow_code: bool = False,
    accept_license: bool = False,
) -> Predictor:
    """Opens a run, or a model.

    Args:
      source: folder of a run, whose best checkpoint is taken; a model such as 'squeezenet1_1', pretrained on ImageNet;
        a weight set such as 'vgg16.keras'; a repository of timm's on the Hugging Face hub, 'hf:timm/resnet18.a1_in1k',
        or such a folder, 'hf:/folder'; or a file, such as `model.save` writes.
      weights: tag of the model's weight set, such as 'caffe'; None: one that is on this machine, else torchvision's.
      weights_path: the set's file, or a folder that holds it, looked at before the cache and the network.
      batch_size: images at a time, over all devices of this process; rounded up to a multiple of their number.
      allow_code: import what the run names as "module:function": its model now, its images and metrics in `evaluate`,
        `report` and `export`. Importing runs that module: allow it where you trust the run. Without it, a run whose
        model is one of jft's is opened and predicts, and nothing is imported.
      accept_license: use weights whose license forbids commercial use.

    Returns:
      A `TrainedRun` of a run's folder, otherwise a `Predictor`.

    Raises:
      ValueError: there is no such run, model or set, or no checkpoint that can be read.
      CodeRefusedError: the run's model is the user's own, and `allow_code` is False.
      OSError: the weights are neither here nor to be had.
    """
    with code_allowed(allow_code):
        how = {"weights_path": weights_path, "batch_size": batch_size, "accept_license": accept_license}
        model = load_lib.load(source, weights=weights, **how)
    return model if model.info is None else _of_predictor(model, Path(source), None, allow_code)


def evaluate(
    model: Predictor | str | Path,
    data: Dataset | Source | None = None,
    *,
    split: str = "test",
    tta: str = "",
    allow_code: bool = False,
) -> dict[str, Any]:
    """Evaluates a run or a model on labeled images, every one exactly once.

    Args:
      model: a run or its folder; or a model from `create_model` or `load`.
      data: the images. A split of them, such as `data.test`, is evaluated whole. None: those that the run was trained
        on.
      split: 'test', 'validation', 'train' or 'all'.
      tta: of a run, see `TrainedRun.evaluate`.
      allow_code: of a run, see `load`.

    Returns:
      'loss' in nats, 'accuracy' and 'top5' as shares of 1 ('mean_average_precision' where images have several labels),
      'count', 'accuracy_interval', 'per_class', 'confusion_matrix', 'top_losses', ...

    Raises:
      ValueError: the images' classes are not the model's, or a model that is no run was given no data.
    """
    check_given(data)
    opened = load(model, allow_code=allow_code) if isinstance(model, str | Path) else model
    if isinstance(opened, TrainedRun):
        with code_allowed(allow_code):
            return opened.evaluate(data, split=split, tta=tta)
    if data is None or tta:
        raise ValueError(f"{opened.name} is no run: give it data to be evaluated on, and no tta.")
    if isinstance(data, Source):
        return evaluate_model(opened, data)
    return evaluate_model(opened, data.split(split), split=split)
