"""The images of a run: recorded by content when it begins, compared when it resumes."""

import contextlib
import dataclasses
from collections.abc import Mapping

import numpy as np

from jft.data import content, datasets, duplicates
from jft.data.source import Source
from jft.data.survey import Survey, survey
from jft.evaluation import training_data
from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.evaluation.training_data import FILE, Known, touched
from jft.training.run import Run
from jft.training.teacher import Teacher
from jft.utils import distributed
from jft.utils.files import written_whole


def note(run: Run, info: CheckpointInfo, *, begins: bool) -> CheckpointInfo:
    """Adds the content digests of a run's images to its info, and reports images that occur more than once.

    A run that resumes has done so when it began; its images are not decoded again.
    """
    if (
        not begins
        and (run.workdir / FILE).exists()
        and all(known and known.digest for known in (info.trained_on, info.validated_on))
    ):
        return info
    splits = _splits(run)
    found = duplicates.find(**splits)
    if repeated := str(found):
        remedy = "the evaluation also gives figures without copies of training images" if found.leaking() else ""
        distributed.say(f"WARNING: {repeated}{'; ' if remedy else ''}{remedy}.")
    for line in given_away(run.teacher, splits) if run.teacher else ():
        distributed.say(f"WARNING: {line}.")
    test = content.content_digest(splits["test"]) if "test" in splits else info.test_digest
    train, validation = run.records(content=True)
    return dataclasses.replace(info, trained_on=train, validated_on=validation, test_digest=test)


def look(run: Run) -> Survey:
    """What the training, validation and test images of a run are, and what is odd about them."""
    return survey(_splits(run), name=run.records()[0].name)


def given_away(teacher: Teacher, splits: Mapping[str, Source]) -> list[str]:
    """A sentence for each of validation and test of which a teacher was trained on images."""
    known = training_data.load(teacher.folder, teacher.info)
    remedies = {
        "validation": "hold out the same images in both runs, by the same seed and a share such as validation = 0.2",
        "test": "train it without them",
    }
    lines = []
    for name, remedy in remedies.items():
        source = splits.get(name)
        if source is None or not len(source) or (found := training_data.recognized(known, source)) is None:
            continue
        if count := int(found[0].sum()):
            lines.append(
                f"the teacher {teacher.folder} was trained on {count:,} of the {len(source):,} {name} images, so that "
                f"figures on them are too good: {remedy}"
            )
    return lines


def _splits(run: Run) -> dict[str, Source]:
    splits = {"train": run.train_source, "validation": run.validation_source}
    with contextlib.suppress(ValueError, OSError):  # an evaluation reports missing test images; here they are optional
        splits["test"] = datasets.of_config(run.fields, "test")
    return splits


def save(run: Run, *, begins: bool) -> None:
    """Writes the digests into the run's folder, unless the run resumes and they are there.

    They are rewritten if the run has no checkpoint yet: its images may have changed since, and nothing compared them.
    """
    path = run.workdir / FILE
    if distributed.is_first() and (begins or not path.exists()):
        known = Known.of(run.train_source, run.validation_source)
        with written_whole(path) as aside, aside.open("wb") as file:
            np.savez(file, **dataclasses.asdict(known))


def differences(run: Run, info: CheckpointInfo) -> list[str]:
    """Differences between a run's training images and those of its checkpoint, see `DataRecord.differences`.

    Files are decoded and compared by content if they may have changed under the same names and sizes.
    """
    known, (now, _) = info.trained_on, run.records()
    if known.digest and not now.digest and (known.where != now.where or touched(run.workdir, run.train_source)):
        now = dataclasses.replace(now, digest=content.content_digest(run.train_source))
    return known.differences(now)
