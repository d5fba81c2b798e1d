"""`jft extract-features`: features of any stage of a model in one file, with labels and names of the images."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from jft.config import default_config
from jft.data import datasets
from jft.data.source import Source
from jft.data.transforms import Preprocess
from jft.evaluation.restore import restore
from jft.features.extract import extract
from jft.features.feature_step import Wanted
from jft.models import Chain, between, create_model
from jft.utils import distributed, tree
from jft.utils.cache_dir import cache_dir
from jft.utils.files import check_new, written_whole
from jft.utils.interrupt import Interrupt
from jft.utils.mesh import Parallel, make_parallel
from jft.weights import catalog, hub
from jft.weights.target import leaf_shapes

_SUFFIXES = (".npz", ".safetensors")


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A model that computes features, and how its images are read.

    Attributes:
      model: the chain of stages.
      variables: `{'params', 'batch_stats'}` on the devices, of the needed stages only.
      spec: preprocessing of the weights.
      config: fields of `default_config`, from the run or the defaults.
    """

    model: Chain
    variables: Mapping[str, Any]
    spec: Preprocess
    config: Mapping[str, Any]


def of_run(workdir: str | Path, parallel: Parallel) -> Backbone:
    """The backbone of a run's best checkpoint; ValueError if there is none."""
    trained = restore(workdir, parallel)
    config = default_config().to_dict() | trained.fields() | {"data_dir": trained.place()}
    return Backbone(trained.model, trained.variables, trained.spec, config)


def of_weights(model: str, tag: str, stage: str, parallel: Parallel, *, weights_path: str | None = None) -> Backbone:
    """The backbone of a weight set up to a stage; the file need not hold later stages.

    Args:
      model: name of a model, see `jft.models.architecture`.
      tag: tag of the weight set, such as 'torchvision'.
      stage: the last stage needed.
      parallel: the devices.
      weights_path: file or folder to try first, or None.

    Raises:
      ValueError: there is no such model, set or stage, or the weights are unavailable.
    """
    row = catalog.find_row(model, tag)
    chain = create_model(row.model, **row.file_options)
    needed = between(tuple(chain.stages()), None, stage)
    target = leaf_shapes(chain, row.preprocess.size)
    behind = {name for name in target if name.split("/")[1] not in needed}
    leaves, _ = hub.load(row, target, weights_path=weights_path, fresh=behind)
    variables = tree.unflatten({name: leaf for name, leaf in leaves.items() if name not in behind})
    variables = parallel.place_state({"params": {}, "batch_stats": {}} | variables)
    chain = chain.clone(axis_name=parallel.axis_name)
    return Backbone(chain, variables, row.preprocess, default_config().to_dict())


def load_images(
    config: Mapping[str, Any],
    split: str,
    *,
    dataset: str | None,
    data_dir: str | None,
    image_column: str = "",
    label_column: str = "",
) -> Source:
    """Loads the images of a split, divided as the config says.

    Args:
      config: config of a run, or the default one.
      split: 'train', 'validation', 'test' or 'all'.
      dataset: see `datasets.load_source`; None: the config's dataset and classes.
      data_dir: folder or file of the data; None: the config's.
      image_column, label_column: columns of a CSV file; '': the config's.
    """
    columns = datasets.columns(image_column, label_column)
    return datasets.of_config(config, split, dataset=dataset, data_dir=data_dir, **columns)


def check_out(out: Path, force: bool) -> None:
    """Raises a ValueError unless the file can be written; called before features are computed, which can take hours."""
    if out.suffix not in _SUFFIXES:
        raise ValueError(f"{out} has the suffix {out.suffix!r}: features are written as {' or '.join(_SUFFIXES)}.")
    check_new(out, force)


def make_file(backbone: Backbone, source: Source, out: Path, **how: Any) -> tuple[int, ...]:
    """Computes features and writes them.

    Args:
      backbone: from `of_run` or `of_weights`.
      source: the images.
      out: the file, .npz or .safetensors; it appears once it is complete. See `write`.
      **how: further arguments of `compute`.

    Returns:
      Shape of the features, [n, ...].

    Raises:
      ValueError, OSError, Stopped: see `compute`.
    """
    values, recipe = compute(backbone, source, **how)
    if distributed.is_first():
        write(out, values, source, recipe)
    return values.shape


def compute(
    backbone: Backbone,
    source: Source,
    *,
    stage: str,
    pooled: bool = True,
    fit: str | None = None,
    image_size: int | None = None,
    batch_size: int | None = None,
) -> tuple[np.ndarray, Mapping[str, Any]]:
    """Computes features through the activation cache.

    Args:
      backbone: from `of_run` or `of_weights`.
      source: the n images.
      stage: the stage whose output is taken.
      pooled: pool feature maps and tokens, see `Chain.pooled`.
      fit: 'crop' or 'whole'; None: from the backbone's config.
      image_size: side in pixels; None: the size that the weights were trained on.
      batch_size: batch size over all devices; None: from the backbone's config.

    Returns:
      Features float32 [n, ...], and everything that they depend on (`Features.recipe`).

    Raises:
      ValueError, OSError: see `extract.extract`.
      Stopped: a signal came; features computed so far stay in the cache.
    """
    spec = backbone.spec.at(image_size) if image_size else backbone.spec
    spec = source.ranged(spec)  # before extraction, because it is part of the cache key
    config, parallel = backbone.config, make_parallel("jit")
    with Interrupt() as interrupt:
        found = extract(
            backbone.model,
            backbone.variables,
            source,
            spec,
            Wanted(stage, pooled, fit or config["fit"], config["resize_on"]),
            folder=config["features_dir"] or cache_dir() / "features",
            parallel=parallel,
            batch_size=batch_size or parallel.rounded(config["eval_batch_size"]),
            input=config.get("input", "auto"),  # which older runs lack
            interrupt=interrupt,
        )
    if found is None:
        raise interrupt.stopped()
    return found.gather(np.arange(len(found)))[:, 0], found.recipe


def write(out: Path, features: np.ndarray, source: Source, recipe: Mapping[str, Any]) -> None:
    """Writes features with labels, names and everything that they depend on.

    Args:
      out: the file. .npz holds the arrays features [n, ...], labels, indices, names (of the images), class_names and
        recipe (JSON); .safetensors holds the first three, and the others as JSON in its metadata.
      features: float32 [n, ...].
      source: the n images.
      recipe: from `compute`.
    """
    arrays = {"features": features, "labels": source.labels, "indices": source.indices}
    names = [source.image_name(row) for row in range(len(source))]
    with written_whole(out) as aside:
        if out.suffix == ".npz":
            texts = {"names": names, "class_names": list(source.class_names), "recipe": json.dumps(recipe)}
            with aside.open("wb") as file:
                strings: dict[str, Any] = {key: np.array(text, np.str_) for key, text in texts.items()}
                np.savez(file, **arrays, **strings)
        else:
            texts = {"names": names, "class_names": source.class_names, "recipe": recipe}
            metadata = {key: json.dumps(text) for key, text in texts.items()}
            safetensors.numpy.save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, aside, metadata)
