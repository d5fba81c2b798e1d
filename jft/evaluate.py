"""Evaluation of runs, from checkpoints that need neither their config files nor their data."""

import dataclasses
import functools
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from jft import assessment, calibration, distributed, metrics, tree
from jft.checkpoint import Checkpoints, Meta
from jft.data import sources
from jft.data.augment import Augmentation
from jft.data.preprocess import Preprocess
from jft.evaluator import Evaluation, Evaluator
from jft.logs import write_json
from jft.losses import Objective
from jft.models import Chain, abstract_variables, create_model
from jft.parallel import Parallel, make_parallel
from jft.transfer.recipe import picture_digests

# Test-time augmentation: name -> the variants of a picture that are averaged.
VIEWS = {"flip": Augmentation(flip=True), "crops": Augmentation(flip=True, crop="five")}


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained model, restored.

    Attributes:
      model: the chain.
      variables: `{'params', 'batch_stats'}` on the devices.
      spec: its preprocessing.
      class_names: what its outputs mean, in order.
      meta: all else that the checkpoint holds.
      parallel: the devices.
    """

    model: Chain
    variables: Any
    spec: Preprocess
    class_names: tuple[str, ...]
    meta: Meta
    parallel: Parallel


def restore(workdir: str | Path, parallel: Parallel | None = None) -> Trained:
    """Restores the best checkpoint of a run (the newest where nothing was validated).

    Args:
      workdir: folder of the run.
      parallel: where to put it, on any number of devices; None: on the mesh of the run where there are the devices for
        it, else a copy on each.

    Returns:
      The model, ready to be applied.

    Raises:
      ValueError: there is no checkpoint that can be read.
    """
    checkpoints = Checkpoints(workdir, read_only=True)

    def abstract(meta: Meta) -> tuple[Any, None]:
        return (parallel or parallel_of(meta)).abstract(
            abstract_variables(_model(meta), meta["preprocess"]["size"])
        ), None

    try:
        variables, _, meta = checkpoints.best(abstract)
    finally:
        checkpoints.close()
    parallel = parallel or parallel_of(meta)
    model = _model(meta).clone(axis_name=parallel.axis_name)
    spec = Preprocess.from_dict(meta["preprocess"])
    return Trained(model, variables, spec, tuple(meta["class_names"]), meta, parallel)


def parallel_of(meta: Meta) -> Parallel:
    """The mesh of a run where there are the devices for it, else a copy on each."""
    try:
        return make_parallel("jit", meta["config"]["mesh"])
    except ValueError:  # another number of devices
        return make_parallel("jit")


def _model(meta: Meta) -> Chain:
    return create_model(
        meta["model"]["name"],
        num_classes=objective_of(meta).num_outputs,
        dtype=meta["config"]["dtype"],
        **meta["model"]["options"],
    )


def objective_of(meta: Meta) -> Objective:
    """What the outputs of a run mean, for evaluation: neither smoothed nor weighted."""
    return Objective(meta["objective"], len(meta["class_names"]))


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Which pictures to evaluate on.

    Attributes:
      split: 'train', 'validation', 'test', or 'all' pictures of other data.
      dataset: name of other data with the same classes, or pictures in memory; None: what the run was trained on.
      data_dir: where the data lie; None: where they lay in training.
      batch_size: pictures at a time, over all devices; None: the run's.
      skip_unreadable: leaves out those that cannot be read, with a warning, even if the run's config does not.
    """

    split: str = "test"
    dataset: str | sources.Source | None = None
    data_dir: str | None = None
    batch_size: int | None = None
    skip_unreadable: bool = False


@dataclasses.dataclass(frozen=True)
class Predicted:
    """A run, the pictures, and what it makes of them."""

    workdir: str | Path
    trained: Trained
    source: sources.Source
    found: Evaluation

    def headline(self) -> dict[str, Any]:
        """`{'checkpoint', 'step', 'loss', 'accuracy', 'top5', 'count'}`."""
        return {"checkpoint": str(self.workdir), "step": self.trained.meta["step"], **self.found.summary()}

    def assess(self) -> dict[str, Any]:
        """`assessment.assess`, with the temperature that the checkpoint holds."""
        temperature, several = self.trained.meta.get("temperature"), self.source.multi_label
        calibrated = None
        if temperature is not None:
            logits = self.found.logits.astype(np.float64)
            calibrated = calibration.apply_temperature(logits, temperature, multilabel=several)
        told = assessment.assess(self.found.probabilities, self.source, self.trained.class_names, calibrated)
        return {"temperature": temperature, **told}


