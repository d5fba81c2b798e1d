"""Recognizes the images that a run was trained on by their content, wherever the files lie."""

import dataclasses
import os
import zipfile
from pathlib import Path

import numpy as np

from jft.data import content, datasets, formats, near, notes
from jft.data.record import DataRecord
from jft.data.source import Source
from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.evaluation.restore import Trained
from jft.utils.files import open_regular
from jft.utils.option_names import option

FILE = "images.npz"  # in the run's folder, 40 bytes per image


@dataclasses.dataclass(frozen=True)
class Known:
    """Digests and perceptual hashes of the images of a run, uint64 each, see `content` and `looks`.

    Attributes:
      train: [n], digests of the images that its parameters were trained on.
      validation: [m], of the images that chose its checkpoint or its strength of regularization.
      train_hashes: [n, 4], hashes; None: a run of before, which recorded none.
      validation_hashes: [m, 4], likewise.
    """

    train: np.ndarray
    validation: np.ndarray
    train_hashes: np.ndarray | None = None
    validation_hashes: np.ndarray | None = None

    @classmethod
    def of(cls, train: Source, validation: Source) -> "Known":
        """Of the images of a run."""
        trained, validated = content.image_facts(train), content.image_facts(validation)
        return cls(trained["digest"], validated["digest"], trained["hash"], validated["hash"])

    def refit(self) -> "Known":
        """Where the head was refit on validation: all count as trained on."""
        hashes = None
        if self.train_hashes is not None and self.validation_hashes is not None:
            hashes = np.concatenate([self.train_hashes, self.validation_hashes])
        return Known(np.concatenate([self.train, self.validation]), self.validation[:0], hashes)


def load(workdir: str | Path, info: CheckpointInfo) -> Known | None:
    """Reads the digests of a run; None if there are none. If the head was refit on validation, they count as train."""
    try:
        with open_regular(Path(workdir) / FILE) as file, np.load(file, allow_pickle=False) as held:
            known = Known(**{field.name: held[field.name] for field in dataclasses.fields(Known) if field.name in held})
    except (OSError, ValueError, TypeError, zipfile.BadZipFile):
        return None
    for digests, hashes in ((known.train, known.train_hashes), (known.validation, known.validation_hashes)):
        if digests.dtype != np.uint64 or digests.ndim != 1:
            return None
        if hashes is not None and (hashes.dtype != np.uint64 or hashes.shape != (len(digests), 4)):
            return None
    if len(known.train) != info.trained_on.count:
        return None
    return known.refit() if info.learnt_validation else known


def touched(workdir: str | Path, source: Source) -> bool:
    """Whether any file of a source was created, written or moved since the run recorded its images."""
    try:
        noted = (Path(workdir) / FILE).stat().st_mtime_ns
        return any(path.stat().st_ctime_ns > noted for path in source.images if isinstance(path, Path))
    except OSError:  # no list, or a file is gone
        return True


def recognized(known: Known | None, source: Source) -> tuple[np.ndarray, np.ndarray] | None:
    """Masks, bool [n] each: images of a source that a run was trained on, and others that it was validated on."""
    if known is None:
        return None
    digests = content.image_digests(source)
    trained = np.isin(digests, known.train)
    return trained, np.isin(digests, known.validation) & ~trained


def alike(known: Known | None, source: Source) -> np.ndarray | None:
    """Mask, bool [n]: images of a source that look almost like one that a run was trained on, and are not the same.

    None where the run has no hashes of its images.
    """
    if known is None or known.train_hashes is None:
        return None
    others = np.flatnonzero(~np.isin(content.image_digests(source), np.concatenate([known.train, known.validation])))
    found = np.zeros(len(source), bool)
    found[others] = near.find(content.image_facts(source)["hash"][others], known.train_hashes).row >= 0
    return found


def asked(trained: Trained, dataset: str | Source | None, data_dir: str | None) -> tuple[str | Source, str]:
    """The requested dataset and its place, as `datasets.load_source` takes them; None stands for those of the run."""
    place = trained.place(dataset) if data_dir is None else data_dir
    return trained.info.trained_on.dataset if dataset is None else dataset, place


def is_own(
    workdir: str | Path, trained: Trained, split: str, dataset: str | Source, place: str, **columns: str
) -> bool:
    """Whether data are the run's own: whether their training images are those that it was trained on.

    Files at their original place that were not touched since are compared by name and size, all other data by content.

    Args:
      workdir: folder of the run.
      trained: the restored run.
      split: the requested split.
      dataset: from `asked`.
      place: from `asked`.
      **columns: columns of a CSV file, from `datasets.columns`.

    Raises:
      ValueError: images were added or removed since training, so that other images would be held out, including some
        that it was trained on.
    """
    record = trained.info.trained_on
    given = isinstance(dataset, Source)
    if given and split == "all":  # images by themselves: nothing is held out of them, and a few could not be split
        return False
    if given == bool(record.dataset) or (not given and dataset != record.dataset):
        return False
    there = not given and os.path.abspath(place) == os.path.abspath(trained.place())
    if (
        there and isinstance(dataset, str) and not formats.may_change(dataset)
    ):  # the others do not change, and can take long to read
        return True
    config = {**trained.info.config, **columns, "dataset": dataset}
    parted = datasets.official_splits(config, place)
    if "train" not in parted:
        return there
    with notes.heard():  # how few images there are is not of interest for a comparison
        now = datasets.of_config(config, "train", data_dir=place)
    same = not record.differences(DataRecord.of(now, dataset, place))
    if same and record.digest and (not there or touched(workdir, now)):
        same = content.content_digest(now) == record.digest
    if same or given or split in ("train", "all", *parted):
        return same
    raise ValueError(
        f"{place} does not hold the images that {workdir} was trained on: {record.count:,} training images then, "
        f"{len(now):,} others now, so the {split} split may contain images that were trained on. Put the files back, "
        f"or train again; for entirely new images, give {option('data')} with {option('split', 'all')}."
    )
