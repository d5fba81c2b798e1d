"""Exports a run to formats that work without jft, with a model card; a fresh process checks the files on images."""

import dataclasses
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np

from jft.data.source import Source
from jft.evaluation import open_model
from jft.exporters import formats, model_card, stablehlo
from jft.exporters.format import Content
from jft.exporters.onnx import file as onnx_file
from jft.exporters.onnx import int8 as int8_file
from jft.exporters.onnx.int8 import Judged
from jft.exporters.opened import LIMIT, Opened, open_run
from jft.utils.files import check_folder
from jft.utils.option_names import option


@dataclasses.dataclass(frozen=True)
class Shipped:
    """One file of an export.

    Attributes:
      name: name of the file.
      size: bytes; 0 if it was skipped.
      error: largest difference of a probability from the checkpoint's, over the images; None if it was skipped, or if
        `int8` says more.
      why: the reason for skipping it; '' if it was written.
      int8: figures of a quantized network.
    """

    name: str
    size: int
    error: float | None
    why: str = ""
    int8: Judged | None = None

    def __str__(self) -> str:
        if self.why:
            return f"{self.name}: skipped, {self.why}"
        if self.int8:
            return f"{self.name}: {self.size / 1e6:.1f} MB, {self.int8}"
        return f"{self.name}: {self.size / 1e6:.1f} MB, probabilities within {self.error:.1e} of the checkpoint's"


def ship(
    workdir: str | Path,
    out: str | Path,
    *,
    data_dir: str | None = None,
    data: Source | None = None,
    preprocessing: bool = True,
    int8: bool = False,
) -> list[Shipped]:
    """Writes model.stablehlo, weights.safetensors, weights_torchvision.safetensors, model.onnx and README.md.

    All compute in float32, whatever dtype the run was trained in. The torchvision file is skipped if torchvision has no
    such architecture, ONNX if `onnx` is not installed or has no translation of one of the model's operations.

    Args:
      workdir: folder of a run.
      out: folder to create; it appears once all files are checked.
      data_dir: folder or file of the run's data now; None: the place of the training data.
      data: the images that the run was trained on, where it was given them in memory.
      preprocessing: whether model.onnx reads uint8 images, as model.stablehlo does; otherwise normalized ones,
        float32 [batch, channels, size, size], as other tools expect.
      int8: write model_int8.onnx too, model.onnx quantized, see `int8.quantize`; it needs the preprocessing.

    Returns:
      One entry per file.

    Raises:
      ValueError: there is no run, `out` exists, or a file does not reproduce the checkpoint's probabilities; nothing is
        kept.
      OSError: the folder cannot be written.
    """
    out = Path(out)
    check_out(out)
    if int8 and not preprocessing:
        raise ValueError("int8 quantizes model.onnx with its preprocessing inside: leave out one of the two options.")
    opened = open_run(workdir, data_dir, data)
    trained, predictor = opened.trained, opened.predictor
    predict = stablehlo.make_predict(
        predictor.model, predictor.variables, predictor.spec, predictor.objective, predictor.fit, predictor.temperature
    )
    content = Content(predictor, open_model.of_trained(trained, Path(workdir).resolve().name), predict)
    aside = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}")
    aside.mkdir()
    try:
        forms = formats.chosen(preprocessing=preprocessing)
        skipped = {form.name: why for form in forms if (why := form.write(content, aside / form.name))}
        found = _checked(aside, opened)
        if int8:
            found.append(_quantized(aside, opened, opened.trained.images("train", dataset=data, data_dir=data_dir)))
        card = model_card.model_card(trained.info, opened.evaluation, [file.name for file in found], forms)
        card += "".join(
            model_card.int8_section(f"{file.name} is model.onnx quantized; {file.int8}.") for file in found if file.int8
        )
        (aside / "README.md").write_text(card, encoding="utf-8")
        os.rename(aside, out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return [*found, *(Shipped(name, 0, None, why) for name, why in skipped.items())]


def check_out(out: Path) -> None:
    """Raises a ValueError if the folder cannot be created; called before anything is computed."""
    if out.exists():
        raise ValueError(f"{out} exists already and is not overwritten: give another folder, or remove it.")
    if not out.parent.is_dir():
        raise ValueError(f"folder {out.parent} does not exist: create it, or give another folder than {out}.")
    check_folder(out.parent, f"give another {option('out')}")


def _quantized(folder: Path, opened: Opened, train: Source) -> Shipped:
    path = folder / int8_file.NAME
    if not (whole := folder / onnx_file.FORMAT.name).exists():
        raise ValueError(f"{path.name} is made of {whole.name}, which was skipped: leave int8 out.")
    judged = int8_file.quantize(whole, path, opened, train, len(opened.predictor.class_names))
    return Shipped(path.name, judged.size, None, int8=judged)


def _checked(folder: Path, opened: Opened) -> list[Shipped]:
    """Loads the files in a fresh process and compares their probabilities with the checkpoint's."""
    predictor, squares = opened.predictor, opened.squares()
    images, answers = folder / ".images.npy", folder / ".answers.npz"
    np.save(images, squares)
    done = subprocess.run(
        [sys.executable, "-m", "jft.exporters.check", str(folder), str(images), str(answers)],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},  # this process holds the accelerator
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise ValueError(f"an exported file could not be loaded again, so nothing was kept: {lines[-1]}")
    complete = {form.name: form.complete for form in formats.FORMATS}
    logits = opened.logits(squares)
    wanted = {False: predictor.probabilities(logits), True: predictor.probabilities(logits, predictor.temperature)}
    found = []
    with np.load(answers) as held:
        for name in held.files:
            error = float(np.abs(held[name] - wanted[complete[name]]).max())
            if not error <= LIMIT:
                raise ValueError(
                    f"{name} gives probabilities that differ from the checkpoint's by up to {error:.1e}, more than "
                    f"{LIMIT}: nothing was kept."
                )
            found.append(Shipped(name, (folder / name).stat().st_size, error))
    images.unlink()
    answers.unlink()
    return found