def evaluate(workdir: str | Path, *, tta: str = "", **pictures: Any) -> dict[str, Any]:
    """Evaluates a run and writes `<workdir>/eval.json`; of other pictures than its test split `eval-<which>.json`.

    Args:
      workdir: folder of the run.
      tta: views that are averaged, to be reported apart: a key of `VIEWS`; empty: none.
      **pictures: fields of `Pictures`: split, dataset, data_dir, batch_size, skip_unreadable.

    Returns:
      `{'checkpoint', 'step', 'dataset', 'split', 'parameters', 'loss', 'accuracy', 'top5', 'count', 'temperature'}` and
      what `assessment.assess` returns; loss in nats, rates as shares of 1. Where pictures have several labels,
      `mean_average_precision` in place of `top5`. With `tta`, `augmented`: {'name', 'views', 'loss', 'accuracy', ...}.

    Raises:
      ValueError: no checkpoint, or the data's classes are not those of the model; names both lists.
    """
    augmented = None
    if tta:  # first, as not every model can be asked for every view
        views = tree.choose(VIEWS, tta, what="test-time augmentation")
        averaged = predict_run(workdir, Pictures(**pictures), views)
        count = views.num_variants(averaged.trained.meta["fit"])
        augmented = {"name": tta, "views": count, **averaged.found.summary()}
    return record(predict_run(workdir, Pictures(**pictures)), pictures.get("split", "test"), augmented)


def record(predicted: Predicted, split: str, augmented: dict[str, Any] | None = None) -> dict[str, Any]:
    """What `evaluate` returns of a run that has been evaluated, written to the file that it names."""
    result = {
        **predicted.headline(),
        "dataset": predicted.source.name,
        "split": split,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(predicted.trained.variables["params"])),
        **predicted.assess(),
        **({"augmented": augmented} if augmented else {}),
    }
    own = predicted.source.name == predicted.trained.meta["config"]["dataset"]
    which = [] if own and split == "test" else [split] if own else [predicted.source.name.replace("/", "_"), split]
    path = Path(predicted.workdir) / f"{'-'.join(['eval', *which])}.json"
    try:
        if distributed.is_first():
            write_json(path, result)
    except OSError as error:  # the figures are worth more than the file
        logging.warning("%s was not written: %s", path.name, error)
    return result


def evaluate_ensemble(workdirs: Sequence[str | Path], **pictures: Any) -> dict[str, Any]:
    """Evaluates runs together: the average of their probabilities (Hansen & Salamon, 1990). Writes nothing.

    Args:
      workdirs: folders of the runs, which may differ in model and preprocessing, not in classes.
      **pictures: fields of `Pictures`.

    Returns:
      As `evaluate`, with `'members'`, the headline of each run, in place of `'step'`, `'parameters'` and
      `'temperature'`; `loss` is the mean log loss of the averaged probabilities, in nats.

    Raises:
      ValueError: see `evaluate`; or the runs have other classes, or other pictures.
    """
    members = _on_same_pictures(workdirs, Pictures(**pictures))
    average = np.mean([member.found.probabilities.astype(np.float64) for member in members], axis=0)
    source, class_names = members[0].source, members[0].trained.class_names
    return {
        "checkpoint": " + ".join(map(str, workdirs)),
        "dataset": source.name,
        "split": Pictures(**pictures).split,
        **metrics.of_probabilities(average, source.labels),
        **assessment.assess(average, source, class_names),
        "members": [member.headline() for member in members],
    }


def evaluate_against(first: str | Path, second: str | Path, **pictures: Any) -> dict[str, Any]:
    """Whether the second run is better than the first on the same pictures, or lucky. Writes nothing.

    Args:
      first: folder of a run.
      second: folder of another one of the same classes.
      **pictures: fields of `Pictures`.

    Returns:
      `{'members', 'against'}`: the headlines of both with 'dataset' and 'split', and `assessment.contrast`.

    Raises:
      ValueError: see `evaluate_ensemble`; or pictures with several labels.
    """
    members = _on_same_pictures([first, second], Pictures(**pictures))
    source = members[0].source
    where = {"dataset": source.name, "split": Pictures(**pictures).split}
    return {
        "members": [{**member.headline(), **where} for member in members],
        "against": assessment.contrast(*(member.found.probabilities for member in members), source.labels),
    }


