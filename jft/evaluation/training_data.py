"""The images of a run: noted by content when it begins, and recognized wherever they turn up again."""

import contextlib
import dataclasses
import os
import zipfile
from pathlib import Path

import numpy as np

from jft.data import content, datasets
from jft.data.record import DataRecord
from jft.data.source import Source
from jft.evaluation.restore import Trained
from jft.training.run import Run
from jft.utils import distributed
from jft.utils.checkpoint_info import Meta, trained_on, validated_on
from jft.utils.files import open_regular, written_whole

_FILE = "images.npz"  # in the run's folder, 8 bytes an image


@dataclasses.dataclass(frozen=True)
class Known:
    """Digests of the images of a run, uint64 each, see `content.image_digests`.

    Attributes:
      train: [n], of those that its parameters were fitted to.
      validation: [m], of those that chose among its checkpoints, or the strength of regularization.
    """

    train: np.ndarray
    validation: np.ndarray


def note(run: Run, meta: Meta, *, begins: bool) -> Meta:
    """The meta of a run that begins, with its images known by content; says which of them occur more than once.

    A run that goes on was told when it began: nothing is decoded for it again.
    """
    if (
        not begins
        and (run.workdir / _FILE).exists()
        and all(known and known.digest for known in (trained_on(meta), validated_on(meta)))
    ):
        return meta
    splits = _splits(run)
    if told := str(content.repeats(**splits)):
        distributed.say(f"By their pixels, {told}.")
    test = {"test_digest": content.content_digest(splits["test"])} if "test" in splits else {}
    return {**meta, "trained_on": run.records(content=True), **test}


def repeats(run: Run) -> content.Repeats:
    """Images that occur more than once in the training, validation and test images of a run."""
    return content.repeats(**_splits(run))


def _splits(run: Run) -> dict[str, Source]:
    splits = {"train": run.train_source, "validation": run.validation_source}
    with contextlib.suppress(ValueError, OSError):  # said where it is evaluated, not where it is but looked into
        splits["test"] = datasets.of_config(run.fields, "test")
    return splits


def save(run: Run, *, begins: bool) -> None:
    """Writes the digests into the run's folder, unless it goes on and they are there.

    Those of a run that ended before its first checkpoint may be of other images: nothing compared them since.
    """
    path = run.workdir / _FILE
    if distributed.is_first() and (begins or not path.exists()):
        known = Known(content.image_digests(run.train_source), content.image_digests(run.validation_source))
        with written_whole(path) as aside, aside.open("wb") as file:
            np.savez(file, **dataclasses.asdict(known))


def load(workdir: str | Path, meta: Meta) -> Known | None:
    """What `save` wrote, validation joined to train where a solver fitted to it too; None if there is none."""
    try:
        with open_regular(Path(workdir) / _FILE) as file, np.load(file, allow_pickle=False) as held:
            known = Known(held["train"], held["validation"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    if any(array.dtype != np.uint64 or array.ndim != 1 for array in (known.train, known.validation)):
        return None
    if len(known.train) != trained_on(meta).count:
        return None
    if meta.get("learnt_validation"):
        return Known(np.concatenate([known.train, known.validation]), known.validation[:0])
    return known


def differences(run: Run, meta: Meta) -> list[str]:
    """In what the training images of a run are not those of a checkpoint of it, see `DataRecord.differences`.

    Files are decoded, to know them by content, where they may be others of the same names and sizes.
    """
    known, now = trained_on(meta), DataRecord.from_json(run.records()["train"])
    if known.digest and not now.digest and (known.where != now.where or _touched(run.workdir, run.train_source)):
        now = dataclasses.replace(now, digest=content.content_digest(run.train_source))
    return known.differences(now)


def _touched(workdir: str | Path, source: Source) -> bool:
    """Whether any file of a source was made, written or moved since the run noted its images."""
    try:
        noted = (Path(workdir) / _FILE).stat().st_mtime_ns
        return any(path.stat().st_ctime_ns > noted for path in source.pictures if isinstance(path, Path))
    except OSError:  # no list, or a file is gone
        return True


def recognized(known: Known | None, source: Source) -> tuple[np.ndarray, np.ndarray] | None:
    """Which images of a source a run was trained on, and which others it was validated on: two of bool [n]."""
    if known is None:
        return None
    digests = content.image_digests(source)
    trained = np.isin(digests, known.train)
    return trained, np.isin(digests, known.validation) & ~trained


def asked(trained: Trained, dataset: str | Source | None, data_dir: str | None) -> tuple[str | Source, str]:
    """What data are asked for, as `datasets.load_source` takes them, and where they lie; None: those of the run."""
    place = trained.place(dataset) if data_dir is None else data_dir
    return trained_on(trained.meta).dataset if dataset is None else dataset, place


def is_own(
    workdir: str | Path, trained: Trained, split: str, dataset: str | Source, place: str, **columns: str
) -> bool:
    """Whether data are those of the run: whether what they have to train on is what it was trained on.

    In their own place, unless touched since, files are compared by name and size; otherwise all data by content.

    Args:
      workdir: folder of the run.
      trained: the run.
      split: that is asked for.
      dataset: from `asked`.
      place: likewise.
      **columns: of a CSV file, from `datasets.columns`.

    Raises:
      ValueError: images came or went since training, so that others would be held out, some of which it was trained on.
    """
    record = trained_on(trained.meta)
    given = isinstance(dataset, Source)
    if given == bool(record.dataset) or (not given and dataset != record.dataset):
        return False
    there = not given and os.path.abspath(place) == os.path.abspath(trained.place())
    if there and dataset not in datasets.OF_FILES:  # the others do not change, and can take long to read
        return True
    config = {**trained.meta["config"], **columns, "dataset": dataset}
    parted = datasets.comes_with(config, place)
    if "train" not in parted:
        return there
    now = datasets.of_config(config, "train", data_dir=place)
    same = not record.differences(DataRecord.of(now, dataset, place))
    if same and record.digest and (not there or _touched(workdir, now)):
        same = content.content_digest(now) == record.digest
    if same or given or split in ("train", "all", *parted):
        return same
    raise ValueError(
        f"{place} does not hold the pictures that {workdir} was trained on: {record.count:,} to train "
        f"then, {len(now):,} now, not the same, so that some that would be held out may have been learnt from. Put the "
        "files back, or train anew; for pictures that are new altogether, give --data with --split all."
    )
