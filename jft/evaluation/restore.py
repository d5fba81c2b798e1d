"""Restores a trained model from its checkpoints alone, without its config file or data."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

from jft.data import datasets
from jft.data.transforms import Preprocess
from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.metrics.losses import Objective
from jft.models import Chain, abstract_variables, create_model
from jft.utils.checkpoint import Checkpoints
from jft.utils.mesh import Parallel, make_parallel
from jft.utils.option_names import option


@dataclasses.dataclass(frozen=True)
class Trained:
    """A restored model.

    Attributes:
      model: the chain of stages.
      variables: `{'params', 'batch_stats'}` on the devices.
      spec: its preprocessing.
      class_names: names of the classes in the order of the outputs, in NFC.
      info: what the checkpoint says of itself and its run.
      parallel: the devices.
    """

    model: Chain
    variables: Any
    spec: Preprocess
    class_names: tuple[str, ...]
    info: CheckpointInfo
    parallel: Parallel

    @property
    def objective(self) -> Objective:
        """The objective for evaluation, without label smoothing and class weights."""
        return _objective(self.info)

    def images(
        self, split: str, *, dataset: str | datasets.Source | None = None, data_dir: str | None = None, **changes: Any
    ) -> datasets.Source:
        """Loads images with the model's classes.

        Args:
          split: see `datasets.load_source`.
          dataset: other data, see `datasets.of_config`; None: the data of the run.
          data_dir: folder or file of the data; None: the place of the training data.
          **changes: further changes to the run's config, see `datasets.of_config`.

        Returns:
          The images, with labels in the order of the model's classes.

        Raises:
          ValueError: the data have other classes (names both lists), or the run was trained on images in memory.
          FileNotFoundError: the data are missing; names the place.
        """
        config = self.fields(dataset)
        changes["data_dir"] = self.place(dataset) if data_dir is None else data_dir
        changes["dataset"] = None if config["dataset"] is dataset else dataset
        load = functools.partial(datasets.of_config, config, split)
        try:
            source = load(**changes)
        except FileNotFoundError as error:
            if data_dir or not (where := self.info.trained_on.where):
                raise
            raise FileNotFoundError(f"{error} In training they were at {where}: give {option('data')}.") from error
        if set(source.class_names) != set(self.class_names):
            raise ValueError(
                f"the classes of model and data differ: the checkpoint has {list(self.class_names)}, "
                f"{source.name} has {list(source.class_names)}. Give data with the same class names."
            )
        return source if source.class_names == self.class_names else load(**{**changes, "classes": self.class_names})

    def fields(self, dataset: str | datasets.Source | None = None) -> dict[str, Any]:
        """Fields of the config with the dataset that the run was trained on; for images in memory `dataset`, or ''."""
        config, trained = self.info.config, self.info.trained_on.dataset
        again = isinstance(dataset, datasets.Source) and {*config["classes"]} <= {*dataset.class_names}
        return {**config, "dataset": dataset if again and not trained else trained}

    def place(self, dataset: str | datasets.Source | None = None) -> str:
        """The current place of the run's data; for another `dataset`, that of the config."""
        config, record = self.info.config, self.info.trained_on
        return record.place(config["data_dir"]) if dataset in (None, record.dataset) else config["data_dir"]


def restore(workdir: str | Path, parallel: Parallel | None = None) -> Trained:
    """Restores the best checkpoint of a run (the newest one if there was no validation).

    Args:
      workdir: folder of the run.
      parallel: the devices, in any number; None: the run's mesh if this machine has enough devices, else a copy on
        each device.

    Returns:
      The model, ready to apply.

    Raises:
      ValueError: there is no readable checkpoint.
    """
    checkpoints = Checkpoints(workdir, read_only=True, from_json=CheckpointInfo.from_json)

    def abstract(info: CheckpointInfo) -> tuple[Any, None]:
        return (parallel or parallel_of(info)).abstract(abstract_variables(model_of(info), info.preprocess.size)), None

    try:
        variables, _, info = checkpoints.best(abstract)
    finally:
        checkpoints.close()
    parallel = parallel or parallel_of(info)
    model = model_of(info).clone(axis_name=parallel.axis_name)
    return Trained(model, variables, info.preprocess, info.class_names, info, parallel)


def parallel_of(info: CheckpointInfo) -> Parallel:
    """The mesh of a run if this machine has enough devices, else a copy on each device."""
    try:
        return make_parallel("jit", info.config["mesh"])
    except ValueError:  # another number of devices
        return make_parallel("jit")


def model_of(info: CheckpointInfo) -> Chain:
    """The chain of stages of a checkpoint."""
    outputs = _objective(info).num_outputs
    return create_model(info.model, num_classes=outputs, dtype=info.config["dtype"], **info.options)


def _objective(info: CheckpointInfo) -> Objective:
    return Objective(info.objective, len(info.class_names))
