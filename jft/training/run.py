"""A run: everything that follows from the config and is fixed before the first step."""

import dataclasses
import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jft import config as config_lib
from jft.config import Config
from jft.data import datasets
from jft.data.augment import Augmentation
from jft.data.record import DataRecord
from jft.data.transforms import Preprocess
from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.metrics import image_metrics
from jft.metrics.image_metrics import Metric
from jft.metrics.losses import Objective
from jft.models import Chain, abstract_variables, architecture, create_model
from jft.training import callbacks
from jft.training.measures import choose_measures
from jft.training.phases import Phase, make_phases
from jft.training.teacher import Teacher, open_teacher
from jft.utils import distributed, json_file
from jft.utils.checkpoint import Checkpoints
from jft.utils.logger import write_json
from jft.utils.mesh import Parallel, make_parallel
from jft.utils.option_names import option
from jft.utils.version import __version__
from jft.weights import catalog
from jft.weights.catalog import WeightSet


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that does not change while a run trains.

    Attributes:
      config: the locked config.
      workdir: folder of the run.
      train_source: training images.
      validation_source: validation images, held out from them; may be empty.
      row: the weight set, or None when training from scratch.
      spec: preprocessing of the weights.
      model_options: fields of the model other than its number of classes, for the checkpoint.
      model: the chain of stages.
      objective: the loss.
      phases: what is trainable, and with which optimizer, from which step on.
      parallel: the devices.
      accumulate: number of micro-batches per step; for 'auto', None until `programs.fitted` chooses it.
      data: images in memory that both sources come from; None: they come from the config's dataset.
      callbacks: functions called as the run goes on, see `callbacks.Callbacks`.
      metrics: additional evaluation metrics, by name.
      teacher: whose outputs the run learns, too; None: there is none.
    """

    config: Config
    workdir: Path
    train_source: datasets.Source
    validation_source: datasets.Source
    row: WeightSet | None
    spec: Preprocess
    model_options: dict[str, Any]
    model: Chain
    objective: Objective
    phases: tuple[Phase, ...]
    parallel: Parallel
    accumulate: int | None
    data: datasets.Source | None = None
    callbacks: tuple[Any, ...] = ()
    metrics: Mapping[str, Metric] = dataclasses.field(default_factory=dict)
    teacher: Teacher | None = None

    @property
    def num_steps(self) -> int:
        """Number of steps of the run."""
        return self.phases[-1].last

    @property
    def augmentation(self) -> Augmentation:
        """The augmentation of the last phase."""
        return self.phases[-1].augmentation

    @property
    def solved(self) -> bool:
        """Whether a solver fits the head in all phases, and nothing is trained in steps."""
        return all(phase.solved for phase in self.phases)

    def score(self, step: int, values: Mapping[str, Any]) -> dict[str, float]:
        """What ranks an evaluation among those of the run: `select_by`; or, where the last phase averages, the step.

        The end of such a run is the best of its line by validation loss at its own temperature, which is not known of
        the evaluations before.
        """
        if not self.config.select_by and self.phases[-1].averages:
            return {"score": float(step)}
        return image_metrics.score(self.config.select_by, values)

    def phase_after(self, step: int) -> Phase:
        """The phase whose optimizer state is current after `step` steps; at a boundary, the phase that ends there."""
        return next(phase for phase in self.phases if step <= phase.last)

    @property
    def steps_per_epoch(self) -> float:
        """Number of steps in which each image is drawn once on average; not an integer."""
        return len(self.train_source) / self.config.batch_size

    def is_due(self, step: int, every: float) -> bool:
        """Whether `step` ends a span of `every` steps, or the run."""
        every = max(every, 1.0)
        return step == self.num_steps or math.floor(step / every) > math.floor((step - 1) / every)

    def info(self) -> CheckpointInfo:
        """What every checkpoint says of the run, before anything was trained."""
        trained_on, validated_on = self.records()
        return CheckpointInfo(
            jft=__version__,
            config=config_lib.as_json(self.config),
            model=self.config.model,
            options=self.model_options,
            objective=self.objective.kind,
            class_names=self.train_source.class_names,
            preprocess=self.spec,
            fit=self.config.fit,
            trained_on=trained_on,
            validated_on=validated_on,
            accumulate=self.accumulate,
            phases=tuple((phase.name, phase.last) for phase in self.phases),
            devices=dict(self.parallel.mesh.shape),
            device_kind=self.parallel.mesh.devices.flat[0].device_kind,
            jax=jax.__version__,
        )

    def identity(self) -> dict[str, Any]:
        """Fields of the config and the images, which must be the same in all processes of a run."""
        fields = {f"config.{name}": value for name, value in config_lib.as_json(self.config).items()}
        kept = {name: value for name, value in fields.items() if name.removeprefix("config.") not in config_lib.PLACES}
        return {
            **kept,
            "jft": __version__,
            **{
                f"{split} images": {**record.to_json(), "name": "", "where": ""}
                for split, record in zip(("train", "validation"), self.records(), strict=True)
            },
        }

    @property
    def fields(self) -> dict[str, Any]:
        """Fields of the config for `datasets.of_config`; images in memory replace its dataset."""
        return {**self.config, **({} if self.data is None else {"dataset": self.data})}

    def records(self, *, content: bool = False) -> tuple[DataRecord, DataRecord]:
        """Records of the training and the validation images; with `content`, files are decoded for their digests."""
        train, validation = (
            DataRecord.of(source, self.fields["dataset"], self.config.data_dir, content=content)
            for source in (self.train_source, self.validation_source)
        )
        return train, validation


def create_run(
    config: Config,
    workdir: str | Path,
    data: datasets.Source | None = None,
    own: Mapping[str, Any] = types.MappingProxyType({}),
) -> Run:
    """Makes a run from its config, and writes no file.

    Args:
      config: from a config file.
      workdir: folder of the run; need not exist yet.
      data: images in memory, from `datasets.from_arrays`, in place of `config.dataset`.
      own: from `own.recorded`, objects that the config has names of.

    Returns:
      The run.

    Raises:
      CodeRefusedError: the config names a "module:function", outside of `registry.code_allowed`.
      ValueError: the config is invalid, the folder holds another run, or data, model, weights or plan do not match.
    """
    config_lib.validate(config)
    workdir = Path(workdir)
    check_workdir(config, workdir)
    architecture(config.model)
    parallel = make_parallel(config.parallel, config.mesh.to_dict())
    accumulate = None if config.accumulate == "auto" else config.accumulate
    parallel.check_batch_size(config.batch_size, what="batch_size", parts=accumulate or 1)
    parallel.check_batch_size(config.eval_batch_size, what="eval_batch_size")
    pretrained_wanted = config.weights and config.preset != "from_scratch"
    row = catalog.find_row(config.model, config.weights) if pretrained_wanted else None
    train_source, validation_source = _load_splits(config, data)
    objective, metrics = choose_measures(config, train_source, own)
    model, options, spec = _choose_model(config, row, objective.num_outputs, parallel.axis_name, train_source)
    steps_per_epoch = len(train_source) / config.batch_size
    phases = make_phases(
        config,
        model,
        abstract_variables(model, spec.size),
        num_steps=config.steps or max(1, round(config.epochs * steps_per_epoch)),
        steps_per_epoch=steps_per_epoch,
        spec=spec,
        own=own,
    )
    return Run(
        config=config,
        workdir=workdir,
        train_source=train_source,
        validation_source=validation_source,
        row=row,
        spec=spec,
        model_options=options,
        model=model,
        objective=objective,
        metrics=metrics,
        callbacks=callbacks.resolve(config.callbacks, own.get("callbacks")),
        phases=phases,
        parallel=parallel,
        accumulate=accumulate,
        data=data,
        teacher=open_teacher(config.teacher, train_source, objective),
    )


def _choose_model(
    config: Config, row: WeightSet | None, num_outputs: int, axis_name: str | None, train_source: datasets.Source
) -> tuple[Chain, dict[str, Any], Preprocess]:
    """The model, its fields that a checkpoint must record, and its preprocessing."""
    options = {k: v for k, v in (row.options if row else {}).items() if k != "num_classes"}
    options |= {"aux_heads": True} if config.aux_heads else {}
    options |= {"cut": config.cut} if config.cut else {}
    options |= {"in_channels": config.in_channels} if config.in_channels != 3 else {}
    options |= {"pool": config.pool} if config.pool else {}
    if config.head == "linear":
        options |= {
            "new_head": "linear",
            "head_hidden": tuple(config.head_hidden),
            "head_dropout": config.head_dropout,
        }
    else:
        options |= architecture(config.model)().NEW_HEAD
    model = create_model(
        config.model, num_classes=num_outputs, dtype=jnp.dtype(config.dtype), axis_name=axis_name, **options
    )
    spec = row.preprocess if row else Preprocess().at(model.default_size)  # from scratch: ImageNet's usual one
    spec = spec.gray() if config.in_channels == 1 else spec
    spec = train_source.ranged(dataclasses.replace(spec, background=config.background, max_value=config.max_value))
    return model, options, spec.at(config.image_size) if config.image_size else spec


def _load_splits(config: Config, data: datasets.Source | None) -> tuple[datasets.Source, datasets.Source]:
    """Training and validation images, of the config's dataset or of `data`."""
    fields = {**config, **({} if data is None else {"dataset": data})}
    train = datasets.of_config(fields, "train")
    if len(train.class_names) < 2:
        raise ValueError(
            f"{train.name} has only one class, {', '.join(train.class_names)!r}, and training needs at least two. "
            "If this is a folder of one class, give its parent folder."
        )
    nothing = np.zeros(0, np.int64)
    held_out = config.fold if config.validation == "cv" else config.validation
    return train, datasets.of_config(fields, "validation") if held_out else train.take(nothing)


