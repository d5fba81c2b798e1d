"""A look at the images of a data set before anything is trained: what there is, and what is odd about it."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jft.data import content, datasets, decode, duplicates, notes
from jft.data.duplicates import Duplicates
from jft.data.record import name_of
from jft.data.source import Source
from jft.utils.option_names import option
from jft.utils.text import terminal

_NAMED = 5  # images or classes in a line
_TINY = 32  # pixels of the shorter side
_ELONGATED = 4.0  # longer side / shorter side
_ONE_COLOR = 2.0  # standard deviation of gray levels
_GRAY = 1.5  # mean distance of the largest from the smallest of red, green and blue
_FEW = 10  # training images of a class
_IMBALANCED = 3.0  # largest class / smallest class
_MOST_ELONGATED = 1024  # above it an image cannot be cropped to a square


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Widths and heights in pixels; the sizes are ordered by area.

    Attributes:
      smallest, median, largest: (width, height).
      distinct: number of different sizes.
    """

    smallest: tuple[int, int]
    median: tuple[int, int]
    largest: tuple[int, int]
    distinct: int


@dataclasses.dataclass(frozen=True)
class Survey:
    """What there is to know of a data set's images.

    Attributes:
      name: of the data set.
      splits: {split: number of images}, of 'train', 'validation' and 'test'.
      classes: {class: {split: number of images}}.
      sizes: of the images that can be read; None: of none.
      unreadable: {name of the image: why it cannot be read}.
      odd: {kind: names of the images}. 'tiny': a side below 32 pixels, where most images are larger. 'one color': next
        to no contrast. 'elongated': one side at least 4 times the other. 'gray': without color, where most have color.
      duplicates: images that occur more than once.
      folder: that all files are in, left out of their names in sentences; empty: no files.
      notes: what reading the data reported, such as stray files that were left out.
    """

    name: str
    splits: dict[str, int]
    classes: dict[str, dict[str, int]]
    sizes: Sizes | None
    unreadable: dict[str, str]
    odd: dict[str, tuple[str, ...]]
    duplicates: Duplicates
    folder: str = ""
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of images."""
        return sum(self.splits.values())

    @property
    def imbalance(self) -> float:
        """Training images of the largest class for each one of the smallest; infinite where a class has none."""
        counts = self._train().values()
        return max(counts, default=0) / min(counts) if counts and min(counts) else float("inf")

    def told(self) -> list[str]:
        """What there is, a line on each subject."""
        splits = ", ".join(f"{count:,} for {_PURPOSE.get(split, split)}" for split, count in self.splits.items())
        about = f"{self.name}: {_images(self.count)} of {len(self.classes)} classes: {splits}"
        return [about, f"training images of a class: {self._balance()}", self.size_text(), *self.duplicates.notes()]

    def troubles(self) -> list[str]:
        """What is wrong or odd, a line on each and what to do; [] where nothing is."""
        unreadable = [text] if (text := self.unreadable_text()) else []
        found = [*self.notes, *unreadable, *self._few(), *self._copies(), *self.odd_texts()]
        return list(map(self._short, found))

    def __str__(self) -> str:
        """All of it in plain lines."""
        found = self.troubles()
        lines = ["worth a look:", *(f"- {line}" for line in found)] if found else ["nothing odd was found"]
        return "\n".join(map(terminal, [*self.told(), *lines]))

    def size_text(self) -> str:
        """The sizes of the images."""
        if not self.sizes:
            return "no image can be read"
        least, median, most = (
            "{} x {}".format(*size) for size in (self.sizes.smallest, self.sizes.median, self.sizes.largest)
        )
        if self.sizes.distinct == 1:
            return f"all images are {median} pixels"
        return f"sizes from {least} to {most} pixels, the median {median}"

    def odd_texts(self) -> list[str]:
        """A sentence on each kind of odd images."""
        return [
            self._short(f"{_images(len(names))} {'is' if len(names) == 1 else 'are'} {_ODD[kind]}: {_listed(names)}")
            for kind, names in self.odd.items()
        ]

    def unreadable_text(self) -> str:
        """Which images cannot be read, and what to do; '' if all can."""
        if not self.unreadable:
            return ""
        named = [f"{name} ({why})" for name, why in self.unreadable.items()]
        remedy = f"mend or remove them, or leave them out by {option('skip_unreadable', 'true')}"
        return self._short(f"{_images(len(named))} cannot be read: {_listed(named)}: {remedy}")

    def to_json(self) -> dict[str, Any]:
        """The fields as a dict of JSON types."""
        return dataclasses.asdict(self) | {"duplicates": self.duplicates.to_json()}

    def _train(self) -> dict[str, int]:
        """{class: number of its training images}."""
        return {name: of_class.get("train", 0) for name, of_class in self.classes.items()}

    def _short(self, text: str) -> str:
        return text.replace(f"{self.folder}{os.sep}", "") if self.folder else text

    def _balance(self) -> str:
        counts = self._train()
        least, most = (choose(counts, key=counts.__getitem__) for choose in (min, max))
        if counts[least] == counts[most]:
            return f"{counts[least]:,} in each"
        if len(counts) <= _NAMED:
            return ", ".join(f"{name} {count:,}" for name, count in counts.items())
        return f"{counts[least]:,} ({least}) to {counts[most]:,} ({most})"

    def _few(self) -> list[str]:
        found = []
        if few := [f"{name} has {count}" for name, count in self._train().items() if count < _FEW]:
            found.append(
                f"few training images: {_listed(few)}. What is learned of these classes and measured on them is "
                "uncertain: add images, or leave the classes out"
            )
        if self.imbalance >= _IMBALANCED:
            times = f"{self.imbalance:,.3g} times" if np.isfinite(self.imbalance) else "many times"
            remedy = f"{option('balance', 'sampling')} draws all classes equally often"
            found.append(f"the largest class has {times} the training images of the smallest: {remedy}")
        return found

    def _copies(self) -> list[str]:
        found = self.duplicates.told()
        if any(pair.split != pair.other_split for pair in self.duplicates.pairs):
            found.append("accuracy on copies of training images is too good: keep all copies of an image in one split")
        return found


_PURPOSE = {"train": "training", "validation": "validation", "test": "testing"}
_ODD = {
    "tiny": f"tiny, with a side below {_TINY} pixels",
    "one color": "of one color all over",
    "elongated": f"at least {_ELONGATED:g} times as long as wide, or as wide as long",
    "gray": "gray, where most have colors",
}


def survey(splits: Mapping[str, Source], *, name: str = "", told: Sequence[str] = ()) -> Survey:
    """Looks at all images of a data set.

    Each is decoded once; what was found is kept in the cache until the files are touched.

    Args:
      splits: those of 'train', 'validation' and 'test' that the data set has, in this order.
      name: of the data set; empty: as its images say.
      told: what reading the data reported, see `notes.heard`.
    """
    first = next(iter(splits.values()))
    of_split = {split: source.counts() for split, source in splits.items()}
    facts = np.concatenate([content.image_facts(source) for source in splits.values()])
    names = [source.image_name(row) for source in splits.values() for row in range(len(source))]
    odd = {kind: np.flatnonzero(rows) for kind, rows in _odd(facts).items() if rows.any()}
    return Survey(
        name=name or first.name,
        splits={split: len(source) for split, source in splits.items()},
        classes={
            label: {split: int(counts[number]) for split, counts in of_split.items()}
            for number, label in enumerate(first.class_names)
        },
        sizes=_sizes(facts),
        unreadable=_why_unreadable(splits.values(), facts, names),
        odd={kind: tuple(names[row] for row in rows) for kind, rows in odd.items()},
        duplicates=duplicates.find(**splits),
        folder=_folder([image for source in splits.values() for image in source.images if isinstance(image, Path)]),
        notes=tuple(told),
    )


def of_config(config: Mapping[str, Any]) -> Survey:
    """`survey` of the data of a config: its training and validation images, and its test images if there are some.

    Raises:
      ValueError, FileNotFoundError: the data cannot be read at all, see `datasets.load_source`.
    """
    with notes.heard() as heard:
        splits = {"train": datasets.of_config(config, "train")}
        for split in ("validation", "test"):
            try:
                splits[split] = datasets.of_config(config, split)
            except (ValueError, OSError):  # there are none
                continue
    return survey(splits, name=name_of(config["dataset"], config["data_dir"]), told=tuple(heard))


def _folder(paths: Sequence[Path]) -> str:
    return os.path.commonpath([path.parent for path in paths]) if paths else ""


def _sizes(facts: np.ndarray) -> Sizes | None:
    sizes = np.stack([facts["width"], facts["height"]], axis=1)[facts["height"] > 0]
    if not len(sizes):
        return None
    order = np.argsort(sizes.prod(axis=1, dtype=np.int64), kind="stable")
    smallest, median, largest = (tuple(sizes[order[place]].tolist()) for place in (0, len(order) // 2, -1))
    return Sizes(smallest, median, largest, len(np.unique(sizes, axis=0)))


def _odd(facts: np.ndarray) -> dict[str, np.ndarray]:
    """{kind: bool [n]}."""
    read = facts["height"] > 0
    sides = np.stack([facts["width"], facts["height"]])
    shorter, longer = sides.min(axis=0), sides.max(axis=0)
    tiny, gray = read & (shorter < _TINY), read & (facts["chroma"] < _GRAY)
    one_color = read & (facts["contrast"] < _ONE_COLOR)
    found = {"one color": one_color, "elongated": read & (longer >= _ELONGATED * shorter)}
    most = read.sum() / 2
    for kind, rows in (("tiny", tiny), ("gray", gray & ~one_color)):
        if rows.sum() < most:  # else it is how these images are
            found[kind] = rows
    return found


def _why_unreadable(sources: Any, facts: np.ndarray, names: Sequence[str]) -> dict[str, str]:
    """{name: reason} of the images that cannot be read."""
    found, start = {}, 0
    for source in sources:
        of_source = facts[start : start + len(source)]
        shorter, longer = (choose(of_source["height"], of_source["width"]) for choose in (np.minimum, np.maximum))
        suspect = np.flatnonzero((shorter == 0) | (longer > _MOST_ELONGATED * shorter))
        if len(suspect) and not source.decoded:
            part = source.take(suspect)
            reasons = decode.unreadable(part.encoded, part.regions, source.max_image_pixels)
            found |= {names[start + int(suspect[row])]: why for row, why in reasons.items()}
        start += len(source)
    return found


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:_NAMED], *(["..."] if len(names) > _NAMED else [])])
