"""Finds images that occur more than once in a data set: with the same pixels, or looking almost alike."""

import csv
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jft.data import content, near
from jft.data.source import Source
from jft.utils.files import written_whole
from jft.utils.text import csv_cell

_SHOWN = 3  # images named in a message


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image, and another one of the same pixels or that looks almost like it.

    Attributes:
      split: of the image: 'train', 'validation' or 'test'.
      row: of the image in its split.
      image: its name.
      label: its class; '' if it has none.
      other_split: 'train' for images of validation and test; or the own split, in which the other one comes before.
      other_row, other_image, other_label: of the other one.
      same_pixels: whether all pixels are equal; False: they look almost alike, see `jft.data.looks`.
      bits: of 255 bits of their perceptual hashes, those that differ.
      flipped: whether the one is nearly the mirror image of the other.
    """

    split: str
    row: int
    image: str
    label: str
    other_split: str
    other_row: int
    other_image: str
    other_label: str
    same_pixels: bool
    bits: int = 0
    flipped: bool = False

    def __str__(self) -> str:
        one, other = (f"{name}: {label or 'no label'}" for name, label in self._named())
        return f"{one} = {other}" if self.same_pixels else f"{one} ~ {other}"

    def _named(self) -> tuple[tuple[str, str], tuple[str, str]]:
        return (self.image, self.label), (self.other_image, self.other_label)


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """Images that occur more than once in a data set.

    Attributes:
      count: number of images compared.
      pairs: for each image that has one: its nearest duplicate in each split before its own, then in its own.
      several_labels: number of images whose pixels also occur with another label.
      grouped: number of images that look almost like another of their group, such as a frame of the same track. They
        are no pairs, because groups stay in one split.
      sampled: {split: (images searched, images)} of splits of which only a sample was searched for what looks alike.
    """

    count: int
    pairs: tuple[Pair, ...]
    several_labels: int = 0
    grouped: int = 0
    sampled: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)

    def between(self, split: str, other: str) -> list[Pair]:
        """The pairs of images of one split whose other one is in a certain split."""
        return [pair for pair in self.pairs if (pair.split, pair.other_split) == (split, other)]

    def leaking(self, split: str = "test") -> list[Pair]:
        """The pairs of images of a split whose other one was trained or validated on; an image may be in two."""
        return [pair for pair in self.pairs if pair.split == split != pair.other_split]

    def told(self) -> list[str]:
        """A sentence on each kind of duplicate, without a period; [] where there is none."""
        found = []
        if self.several_labels:
            disputed = [pair for pair in self.pairs if pair.same_pixels and pair.label != pair.other_label]
            occur = "occurs" if self.several_labels == 1 else "occur"
            found.append(f"{_images(self.several_labels)} {occur} under several labels{_few(disputed)}")
        for (_, split, _, _), pairs in itertools.groupby(sorted(self.pairs, key=_kind), _kind):
            pairs = list(pairs)
            found.append(f"{_images(len(pairs), split)} {_does(pairs[0], len(pairs) == 1)}{_few(pairs)}")
        return found

    def notes(self) -> list[str]:
        """What else there is to know of the search; [] where there is nothing."""
        found = [
            f"of {whole:,} {split} images, {part:,} spread evenly were searched for images that look almost alike"
            for split, (part, whole) in self.sampled.items()
        ]
        if self.grouped:
            found.append(
                f"{_images(self.grouped)} look almost like another of the same group, such as a frame of the same "
                "track: groups stay in one split, so this is as it should be"
            )
        return found

    def __str__(self) -> str:
        """A one-line summary; empty where no image occurs twice."""
        return "; ".join(self.told())

    def to_json(self) -> dict[str, Any]:
        """The fields as a dict of JSON types."""
        return dataclasses.asdict(self) | {"sampled": {split: list(counts) for split, counts in self.sampled.items()}}

    def write_csv(self, path: Path) -> None:
        """Writes the pairs, one a line, those across splits first."""
        names = [field.name for field in dataclasses.fields(Pair)]
        with (
            written_whole(path) as aside,
            aside.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(names)
            for pair in sorted(self.pairs, key=_kind):
                writer.writerow(csv_cell(getattr(pair, name)) for name in names)


def find(**splits: Source) -> Duplicates:
    """Finds images that occur more than once in a data set.

    Exact copies are found among all images. Images that look almost alike are found by perceptual hash, mirrored ones
    too, among all images of data sets of up to some 20,000; of larger ones a sample is searched.

    Args:
      **splits: those of train, validation and test that the data set has, in this order.
    """
    facts = {split: content.image_facts(source) for split, source in splits.items()}
    pairs, grouped, sampled = [], 0, {}
    for number, (split, source) in enumerate(splits.items()):
        for other in list(splits)[: number + 1]:
            own = split == other
            exact = _exact(facts[split]["digest"], None if own else facts[other]["digest"])
            known = None if own else facts[other]["hash"]
            alike = near.find(facts[split]["hash"], known, groups=source.groups if own else None)
            grouped += alike.grouped
            if alike.searched < np.count_nonzero(facts[other]["hash"].any(axis=1)):
                sampled[other] = alike.searched, len(splits[other])
            for row in np.flatnonzero((exact >= 0) | (alike.row >= 0)).tolist():
                same = bool(exact[row] >= 0)
                there = int(exact[row] if same else alike.row[row])
                pairs.append(
                    Pair(
                        *(split, row, source.image_name(row), source.label(row)),
                        *(other, there, splits[other].image_name(there), splits[other].label(there)),
                        same,
                        0 if same else int(alike.bits[row]),
                        not same and bool(alike.flipped[row]),
                    )
                )
    return Duplicates(sum(map(len, splits.values())), tuple(pairs), _several_labels(splits, facts), grouped, sampled)


def _exact(digests: np.ndarray, known: np.ndarray | None) -> np.ndarray:
    """The first row of `known` with the digest of each image, int64 [m]; None: of the earlier ones; -1: none."""
    values, first = np.unique(digests if known is None else known, return_index=True)
    place = np.minimum(np.searchsorted(values, digests), max(len(values) - 1, 0))
    if not len(values):
        return np.full(len(digests), -1)
    rows = np.where(values[place] == digests, first[place], -1)
    return np.where(rows < np.arange(len(digests)), rows, -1) if known is None else rows


def _several_labels(splits: Mapping[str, Source], facts: Mapping[str, np.ndarray]) -> int:
    _, image = np.unique(np.concatenate([of_split["digest"] for of_split in facts.values()]), return_inverse=True)
    _, label = np.unique(np.concatenate([source.labels for source in splits.values()]), axis=0, return_inverse=True)
    both = np.unique(np.stack([image, label.reshape(-1)], axis=1), axis=0)
    return int((np.bincount(both[:, 0]) > 1)[image].sum())


def _kind(pair: Pair) -> tuple[bool, str, str, bool]:
    """Sorts pairs across splits before those within one, the same pixels before what looks alike."""
    return pair.split == pair.other_split, pair.split, pair.other_split, not pair.same_pixels


def _images(count: int, split: str = "") -> str:
    return f"{count:,} {split}{' ' if split else ''}image{'' if count == 1 else 's'}"


def _does(pair: Pair, one: bool) -> str:
    """What images such as the first of a pair do: 'are also in train', 'look almost like train images'."""
    if pair.split != pair.other_split:
        if pair.same_pixels:
            return f"{'is' if one else 'are'} also in {pair.other_split}"
        return f"{'looks' if one else 'look'} almost like {pair.other_split} images"
    if pair.same_pixels:
        return f"{'repeats' if one else 'repeat'} others of the split"
    return f"{'looks' if one else 'look'} almost like others of the split, as frames of one film do"


def _few(pairs: Sequence[Pair]) -> str:
    """' (a.png: cat = b.png: dog, ...)': a few of the pairs."""
    named = [str(pair) for pair in pairs[:_SHOWN]] + (["..."] if len(pairs) > _SHOWN else [])
    return f" ({', '.join(named)})" if named else ""
