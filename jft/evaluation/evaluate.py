"""Evaluation of runs on labeled images: one run, an ensemble, or one run against another."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import jax
import numpy as np
from absl import logging

from jft.data import datasets
from jft.data.augment import Augmentation
from jft.data.record import DataRecord
from jft.evaluation import copies, results, training_data
from jft.evaluation.evaluator import Evaluation, Evaluator
from jft.evaluation.restore import Trained, restore
from jft.metrics import calibration, image_metrics, masked_sums
from jft.utils import distributed, json_file, tree
from jft.utils.logger import write_json
from jft.utils.option_names import option
from jft.utils.text import file_name

# Test-time augmentation: name -> the variants of an image that are averaged.
VIEWS = {"flip": Augmentation(flip=True), "crops": Augmentation(flip=True, crop="five")}


@dataclasses.dataclass(frozen=True)
class Images:
    """The images to evaluate on.

    Attributes:
      split: 'train', 'validation', 'test', or 'all' images of other data.
      dataset: name of other data with the same classes, or images in memory; None: the data of the run.
      data_dir: folder or file of the data; None: the place of the training data.
      batch_size: batch size over all devices; None: the run's.
      skip_unreadable: skip images that cannot be read, with a warning, even if the run's config does not.
      image_column, label_column: columns of a CSV file; '': the run's or, for other data, the usual names.
    """

    split: str = "test"
    dataset: str | datasets.Source | None = None
    data_dir: str | None = None
    batch_size: int | None = None
    skip_unreadable: bool = False
    image_column: str = ""
    label_column: str = ""

    def changes(self) -> dict[str, Any]:
        """Fields that differ from the run's config, except the place, as arguments of `datasets.of_config`."""
        skipped = {"skip_unreadable": True} if self.skip_unreadable else {}
        return skipped | datasets.columns(self.image_column, self.label_column)


