"""The best pretrained weights that are on this machine."""

from pathlib import Path

from jft.utils import tree
from jft.utils.cache_dir import cache_dir
from jft.utils.option_names import option
from jft.weights import hub, licenses
from jft.weights.catalog import CATALOG, WeightSet, choose_set, find_row, is_repository

# Small, medium and large, for who has none yet.
_ADVISED = ("squeezenet1_1.torchvision", "resnet18.torchvision", "resnet50.torchvision_v2")


def best_here(model: str = "", tag: str = "", *, weights_path: str = "", command: str = "") -> WeightSet:
    """The set of the highest published ImageNet accuracy among those that are on this machine.

    Args:
      model: only sets of this model; '': of any.
      tag: only sets of this name, such as 'torchvision'; '': of any. Or a repository, 'hf:owner/name', whose it is.
      weights_path: a weight file, or a folder of them under their published names; '': what is in the cache.
      command: what the user ran, for the error; '' where that is not known.

    Returns:
      Its row. Where a model is named that has no set here, its best one, which can be downloaded.

    Raises:
      ValueError: no such model or tag; nothing in `weights_path`; or none are here and no model is named: lists what
        to fetch, and how.
    """
    if is_repository(tag):
        return find_row(model, tag) if model else choose_set(tag)
    if model:
        tree.choose({row.model: row for row in CATALOG.values()}, model, what="model with published weights")
    # Beside the small network for the quickstart, all of them know ImageNet.
    rows = [row for row in CATALOG.values() if model in ("", row.model) and (row.dialect != "jft" or model)]
    if tag:
        tree.choose({row.tag: row for row in rows}, tag, what="weights")
        rows = [row for row in rows if row.tag == tag]
    if weights_path:
        return _best_in(Path(weights_path).expanduser(), rows, model)
    if here := [row for row in rows if hub.is_here(row)]:
        return max(here, key=_usable_and_accurate)
    if model:
        return max(rows, key=lambda row: (row.url is not None, *_usable_and_accurate(row)))
    raise ValueError(_what_to_fetch([row for row in rows if row.url], command))


def _best_in(path: Path, rows: list[WeightSet], model: str) -> WeightSet:
    """The best set whose file is in a folder, or whose file this is."""
    names = {file.name for file in path.iterdir()} if path.is_dir() else {path.name}
    if found := [row for row in rows if row.filename in names]:
        return max(found, key=_usable_and_accurate)
    if model and path.is_file():  # under a name of the user's
        return max(rows, key=_usable_and_accurate)
    place = option("weights_path", str(path))
    if not path.exists():
        raise ValueError(f"{place}: there is no such file or folder.")
    held = f"{', '.join(sorted(names)[:5])}{', ...' if len(names) > 5 else ''}" or "no file"
    wanted = sorted(rows, key=lambda row: row.name not in _ADVISED)[:3]
    raise ValueError(
        f"{place} holds {held}, and no published weights{f' of {model}' if model else ''}. Files keep the names under "
        f"which they were published, such as {', '.join(f'{row.filename} ({row.name})' for row in wanted)}."
    )


def _usable_and_accurate(row: WeightSet) -> tuple[bool, float]:
    """Sets whose license nobody has accepted are the last to be chosen, and then refused by name."""
    return licenses.is_accepted(row), _accuracy(row)


def _accuracy(row: WeightSet) -> float:
    return row.top1 or 0.0


def _what_to_fetch(rows: list[WeightSet], command: str) -> str:
    advised = [row for row in rows if row.name in _ADVISED] or sorted(rows, key=_accuracy)[-3:]
    advised = sorted(advised, key=lambda row: row.size)
    lines = [
        f"  jft weights fetch {row.name:<26} {row.size:5.0f} MiB, {_accuracy(row):.1f} % on ImageNet, {row.license}"
        for row in advised
    ]
    again = f"\nthen run `{command}` again" if command else "\nthen run the same again"
    return (
        f"no pretrained weights are on this machine ({cache_dir()}). Fetch a set:\n"
        + "\n".join(lines)
        + again
        + ". Or add --model NAME, which downloads its weights; or --weights-path FOLDER with weight files. "
        "`jft weights list` shows all sets."
    )
