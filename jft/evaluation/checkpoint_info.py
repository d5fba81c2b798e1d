"""What a checkpoint says of itself and of its run: one typed object, whose JSON is stored with the arrays."""

import dataclasses
from typing import Any

from jft.data.names import normal
from jft.data.record import DataRecord, name_of
from jft.data.transforms import Preprocess
from jft.evaluation import checkpoint_schema
from jft.weights import provenance
from jft.weights.provenance import Provenance


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """The facts of a checkpoint, with which it can be used without the run's config or data.

    `Run.info` makes one; training fills in what it finds out. `checkpoint_schema.Schema` is the JSON.

    Attributes:
      jft: version of jft that wrote it.
      config: every field of the run's config, in types that JSON has.
      model: name of the architecture, see `jft.models.architecture`.
      options: fields of the model other than its number of classes.
      objective: kind of the loss, one of `losses.KINDS`.
      class_names: names of the classes in the order of the outputs, in NFC.
      preprocess: preprocessing of the images.
      fit: how an image becomes a square, 'crop' or 'whole'.
      trained_on: the training images.
      validated_on: the validation images; None where an older checkpoint did not record them.
      accumulate: number of micro-batches per step; None: `accumulate = 'auto'` has not been decided.
      phases: name of each phase, and the number of steps done when it ends; () before 0.1.0.
      devices: axis of the mesh -> number of devices.
      device_kind: kind of the devices, such as 'cpu'.
      jax: version of JAX.
      weights: manifest of the pretrained weights, see `provenance`; {}: none.
      pretrained: names of the leaves that come from them, such as 'params/conv1/conv1/kernel'.
      cached: first step of a phase -> whether it reads cached features.
      history: the evaluations on validation, in order: {'step', 'loss', 'accuracy', 'count', ...}.
      temperature: fitted on validation; None: there is none.
      teacher: fingerprint of the teacher's variables, see `training.teacher`; None: there is no teacher.
      window: sums of the steps since the last line of the log, see `progress.Window.save`.
      test_digest: digest of the test images when the run began; None: they were not there.
      data: {'seed', 'epoch', 'position'} in the training data, for people.
      skipped: numbers of the steps that `on_nan = 'rollback'` skipped; None: not trained in steps.
      stopped: why a callback ended the run; None: none did.
      learnt_validation: whether the head was refit on training and validation images; None: trained in steps.
      step: number of steps done. `Checkpoints.save` writes it; 0 before.
    """

    jft: str
    config: dict[str, Any]
    model: str
    options: dict[str, Any]
    objective: str
    class_names: tuple[str, ...]
    preprocess: Preprocess
    fit: str
    trained_on: DataRecord
    validated_on: DataRecord | None
    accumulate: int | None
    phases: tuple[tuple[str, int], ...]
    devices: dict[str, int]
    device_kind: str
    jax: str
    weights: dict[str, str] = dataclasses.field(default_factory=dict)
    pretrained: tuple[str, ...] = ()
    cached: dict[int, bool] = dataclasses.field(default_factory=dict)
    history: tuple[dict[str, Any], ...] = ()
    temperature: float | None = None
    teacher: str | None = None
    window: dict[str, float] = dataclasses.field(default_factory=dict)
    test_digest: str | None = None
    data: dict[str, int] = dataclasses.field(default_factory=dict)
    skipped: tuple[int, ...] | None = None
    stopped: str | None = None
    learnt_validation: bool | None = None
    step: int = 0

    @property
    def provenance(self) -> Provenance | None:
        """The origin of the pretrained weights, as far as their hashes prove it; None: trained from scratch."""
        return provenance.of_manifest(self.weights)

    @property
    def num_validated(self) -> int:
        """Number of images of the last evaluation; 0 without one."""
        return self.history[-1]["count"] if self.history else 0

    @property
    def num_trained(self) -> int:
        """Number of images it was trained on, including validation images if it was refit on them."""
        return self.trained_on.count + (self.num_validated if self.learnt_validation else 0)

    def phase_of(self, step: int | None = None) -> str:
        """The phase in which a step lies, by default the checkpoint's: 'probe (1 of 2)'; '' where there is but one."""
        step, count = self.step if step is None else step, len(self.phases)
        if count < 2:
            return ""
        number = next((i for i, (_, last) in enumerate(self.phases) if step <= last), count - 1)
        return f"{self.phases[number][0]} ({number + 1} of {count})"

    @classmethod
    def from_json(cls, found: Any) -> "CheckpointInfo":
        """Checks and reads the JSON of a checkpoint, of this version or an earlier one; unknown keys are ignored.

        Fields of the config that are newer than the checkpoint get their defaults.

        Raises:
          ValueError: a field is missing or has another type than jft writes; names it.
        """
        found = checkpoint_schema.checked(found)
        same = ("jft", "config", "objective", "fit", "devices", "device_kind", "jax", "weights", "window", "step")
        optional = ("temperature", "teacher", "test_digest", "stopped", "learnt_validation")
        trained_on, validated_on = _records(found)
        return cls(
            **{name: found[name] for name in same},
            **{name: found.get(name) for name in optional},
            model=found["model"]["name"],
            options=found["model"]["options"],
            class_names=tuple(map(normal, found["class_names"])),
            preprocess=Preprocess.from_dict(found["preprocess"]),
            trained_on=trained_on,
            validated_on=validated_on,
            accumulate=_accumulate(found),
            phases=tuple((name, last) for name, last in found.get("phases", [])),
            pretrained=tuple(found["pretrained"]),
            cached={int(first): use for first, use in found["cached"].items() if first.isdecimal()},
            history=tuple(found["history"]),
            data=found.get("data", {}),
            skipped=tuple(found["skipped"]) if "skipped" in found else None,
        )

    def to_json(self) -> dict[str, Any]:
        """The JSON without what `Checkpoints.save` adds: 'format', 'step' and 'digests'."""
        records = {"train": self.trained_on, "validation": self.validated_on}
        fields = {
            "jft": self.jft,
            "config": self.config,
            "model": {"name": self.model, "options": self.options},
            "objective": self.objective,
            "class_names": list(self.class_names),
            "preprocess": self.preprocess.to_dict(),
            "fit": self.fit,
            "trained_on": {split: record.to_json() for split, record in records.items() if record},
            "accumulate": self.accumulate,
            "phases": [list(phase) for phase in self.phases],
            "devices": self.devices,
            "device_kind": self.device_kind,
            "jax": self.jax,
            "weights": self.weights,
            "pretrained": list(self.pretrained),
            "cached": {str(first): use for first, use in self.cached.items()},
            "history": list(self.history),
            "temperature": self.temperature,
            "window": self.window,
        }
        optional = {
            "teacher": self.teacher,
            "test_digest": self.test_digest,
            "data": self.data,
            "skipped": None if self.skipped is None else list(self.skipped),
            "stopped": self.stopped,
            "learnt_validation": self.learnt_validation,
        }
        return {**fields, **{name: value for name, value in optional.items() if value is not None}}


def _records(found: dict[str, Any]) -> tuple[DataRecord, DataRecord | None]:
    """The images that a run was trained on, and those that it was validated on."""
    if "trained_on" in found:
        splits = found["trained_on"]
        return DataRecord.from_json(splits["train"]), DataRecord.from_json(splits["validation"])
    config = found["config"]  # of checkpoints before there was a record
    record = DataRecord(
        name=name_of(config["dataset"], config["data_dir"]),
        dataset=config["dataset"],
        where="",
        count=found["training_pictures"],
        labels=found.get("training_labels"),
        names=found.get("training_names"),
    )
    return record, None


def _accumulate(found: dict[str, Any]) -> int | None:
    """Micro-batches per step; checkpoints before 0.1.0 have them in the config alone."""
    micro_batches = found.get("accumulate") or found["config"]["accumulate"]
    return None if micro_batches == "auto" else micro_batches
