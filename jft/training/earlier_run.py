"""weights_path = the folder of a run: training begins with the weights of its best checkpoint."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jft.data.preprocess import Preprocess
from jft.evaluation.open_model import BENIGN, of_trained, write_own
from jft.evaluation.restore import Trained, restore
from jft.training.run import Run
from jft.utils.mesh import make_parallel
from jft.utils.option_names import option
from jft.utils.run_folder import is_run

# Options that say what follows the network, which may be another in the new run.
_OF_THE_HEAD = ("cut", "new_head", "head_hidden", "head_dropout", "pool")


@contextlib.contextmanager
def weights_file(run: Run) -> Iterator[str | None]:
    """The weight file, or folder of weight files, that a run's `weights_path` stands for; None for ''.

    The best checkpoint of a run is such a file, under its name and step, for as long as the context lasts.

    Raises:
      ValueError: the earlier run has no checkpoint that can be read, or is of another network or preprocessing.
    """
    path = run.config.weights_path
    if not is_run(path):
        yield path or None
        return
    folder = Path(path).expanduser()
    trained, name = restore(folder, make_parallel("jit")), folder.resolve().name
    _check(run, trained, path)
    with tempfile.TemporaryDirectory() as aside:
        file = Path(aside) / f"{name}-step{trained.info.step}.safetensors"
        write_own(of_trained(trained, name), file)
        yield str(file)


def _check(run: Run, trained: Trained, path: str) -> None:
    """Raises a ValueError where the same numbers would mean something else in the new run."""
    info = trained.info

    def told(model: str, options: dict[str, Any], spec: Preprocess) -> dict[str, Any]:
        own = {name: value for name, value in options.items() if name not in (*BENIGN, *_OF_THE_HEAD)}
        return {"model": model, **own, **{name: getattr(spec, name) for name in ("channels", "scale", "mean", "std")}}

    was = told(info.model, info.options, info.preprocess)
    now = told(run.config.model, run.model_options, run.spec)
    if wrong := [name for name in {**was, **now} if was.get(name) != now.get(name)]:
        differs = ", ".join(f"{name} {was.get(name)} where here it is {now.get(name)}" for name in wrong)
        raise ValueError(
            f"weights_path = {path!r} is a run with {differs}: set {option('model', info.model)} and "
            f"{option('weights', info.config['weights'])}, as in that run."
        )