@dataclasses.dataclass(frozen=True)
class Predicted:
    """A run, the images, and its outputs on them.

    Attributes:
      workdir: folder of the run.
      trained: the restored run.
      source: the images.
      split: their split, see `Images`.
      own: whether they belong to the run's own data, compared by content.
      record: identifies the images.
      found: the outputs and their sums.
    """

    workdir: str | Path
    trained: Trained
    source: datasets.Source
    split: str
    own: bool
    record: DataRecord
    found: Evaluation

    @functools.cached_property
    def calibrated(self) -> np.ndarray | None:
        """Probabilities after temperature scaling, float64 [n, classes]; None if the checkpoint has no temperature."""
        temperature = self.trained.info.temperature
        if temperature is None:
            return None
        logits = self.found.logits.astype(np.float64)
        return calibration.apply_temperature(logits, temperature, multilabel=self.source.multi_label)

    def headline(self) -> dict[str, Any]:
        """`{'checkpoint', 'step', 'phase', 'dataset', 'split', 'learnt', 'validated', 'loss', 'accuracy', ...}`."""
        info = self.trained.info
        return {
            "checkpoint": str(self.workdir),
            "step": info.step,
            "phase": info.phase_of(),
            "dataset": self.source.name,
            "split": self.split,
            **counted(self.recognized),
            "alike": None if self.alike is None else int(self.alike.sum()),
            **self.found.summary(),
            **({"metrics": [*self.found.metrics]} if self.found.metrics else {}),
        }

    @functools.cached_property
    def recognized(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Which images the run was trained on, and which it was validated on: see `training_data.recognized`."""
        return training_data.recognized(training_data.load(self.workdir, self.trained.info), self.source)

    @functools.cached_property
    def alike(self) -> np.ndarray | None:
        """Which other images look almost like one that the run was trained on: see `training_data.alike`."""
        return training_data.alike(training_data.load(self.workdir, self.trained.info), self.source)

    def without_copies(self) -> dict[str, Any]:
        """The entry 'without_copies' of a result, see `copies.without`; {} where no image is a copy."""
        masks = [mask for mask in (self.recognized and self.recognized[0], self.alike) if mask is not None]
        found = copies.without(self.found.probabilities, self.source, np.any(masks, axis=0)) if masks else None
        return {"without_copies": found} if found else {}

    def assess(self) -> dict[str, Any]:
        """`results.assess`, and the checkpoint's temperature."""
        metrics = results.assess(self.found.probabilities, self.source, self.trained.class_names, self.calibrated)
        return {"temperature": self.trained.info.temperature, **metrics}


def evaluate(workdir: str | Path, *, tta: str = "", **images: Any) -> dict[str, Any]:
    """Evaluates a run and writes `<workdir>/eval.json`, or `eval-<which>.json` for images other than its test split.

    Args:
      workdir: folder of the run.
      tta: test-time augmentation whose metrics are reported as well: a key of `VIEWS`; '' for none.
      **images: fields of `Images`: split, dataset, data_dir, batch_size, skip_unreadable, ...

    Returns:
      `Predicted.headline`, 'parameters', 'temperature' and the metrics of `results.assess`; loss in nats, rates from 0
      to 1. 'learnt' is the number of these images that the run was trained on, 'validated' the number of others it was
      validated on; both compare pixels, wherever the files lie, and are None if the run has no list of its images.
      'alike' is the number of others that look almost like one that it was trained on. 'without_copies', if some but
      not all were trained on or look so: {'count', 'loss', 'accuracy', ...} of the rest.
      'data' is the `DataRecord` of the images. If images have several labels, `mean_average_precision` replaces `top5`.
      With `tta`, `augmented`: {'name', 'views', 'loss', 'accuracy', ...}.

    Raises:
      ValueError: there is no checkpoint, or the classes of data and model differ; names both lists.
    """
    augmented = None
    if tta:  # first, because it fails for models that do not support these views
        views = tree.choose(VIEWS, tta, what="test-time augmentation")
        averaged = predict_run(workdir, Images(**images), views)
        count = views.num_variants(averaged.trained.info.fit)
        augmented = {"name": tta, "views": count, **averaged.found.summary()}
    return record(predict_run(workdir, Images(**images)), augmented)


def record(predicted: Predicted, augmented: dict[str, Any] | None = None) -> dict[str, Any]:
    """The result of `evaluate` for a run that has been evaluated; also writes it to the file of these images."""
    result = {
        **predicted.headline(),
        "data": predicted.record.to_json(),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(predicted.trained.variables["params"])),
        **predicted.assess(),
        **predicted.without_copies(),
        **({"augmented": augmented} if augmented else {}),
    }
    path = _path(predicted)
    try:
        if distributed.is_first():
            write_json(path, result)
    except OSError as error:  # still return the metrics if the file cannot be written
        logging.warning("%s was not written: %s", path.name, error)
    return result


def counted(recognized: tuple[np.ndarray, np.ndarray] | None) -> dict[str, int | None]:
    """The entries 'learnt' and 'validated' of a headline."""
    trained, validated = recognized or (None, None)
    return {
        "learnt": None if trained is None else int(trained.sum()),
        "validated": None if validated is None else int(validated.sum()),
    }


class _Saved(TypedDict):
    """The part of a saved evaluation that is read again."""

    data: DataRecord


def _path(predicted: Predicted) -> Path:
    """The file of the metrics; it never replaces that of other images with the same name."""
    folder, split = Path(predicted.workdir), predicted.split
    if predicted.own:
        return folder / ("eval.json" if split == "test" else f"eval-{split}.json")
    name = file_name(predicted.record.name)
    path = folder / f"eval-{name}-{split}.json"
    try:
        same = json_file.read(path, _Saved, "evaluate again")["data"]["digest"] == predicted.record.digest
    except FileNotFoundError:
        return path
    except (OSError, ValueError):
        same = False
    digest = (predicted.record.digest or "")[:8]
    return path if same else folder / f"eval-{name}-{split}-{digest}.json"