def _on_same_pictures(workdirs: Sequence[str | Path], pictures: Pictures) -> list[Predicted]:
    members: list[Predicted] = []
    for workdir in workdirs:
        member = predict_run(workdir, pictures)
        first = members[0] if members else member
        same = np.array_equal(member.source.labels, first.source.labels) and np.array_equal(
            picture_digests(member.source), picture_digests(first.source)
        )
        if member.trained.class_names != first.trained.class_names or not same:
            raise ValueError(
                f"{workdir} has classes {list(member.trained.class_names)} and {len(member.source)} pictures, "
                f"{workdirs[0]} has {list(first.trained.class_names)} and {len(first.source)}, and not the same in the "
                "same order: evaluate an ensemble on the test pictures, or train its runs with one seed and validation."
            )
        members.append(member)
    return members


def predict_run(workdir: str | Path, pictures: Pictures, views: Augmentation | None = None) -> Predicted:
    """Restores a run and evaluates it, as it prepared its pictures; with `views`, averaged over their variants.

    Raises:
      ValueError: see `evaluate`.
    """
    trained = restore(workdir)
    config = trained.meta["config"]
    own = pictures.dataset in (None, config["dataset"])
    if pictures.split == "validation" and own and trained.meta.get("learnt_validation"):
        raise ValueError(
            f"the head of {workdir} was solved for on its validation pictures too, once they had chosen its C: "
            "evaluate it on test. What validation said before is in its metrics.jsonl."
        )
    if own and pictures.split in ("test", "validation") and pictures.data_dir in (None, config["data_dir"]):
        _check_unchanged(workdir, trained)
    source = load_like(
        trained,
        pictures.dataset,
        split=pictures.split,
        data_dir=config["data_dir"] if pictures.data_dir is None else pictures.data_dir,
        validation=config["validation"],
        seed=config["seed"],
        examples_per_class=config["examples_per_class"] if pictures.split == "train" else 0,
        skip_unreadable=config["skip_unreadable"] or pictures.skip_unreadable,
    )
    if not len(source):
        raise ValueError(f"{source.name} has no pictures in split {pictures.split!r}.")
    size = pictures.batch_size or config["eval_batch_size"]
    trained.parallel.check_batch_size(size, what="batch_size")
    evaluator = Evaluator(
        trained.model,
        trained.spec,
        trained.parallel,
        objective=objective_of(trained.meta),
        fit=trained.meta["fit"],
        batch_size=size,
        resize_on=config["resize_on"],
        cache_bytes=config["cache_bytes"],
        views=views,
    )
    return Predicted(workdir, trained, source, evaluator(trained.variables, source))


def _check_unchanged(workdir: str | Path, trained: Trained) -> None:
    """ValueError where files came or went since training: others would be held out, some of which were learnt from."""
    config, meta = trained.meta["config"], trained.meta
    if config["dataset"] not in ("folder", "csv"):  # the others do not change, and can take long to read
        return
    fields = ("data_dir", "validation", "seed", "classes", "examples_per_class", "skip_unreadable")
    now = sources.load_source(config["dataset"], split="train", **{field: config[field] for field in fields})
    if (now.names_crc(), zlib.crc32(now.labels)) != (meta["training_names"], meta["training_labels"]):
        raise ValueError(
            f"{config['data_dir']} has changed since {workdir} was trained: {meta['training_pictures']:,} pictures to "
            f"train then, {len(now):,} now, not the same, and some that would be held out were learnt from. Put the "
            "files back, or train anew; for pictures that are new altogether, give --data with --split all."
        )


def load_like(trained: Trained, dataset: str | sources.Source | None, **where: Any) -> sources.Source:
    """Loads data whose labels mean what the model's outputs mean.

    Args:
      trained: the model.
      dataset: name of other data, or pictures in memory; None: what it was trained on, and those classes of it.
      **where: further arguments of `sources.load_source`.

    Returns:
      The pictures, labelled in the order of the model's classes.

    Raises:
      ValueError: the data's classes are others; names both lists.
    """
    config = trained.meta["config"]
    own = config["dataset"] if dataset is None else dataset
    load = functools.partial(sources.load_source, own, region_of_interest=config["region_of_interest"], **where)
    source = load(classes=config["classes"] if dataset is None else ())
    if set(source.class_names) != set(trained.class_names):
        raise ValueError(
            f"the model's classes are not the data's: the checkpoint has {list(trained.class_names)}, "
            f"{source.name} has {list(source.class_names)}. Give data of the same classes, named alike."
        )
    return source if source.class_names == trained.class_names else load(classes=trained.class_names)
