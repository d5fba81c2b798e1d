"""The folder of a run: whether there is one, and which others may be meant."""

from pathlib import Path

from jft.utils import tree

_GIVE = "the folder that `jft train` wrote"


def runs_in(folder: str | Path) -> list[str]:
    """Folders of runs directly in a folder, in order of their names."""
    return sorted(str(path.parent) for path in Path(folder).glob("*/checkpoints"))


def is_run(path: str) -> bool:
    """Whether a path, '' for none, is the folder of a run, and not a folder of weight files."""
    return bool(path) and (Path(path).expanduser() / "checkpoints").is_dir()


def check_run(workdir: str | Path) -> None:
    """ValueError unless a folder holds checkpoints; names the runs in it, or, if it does not exist, a similar name."""
    folder = Path(workdir)
    if not folder.exists():
        arms = sorted({str(path.parent.parent) for path in folder.parent.glob("*/*/checkpoints")})
        guess = tree.did_you_mean(str(folder), [*runs_in(folder.parent), *arms]) or f": give {_GIVE}."
        raise ValueError(f"there is no folder {folder}{guess}")
    if not (folder / "checkpoints").is_dir():
        runs = ", ".join(runs_in(folder))
        raise ValueError(f"{folder} holds no checkpoints: give {f'one of {runs}' if runs else _GIVE}.")
