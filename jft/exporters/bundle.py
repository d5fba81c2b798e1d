"""A run in forms that work without jft, with a model card; kept once a fresh process agrees on real images."""

import dataclasses
import importlib.util
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jft.evaluation import evaluate, open_model
from jft.evaluation.load import from_trained
from jft.evaluation.open_model import SourceWeights
from jft.evaluation.predictor import Predictor
from jft.exporters import model_card, onnx_file, stablehlo, state_dict
from jft.utils.files import check_folder

LIMIT = 1e-4  # largest difference of a probability between a file and the checkpoint
_IMAGES = 100  # that both are asked about


@dataclasses.dataclass(frozen=True)
class Shipped:
    """One file of an export.

    Attributes:
      name: of the file.
      size: bytes; 0 where it was left out.
      error: largest difference of a probability from the checkpoint's, over the images; None where it was left out.
      why: it was left out; '' where it was not.
    """

    name: str
    size: int
    error: float | None
    why: str = ""

    def __str__(self) -> str:
        if self.why:
            return f"{self.name}: left out, {self.why}"
        return f"{self.name}: {self.size / 1e6:.1f} MB, probabilities within {self.error:.1e} of the checkpoint's"


def ship(workdir: str | Path, out: str | Path, *, data_dir: str | None = None) -> list[Shipped]:
    """Writes model.stablehlo, weights.safetensors, weights_torchvision.safetensors, model.onnx and README.md.

    They compute in float32, whatever the run was trained in. What torchvision has no architecture for is left out, and
    ONNX where its converter is not installed or does not know the model's operations.

    Args:
      workdir: folder of a run.
      out: the folder to make; appears when all is proved.
      data_dir: where the run's data lie now; None: where they lay in training.

    Returns:
      A line for each file.

    Raises:
      ValueError: no run, `out` exists, or a file did not give the checkpoint's probabilities: nothing was kept.
      OSError: it cannot be written.
    """
    out = Path(out)
    check_out(out)
    predicted = evaluate.predict_run(workdir, evaluate.Images(data_dir=data_dir))
    evaluation = evaluate.record(predicted)
    # Bare weights know no other type, and bfloat16 would round otherwise in every program.
    trained = dataclasses.replace(predicted.trained, model=predicted.trained.model.clone(dtype=jnp.float32))
    predictor = from_trained(trained, str(workdir))
    weights = open_model.of_trained(trained, Path(workdir).resolve().name)
    rows = np.linspace(0, len(predicted.source) - 1, min(_IMAGES, len(predicted.source))).round().astype(int)
    squares = np.stack([predictor.read(predicted.source.pixels(row, predictor.spec)) for row in rows])
    aside = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}")
    aside.mkdir()
    try:
        writers = _writers(predictor, weights)
        left_out = {name: why for name, write in writers.items() if (why := write(aside / name))}
        found = _proved(aside, predictor, squares)
        card = model_card.model_card(trained.meta, evaluation, [file.name for file in found])
        (aside / "README.md").write_text(card, encoding="utf-8")
        os.rename(aside, out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return [*found, *(Shipped(name, 0, None, why) for name, why in left_out.items())]


def check_out(out: Path) -> None:
    """ValueError where the folder cannot be made, said before anything is computed."""
    if out.exists():
        raise ValueError(f"{out} exists already, and is not overwritten: give another folder, or remove it.")
    if not out.parent.is_dir():
        raise ValueError(f"there is no folder {out.parent} to make {out.name} in.")
    check_folder(out.parent, "give another --to")


def _writers(predictor: Predictor, weights: SourceWeights) -> dict[str, Callable[[Path], str]]:
    """Name of a file -> what writes it, and returns why it did not, or ''."""
    predict = stablehlo.make_predict(
        predictor.model,
        predictor.variables,
        predictor.spec,
        predictor.objective,
        predictor.fit,
        predictor.temperature,
    )

    def stable(path: Path) -> str:
        path.write_bytes(stablehlo.serialize(predict, predictor.side))
        return ""

    def own(path: Path) -> str:
        open_model.write_own(weights, path)
        return ""

    def torchvision(path: Path) -> str:
        try:
            state_dict.find_published(weights, "torchvision")
        except ValueError as error:
            return str(error)
        state_dict.write(weights, path)
        return ""

    def onnx(path: Path) -> str:
        if missing := [name for name in ("jax2onnx", "onnxruntime") if importlib.util.find_spec(name) is None]:
            return f"for want of {' and '.join(missing)}: pip install 'jft[onnx]'"
        try:
            onnx_file.write(predict, path, predictor.side)
        except ValueError as error:
            return str(error)
        return ""

    return {
        "model.stablehlo": stable,
        "weights.safetensors": own,
        "weights_torchvision.safetensors": torchvision,
        "model.onnx": onnx,
    }


def _proved(folder: Path, predictor: Predictor, squares: np.ndarray) -> list[Shipped]:
    """Opens the files in a process of its own and compares what they say of the images with the checkpoint."""
    images, answers = folder / ".images.npy", folder / ".answers.npz"
    np.save(images, squares)
    done = subprocess.run(
        [sys.executable, "-m", "jft.exporters.check", str(folder), str(images), str(answers)],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},  # an accelerator is this process' own
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise ValueError(f"what was written could not be opened again, and was not kept: {lines[-1]}")
    with jax.default_matmul_precision("highest"):  # accelerators would round as no CPU does
        logits = predictor.logits(squares)
    # Bare weights have no temperature.
    wanted = {False: predictor.probabilities(logits), True: predictor.probabilities(logits, predictor.temperature)}
    found = []
    with np.load(answers) as held:
        for name in held.files:
            error = float(np.abs(held[name] - wanted[name.startswith("model.")]).max())
            if not error <= LIMIT:
                raise ValueError(
                    f"{name} gives probabilities up to {error:.1e} away from the checkpoint's, more than {LIMIT}: "
                    "nothing was kept."
                )
            found.append(Shipped(name, (folder / name).stat().st_size, error))
    images.unlink()
    answers.unlink()
    return found
