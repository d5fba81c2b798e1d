"""weights_path = the folder of a run: training begins with the weights of its best checkpoint."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jft.evaluation.open_model import of_trained, write_own
from jft.evaluation.restore import restore
from jft.utils.mesh import make_parallel


def is_run(path: str) -> bool:
    """Whether a path, '' for none, is the folder of a run, and not a folder of weight files."""
    return bool(path) and (Path(path).expanduser() / "checkpoints").is_dir()


@contextlib.contextmanager
def weights_file(path: str) -> Iterator[str | None]:
    """The weight file, or folder of weight files, that a `weights_path` stands for; None for ''.

    The best checkpoint of a run is such a file, under its name and step, for as long as the context lasts.

    Raises:
      ValueError: the run has no checkpoint that can be read.
    """
    if not is_run(path):
        yield path or None
        return
    folder = Path(path).expanduser()
    trained, name = restore(folder, make_parallel("jit")), folder.resolve().name
    with tempfile.TemporaryDirectory() as aside:
        file = Path(aside) / f"{name}-step{trained.info.step}.safetensors"
        write_own(of_trained(trained, name), file)
        yield str(file)
