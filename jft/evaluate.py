"""Evaluation: every picture exactly once, from a checkpoint that needs neither its config file nor its data."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from absl import logging
from jax.sharding import NamedSharding, PartitionSpec

from jft import metrics
from jft.checkpoint import Checkpoints, Meta
from jft.data import pipeline, preprocess, sources
from jft.data.augment import make_eval_transform
from jft.data.preprocess import Preprocess
from jft.logs import write_json
from jft.models import abstract_variables, create_model
from jft.parallel import Parallel, make_parallel
from jft.steps import make_eval_step


class Evaluator:
    """`evaluator(variables, source) -> sums`; compiles at its first call, once."""

    def __init__(
        self,
        model: nn.Module,
        spec: Preprocess,
        parallel: Parallel,
        *,
        fit: str,
        batch_size: int,
        resize_on: str,
        cache_bytes: int,
    ) -> None:
        """Keeps how to evaluate.

        Args:
          model: the chain; its `axis_name` is the parallel's.
          spec: preprocessing of the weights.
          parallel: the devices.
          fit: 'whole' or 'crop', as trained.
          batch_size: pictures at a time over all devices; the last batch is padded and its padding masked.
          resize_on: 'device' or 'host'.
          cache_bytes: decoded pictures kept in memory.
        """
        self._step = make_eval_step(model, transform=make_eval_transform(spec, fit=fit), axis_name=parallel.axis_name)
        self._compiled: jax.stages.Compiled | None = None
        self._spec, self._parallel = spec, parallel
        self._reading = {"batch_size": batch_size, "fit": fit, "resize_on": resize_on, "cache_bytes": cache_bytes}

    def __call__(self, variables: Any, source: sources.Source) -> metrics.Sums:
        """Adds up `classification_sums` over every picture of a source that is not empty.

        Raises:
          RuntimeError: not every picture was counted exactly once, which would be a mistake of jft's own.
        """
        total, pending, indices = None, [], []
        for batch in pipeline.eval_batches(source, self._spec, **self._reading):
            placed = self._parallel.place_batch({key: batch[key] for key in ("image", "label", "mask")})
            if self._compiled is None:
                preprocess.check_range(batch["image"], self._spec)
                self._compiled = self._parallel.compile(self._step, variables, placed, donate=False)
            pending.append(self._compiled(variables, placed))
            if len(pending) > 2:  # behind, so that the device is not kept waiting
                total = metrics.add(total, pending.pop(0))
            indices.append(batch["index"][batch["mask"]])
        for sums in pending:
            total = metrics.add(total, sums)
        seen = np.concatenate(indices)
        if not (len(seen) == len(np.unique(seen)) == len(source) == round(float(total["count"]))):
            raise RuntimeError(f"{total['count']} of {len(source)} pictures counted, {len(np.unique(seen))} distinct.")
        return total


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained model, restored.

    Attributes:
      model: the chain.
      variables: `{'params', 'batch_stats'}` on the devices.
      spec: its preprocessing.
      class_names: what its outputs mean, in order.
      meta: all else that the checkpoint holds.
    """

    model: nn.Module
    variables: Any
    spec: Preprocess
    class_names: tuple[str, ...]
    meta: Meta


def restore(workdir: str | Path, parallel: Parallel) -> Trained:
    """Restores the best checkpoint of a run (the newest where nothing was validated).

    Args:
      workdir: folder of the run.
      parallel: where to put it, on any number of devices.

    Returns:
      The model, ready to be applied.

    Raises:
      ValueError: there is no checkpoint that can be read.
    """
    checkpoints = Checkpoints(workdir, read_only=True)

    def abstract(meta: Meta) -> tuple[Any, None]:
        shapes = abstract_variables(_model(meta), meta["preprocess"]["size"])
        sharding = NamedSharding(parallel.mesh, PartitionSpec())
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes), None

    try:
        variables, _, meta = checkpoints.best(abstract)
    finally:
        checkpoints.close()
    model = _model(meta).clone(axis_name=parallel.axis_name)
    return Trained(model, variables, Preprocess.from_dict(meta["preprocess"]), tuple(meta["class_names"]), meta)


