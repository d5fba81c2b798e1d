"""A trained model, restored from checkpoints that need neither its config file nor its data."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

from jft.data import datasets
from jft.data.names import normal
from jft.data.record import trained_on
from jft.data.transforms import Preprocess
from jft.evaluation import checkpoint_schema
from jft.metrics.losses import Objective
from jft.models import Chain, abstract_variables, create_model
from jft.utils.checkpoint import Checkpoints
from jft.utils.checkpoint_info import Meta
from jft.utils.mesh import Parallel, make_parallel


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained model, restored.

    Attributes:
      model: the chain.
      variables: `{'params', 'batch_stats'}` on the devices.
      spec: its preprocessing.
      class_names: what its outputs mean, in order, in NFC.
      meta: all else that the checkpoint holds.
      parallel: the devices.
    """

    model: Chain
    variables: Any
    spec: Preprocess
    class_names: tuple[str, ...]
    meta: Meta
    parallel: Parallel

    @property
    def objective(self) -> Objective:
        """What its outputs mean, for evaluation: neither smoothed nor weighted."""
        return _objective(self.meta)

    def images(
        self, split: str, *, dataset: str | datasets.Source | None = None, data_dir: str | None = None, **changes: Any
    ) -> datasets.Source:
        """Loads images whose labels mean what the model's outputs mean.

        Args:
          split: see `datasets.load_source`.
          dataset: other data, see `datasets.of_config`; None: those that the run was trained on.
          data_dir: where the data lie; None: where they lay in training.
          **changes: what else is not as it was in training, see `datasets.of_config`.

        Returns:
          The images, labeled in the order of the model's classes.

        Raises:
          ValueError: the data's classes are others, names both lists; or they were given in memory and are not there.
          FileNotFoundError: the data are not there; says where they were looked for.
        """
        config = self.fields(dataset)
        changes["data_dir"] = self.place(dataset) if data_dir is None else data_dir
        changes["dataset"] = None if config["dataset"] is dataset else dataset
        load = functools.partial(datasets.of_config, config, split)
        try:
            source = load(**changes)
        except FileNotFoundError as error:
            if data_dir or not (where := trained_on(self.meta).where):
                raise
            raise FileNotFoundError(f"{error} In training they lay at {where}: give --data.") from error
        if set(source.class_names) != set(self.class_names):
            raise ValueError(
                f"the model's classes are not the data's: the checkpoint has {list(self.class_names)}, "
                f"{source.name} has {list(source.class_names)}. Give data of the same classes, named alike."
            )
        return source if source.class_names == self.class_names else load(**{**changes, "classes": self.class_names})

    def fields(self, dataset: str | datasets.Source | None = None) -> dict[str, Any]:
        """Fields of the config, whose dataset is what the run was trained on: images in memory as given, or ''."""
        config, trained = self.meta["config"], trained_on(self.meta).dataset
        again = isinstance(dataset, datasets.Source) and {*config["classes"]} <= {*dataset.class_names}
        return {**config, "dataset": dataset if again and not trained else trained}

    def place(self, dataset: str | datasets.Source | None = None) -> str:
        """Where the data of the run lie now, those of another `dataset` where its config says."""
        config, record = self.meta["config"], trained_on(self.meta)
        return record.place(config["data_dir"]) if dataset in (None, record.dataset) else config["data_dir"]


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
    checkpoints = Checkpoints(workdir, read_only=True, checked=checkpoint_schema.checked)

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
    return Trained(model, variables, spec, tuple(map(normal, meta["class_names"])), meta, parallel)


def parallel_of(meta: Meta) -> Parallel:
    """The mesh of a run where there are the devices for it, else a copy on each."""
    try:
        return make_parallel("jit", meta["config"]["mesh"])
    except ValueError:  # another number of devices
        return make_parallel("jit")


def _model(meta: Meta) -> Chain:
    return create_model(
        meta["model"]["name"],
        num_classes=_objective(meta).num_outputs,
        dtype=meta["config"]["dtype"],
        **meta["model"]["options"],
    )


def _objective(meta: Meta) -> Objective:
    return Objective(meta["objective"], len(meta["class_names"]))
