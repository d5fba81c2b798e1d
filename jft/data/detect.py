"""Which kind of data set a path or a name stands for."""

import re
from pathlib import Path

_NAMED = ("digits", "cifar10")  # what is found without a place
_TFDS = re.compile(r"[A-Za-z_]\w*(/\w+)*(:[\w.*]+)?")  # name/config:version; a path may begin with / or hold ..


def detect(where: str) -> dict[str, str]:
    """The config fields `dataset` and `data_dir` of images.

    Args:
      where: a folder of class folders; the official tree or archive of CIFAR-10 or GTSRB, or its parent; a CSV file;
        or a name: digits, cifar10, one of TensorFlow Datasets, 'tfds:NAME'.

    Raises:
      ValueError: there is no such file or folder, and it cannot be a name; says what may be given.
    """
    path = Path(where).expanduser()
    if path.is_dir():
        return {"dataset": _kind_of_folder(path), "data_dir": str(path.absolute())}
    if path.is_file():
        if path.name.startswith("cifar-10-python.tar"):
            return {"dataset": "cifar10", "data_dir": str(path.absolute())}
        if path.suffix.lower() == ".csv":
            return {"dataset": "csv", "data_dir": str(path.absolute())}
        raise ValueError(
            f"{where} is a file but no list of images: give a folder with a folder for each class, or a .csv file with "
            "the columns path and label."
        )
    if where in _NAMED or where.startswith("tfds:") or _is_prepared(where):
        return {"dataset": where, "data_dir": ""}
    if path.suffix in (".py", ".json"):
        raise ValueError(f"there is no config file {where}: check the path.")
    raise ValueError(
        f"there is no folder or file {where}: give a folder with a folder for each class, a .csv file with the columns "
        f"path and label, CIFAR-10's or GTSRB's folder, or a data set by name: {', '.join(_NAMED)}, tfds:NAME."
    )


def _kind_of_folder(path: Path) -> str:
    if any((root / "Final_Training").is_dir() or (root / "Final_Test").is_dir() for root in (path, path / "GTSRB")):
        return "gtsrb"
    cifar = ("cifar-10-batches-py", "cifar-10-python.tar.gz", "batches.meta", "data_batch_1")
    return "cifar10" if any((path / name).exists() for name in cifar) else "folder"


def _is_prepared(name: str) -> bool:
    """Whether TensorFlow Datasets has prepared a data set of this name; does not import it."""
    from jft.data import tfds

    return _TFDS.fullmatch(name) is not None and tfds.prepared(name, tfds.root(None))