def _model(meta: Meta) -> nn.Module:
    return create_model(
        meta["model"]["name"],
        num_classes=len(meta["class_names"]),
        dtype=meta["config"]["dtype"],
        **meta["model"]["options"],
    )


def _evaluator(trained: Trained, parallel: Parallel, batch_size: int) -> Evaluator:
    """Prepares pictures as the run did."""
    parallel.check_batch_size(batch_size, what="batch_size")
    return Evaluator(
        trained.model,
        trained.spec,
        parallel,
        fit=trained.meta["fit"],
        batch_size=batch_size,
        resize_on=trained.meta["config"]["resize_on"],
        cache_bytes=trained.meta["config"]["cache_bytes"],
    )


def evaluate(
    workdir: str | Path,
    *,
    split: str = "test",
    dataset: str | sources.Source | None = None,
    data_dir: str | None = None,
    batch_size: int | None = None,
) -> dict[str, Any]:
    """Evaluates a run and writes `<workdir>/eval.json`.

    Args:
      workdir: folder of the run.
      split: 'train', 'validation', 'test', or 'all' pictures of other data.
      dataset: name of other data with the same classes, or pictures in memory; None: what the run was trained on.
      data_dir: where the data lie; None: where they lay in training.
      batch_size: pictures at a time, over all devices; None: the run's.

    Returns:
      `{'checkpoint', 'step', 'dataset', 'split', 'loss', 'accuracy', 'top5', 'count', 'per_class'}`; loss in nats,
      rates as shares of 1, `per_class` {name: {'accuracy', 'count'}}.

    Raises:
      ValueError: no checkpoint, or the data's classes are not those of the model; names both lists.
    """
    parallel = make_parallel("jit")
    trained = restore(workdir, parallel)
    config = trained.meta["config"]
    source = load_like(
        trained,
        dataset,
        split=split,
        data_dir=config["data_dir"] if data_dir is None else data_dir,
        validation=config["validation"],
        seed=config["seed"],
        examples_per_class=config["examples_per_class"] if split == "train" else 0,
    )
    if not len(source):
        raise ValueError(f"{source.name} has no pictures in split {split!r}.")
    evaluator = _evaluator(trained, parallel, batch_size or config["eval_batch_size"])
    total = evaluator(trained.variables, source)
    result = {
        "checkpoint": str(workdir),
        "step": trained.meta["step"],
        "dataset": source.name,
        "split": split,
        **metrics.summarise(total),
        "per_class": per_class(total, trained.class_names),
    }
    try:
        write_json(Path(workdir) / "eval.json", result)
    except OSError as error:  # the figures are worth more than the file
        logging.warning("eval.json was not written: %s", error)
    return result


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
    load = functools.partial(sources.load_source, own, **where)
    source = load(classes=config["classes"] if dataset is None else ())
    if set(source.class_names) != set(trained.class_names):
        raise ValueError(
            f"the model's classes are not the data's: the checkpoint has {list(trained.class_names)}, "
            f"{source.name} has {list(source.class_names)}. Give data of the same classes, named alike."
        )
    return source if source.class_names == trained.class_names else load(classes=trained.class_names)


def per_class(total: metrics.Sums, class_names: tuple[str, ...]) -> dict[str, dict[str, float | int | None]]:
    """{name: {'accuracy', 'count'}} from `classification_sums`; accuracy is None for a class without pictures."""
    return {
        name: {"accuracy": correct / count if count else None, "count": round(count)}
        for name, correct, count in zip(
            class_names, total["class_correct"].tolist(), total["class_count"].tolist(), strict=True
        )
    }


def format_evaluation(result: dict[str, Any]) -> str:
    """The result of `evaluate` as lines for a terminal."""
    lines = [
        f"{result['checkpoint']} (step {result['step']:,}) on {result['dataset']} {result['split']}, "
        f"{result['count']:,} pictures:",
        f"  top-1 {result['accuracy']:.2%}, top-5 {result['top5']:.2%}, cross entropy {result['loss']:.4f}",
    ]
    width = max(map(len, result["per_class"]))
    for name, values in result["per_class"].items():
        share = "no pictures" if values["accuracy"] is None else f"{values['accuracy']:7.2%} of {values['count']:,}"
        lines.append(f"  {name:<{width}}  {share}")
    return "\n".join(lines)