def check_workdir(config: Config, workdir: Path) -> None:
    """Raises a ValueError if the folder holds a run with another config, or files that are not a run."""
    path, another = workdir / "config.json", f"give another {option('workdir')}"
    if path.exists():
        there = json_file.read(path, config_lib.json_shape(), f"restore it, or {another}")
        lines = config_lib.difference(config_lib.upgraded(there), config_lib.as_json(config))
        if lines:
            raise ValueError(
                f"{workdir} holds a run with another config (there -> here): {'; '.join(lines)}. "
                f"Set these fields as they were, {another}, or delete the folder to start again."
            )
    elif workdir.exists() and not (workdir.is_dir() and all(p.name.startswith(".") for p in workdir.iterdir())):
        raise ValueError(f"{workdir} exists and is not a run (it has no config.json): {another}.")


def open_folder(run: Run) -> Checkpoints:
    """Creates the run folder; call after all checks have passed."""
    if distributed.is_first() and not (run.workdir / "config.json").exists():
        write_json(run.workdir / "config.json", config_lib.as_json(run.config))
        write_json(run.workdir / "class_names.json", list(run.train_source.class_names))
    distributed.wait_for_all("the folder is begun")
    return Checkpoints(run.workdir, keep_last=run.config.keep_last, keep_every=run.config.keep_every)
