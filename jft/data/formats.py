"""The kinds of datasets that a config names, and how the images of each are found."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from jft.data import cifar, csv_file, digits, folder, gtsrb, memory, tfds
from jft.data.source import Source
from jft.utils import registry


class Place(NamedTuple):
    """Where images lie, and the columns of a CSV file that list them."""

    data_dir: str | None
    image_column: str = ""
    label_column: str = ""


Found = tuple[tuple[str, ...], Mapping[str, Callable[[], tuple[Any, ...]]]]


@dataclasses.dataclass(frozen=True)
class Format:
    """A kind of dataset that a config names.

    Attributes:
      find: place -> class names, and for each official split a function that reads (images, labels[, groups, regions]).
      of_files: it is made of the user's own files, which may change; else its name identifies its content.
    """

    find: Callable[[Place], Found]
    of_files: bool = False


def _cifar10(place: Place) -> Found:
    found = cifar.find(place.data_dir)
    return found or tfds.find("cifar10", place.data_dir, url=cifar.URL, remedy=cifar.REMEDY)


# Adding a format is a module with such a function, and a row.
FORMATS: dict[str, Format] = {
    "cifar10": Format(_cifar10),
    "digits": Format(lambda place: digits.find()),
    "folder": Format(lambda place: folder.find(place.data_dir), of_files=True),
    "csv": Format(lambda place: csv_file.find(*place), of_files=True),
    "gtsrb": Format(lambda place: gtsrb.find(place.data_dir), of_files=True),
}


def may_change(dataset: str) -> bool:
    """Whether the images of a dataset may be others next time; the name of any other identifies its content."""
    return is_own(dataset) or (dataset in FORMATS and FORMATS[dataset].of_files)


def is_own(dataset: str) -> bool:
    """Whether a dataset is a `"module:function"` of the user's own."""
    return registry.is_reference(dataset) and not dataset.startswith("tfds:")


@functools.lru_cache(maxsize=1)  # a run loads its splits one after another
def of_function(function: Callable, name: str, data_dir: str | None) -> Source:
    """The images that a function of the user's own gives, in memory."""
    called = f"dataset = {name!r}"
    found = registry.call_with(function, {"data_dir": data_dir or ""}, what=called)
    source = getattr(found, "source", found)  # of a `jft.data.Dataset`
    if isinstance(source, Source):
        return source
    if source is None or not isinstance(found, Iterable):
        raise ValueError(
            f"{called} gives {type(found).__name__}: give pairs (image, label), or what jft.data.from_iterable or "
            "from_arrays returns. For a folder or a list, name dataset = 'folder' or 'csv' and its data_dir."
        )
    images, labels = memory.of_pairs(found)
    return memory.source(memory.alike([images])[0], labels, None, name)


def find(dataset: str, place: Place) -> Found:
    """Class names, and for each official split the function that reads it."""
    if not dataset:  # a run on a Source records an empty name
        raise ValueError(
            "the run was trained on images in memory, which its config cannot name: pass them again in Python, as "
            "in jft.evaluate(run, data), run.report(data=data) or run.export(out, data=data). The command line can "
            "only evaluate other images, with --dataset and --data."
        )
    if dataset in FORMATS:
        return FORMATS[dataset].find(place)
    return tfds.find(dataset.removeprefix("tfds:"), place.data_dir, others=tuple(FORMATS))