def evaluate_ensemble(workdirs: Sequence[str | Path], **images: Any) -> dict[str, Any]:
    """Evaluates an ensemble: the average of the runs' probabilities (Hansen & Salamon, 1990). Writes nothing.

    Args:
      workdirs: folders of the runs; they may differ in model and preprocessing, but not in classes.
      **images: fields of `Images`.

    Returns:
      As `evaluate`, with `'members'`, the headline of each run, instead of `'step'`, `'phase'`, `'parameters'` and
      `'temperature'`; `loss` is the mean log loss of the averaged probabilities, in nats.

    Raises:
      ValueError: see `evaluate`; or the runs have different classes or images.
    """
    members = _on_same_images(workdirs, Images(**images))
    average = np.mean([member.found.probabilities.astype(np.float64) for member in members], axis=0)
    source, class_names = members[0].source, members[0].trained.class_names
    return {
        "checkpoint": " + ".join(map(str, workdirs)),
        "dataset": source.name,
        "split": members[0].split,
        **counted(_of_any([member.recognized for member in members])),
        **masked_sums.of_probabilities(average, source.labels),
        **results.assess(average, source, class_names),
        "members": [member.headline() for member in members],
    }


def _of_any(recognized: Sequence[tuple[np.ndarray, np.ndarray] | None]) -> tuple[np.ndarray, np.ndarray] | None:
    """Images that any of the runs was trained on; and those that any was validated on and none trained on."""
    if any(each is None for each in recognized):
        return None
    trained, validated = (np.any(masks, axis=0) for masks in zip(*recognized, strict=True))
    return trained, validated & ~trained


def evaluate_against(first: str | Path, second: str | Path, **images: Any) -> dict[str, Any]:
    """Tests whether the second run is better than the first on the same images. Writes nothing.

    Args:
      first: folder of a run.
      second: folder of another run with the same classes.
      **images: fields of `Images`.

    Returns:
      `{'members', 'against'}`: the headlines of both, and `results.contrast`.

    Raises:
      ValueError: see `evaluate_ensemble`; or images with several labels.
    """
    one, other = _on_same_images([first, second], Images(**images))
    return {
        "members": [one.headline(), other.headline()],
        "against": results.contrast(one.found.probabilities, other.found.probabilities, one.source.labels),
    }


def _on_same_images(workdirs: Sequence[str | Path], images: Images) -> list[Predicted]:
    members: list[Predicted] = []
    for workdir in workdirs:
        member = predict_run(workdir, images)
        first = members[0] if members else member
        if member.record.digest != first.record.digest:  # of images, labels and classes, in order
            raise ValueError(
                f"the runs have different images: {workdir} has classes {list(member.trained.class_names)} and "
                f"{len(member.source)} images, {workdirs[0]} has {list(first.trained.class_names)} and "
                f"{len(first.source)}. Use {option('split', 'test')}, or train the runs with the same seed and "
                "validation."
            )
        members.append(member)
    return members


def predict_run(workdir: str | Path, images: Images, views: Augmentation | None = None) -> Predicted:
    """Restores a run and evaluates it with its own preprocessing; with `views`, averages over their variants.

    Raises:
      ValueError: see `evaluate`.
    """
    trained, split = restore(workdir), images.split
    config = trained.info.config
    source = trained.images(split, dataset=images.dataset, data_dir=images.data_dir, **images.changes())
    dataset, place = training_data.asked(trained, images.dataset, images.data_dir)
    columns = datasets.columns(images.image_column, images.label_column)
    record = DataRecord.of(source, dataset, place, content=True)
    own = training_data.is_own(workdir, trained, split, dataset, place, **columns)
    if own and split == "test" and not images.skip_unreadable:  # same training images, perhaps other test images
        own = trained.info.test_digest in (None, record.digest)
    if split == "validation" and own and trained.info.learnt_validation:
        raise ValueError(
            f"{workdir}'s head was refit on train + validation after choosing C, so validation images were trained on: "
            f"use {option('split', 'test')}. The validation metrics before the refit are in its metrics.jsonl."
        )
    if not own:
        source = dataclasses.replace(source, name=Path(images.data_dir or "").name or source.name)
    if images.batch_size:
        trained.parallel.check_batch_size(images.batch_size, what="batch_size")
    evaluator = Evaluator(
        trained.model,
        trained.spec,
        trained.parallel,
        objective=trained.objective,
        fit=trained.info.fit,
        batch_size=images.batch_size or trained.parallel.rounded(config["eval_batch_size"]),
        resize_on=config["resize_on"],
        cache_bytes=config["cache_bytes"],
        input=config.get("input", "auto"),  # which older runs lack
        views=views,
        metrics=image_metrics.restored(config["metrics"]),
    )
    found = evaluator(trained.variables, source)
    return Predicted(workdir, trained, source, split, own, record, found)
