"""The configuration: every field of a run, its default, its unit.

A config file changes a few of them:

    from jft.config import default_config

    def get_config():
        config = default_config()
        config.model = "vgg19"
        return config

Unknown fields are refused with a guess at what was meant, in a file and on the command line alike.
"""

import copy
import dataclasses
import functools
import json
import math
import os
import re
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict, FieldReference

from jft.utils import registry, tree
from jft.utils.color import check_background


class Config(ConfigDict):
    """A ConfigDict whose fields take what means the same: a path where there is text, 1e3 where there is a count."""

    def __setitem__(self, key: str, value: Any) -> None:
        """Sets a field; TypeError names it, its value and its default."""
        known = self._fields.get(key)
        if isinstance(known, str) and isinstance(value, os.PathLike):
            value = os.fspath(value)
        if type(known) is int and isinstance(value, float) and value.is_integer():
            value = int(value)
        try:
            super().__setitem__(key, value)
        except TypeError as error:
            if type(known) not in _KINDS:
                raise
            raise TypeError(f"{key} = {value!r}: give {_KINDS[type(known)]}, as {known!r}.") from error


_KINDS = {str: "text", int: "a whole number", float: "a number", bool: "True or False", tuple: "a tuple"}


def default_config() -> ConfigDict:
    """A fresh, locked config: VGG19's head on CIFAR-10."""
    config = Config()

    # Data.
    config.dataset = "cifar10"  # cifar10, digits, folder, csv, gtsrb, or a TFDS name
    config.data_dir = ""  # folder of the data, or the CSV file; empty: TFDS's own
    config.image_column = ""  # csv: the column of the images' paths; empty: a usual name
    config.label_column = ""  # csv: the column of their labels; empty: a usual name
    config.classes = ()  # names of the classes to keep, relabeled in this order; empty: all
    config.examples_per_class = 0  # training images of each class, drawn by the seed; 0: all
    config.validation = 0.1  # held out of the training split, stratified: a share below 1, or a count
    config.region_of_interest = True  # gtsrb: only the sign itself, as annotated; False: the whole image
    config.skip_unreadable = False  # leave out images that cannot be read, naming them; False: they are an error
    config.max_image_pixels = 89_478_485  # the most that an image file may have: above, it cannot be read
    config.background = "white"  # behind transparent pixels: a color; empty: alpha is dropped, hidden colors are read
    config.max_value = 0.0  # which value is white in images of more than 8 bits; 0: found from the training images
    config.fit = "whole"  # whole: the image squashed to the square; crop: shorter side resized, square cut out
    config.image_size = 0  # pixels; 0: what the weights were trained on
    config.resize_on = "device"  # device: raw uint8 travels, resized in the jitted step; host: resized by tf.data
    config.cache_bytes = 4 * 10**9  # decoded images kept in memory up to this size; beyond it they stream

    # Augmentation of training images, on the device.
    config.flip = True  # mirror left and right, half of the time
    config.crop_padding = 0.0  # random crop after padding by this share of the side; CIFAR's classic 4 pixels: 0.125
    config.crop = "random"  # of fit 'crop': random; center; five, one of the corners or the center
    config.auto_augment = ""  # trivial (TrivialAugment); rand (RandAugment); empty: neither
    config.rand_operations = 2  # of RandAugment: operations on an image
    config.rand_magnitude = 9  # of RandAugment, 0 .. 30
    config.mixup = 0.0  # alpha of the Beta distribution by which pairs of images and labels are mixed; 0: not
    config.cutmix = 0.0  # likewise, for a box of one image pasted into another; with mixup each half of the time

    # Model and weights.
    config.model = "vgg19"  # a key of jft.models.MODELS
    config.weights = "torchvision"  # a set of the catalog for this model; empty: from scratch
    config.weights_path = ""  # file or folder looked at before the cache and the network
    config.aux_heads = False  # train the auxiliary heads of GoogLeNet or Inception-V3 too, at their published weights
    config.fresh = ""  # stages or patterns that start from initialization, beside the head: 'layer4 head'

    # Head and loss.
    config.cut = ""  # the stage after which the head comes, the network's later ones being left out; empty: none is
    config.head = "published"  # published: the network's own; linear: averages a map, hidden layers, logits
    config.head_hidden = ()  # of a linear head: units of its hidden layers, each with ReLU
    config.head_dropout = 0.0  # of a linear head: dropped share before each of its layers
    config.head_init = 1.0  # factor on the classifying layer's initial kernel; 0: zeros
    # softmax; sigmoid: one unit for two classes, or one a class where images have several; or your own: module:function
    config.loss = "softmax"
    config.balance = ""  # weights: class weights by inverse frequency; sampling: classes are drawn alike
    # Factors on the loss, one a class; empty: 1. The loss is divided by the sum of those of the batch's labels, as in
    # torch; where images have several labels by their number.
    config.class_weights = ()

    # Transfer.
    config.freeze = ""  # a stage (it and all before it), or patterns over parameter names; empty: all learn
    config.batch_norm = "trained"  # of what learns: trained; statistics (they move, scale and bias stay); frozen (both)
    config.layer_decay = 1.0  # factor on the learning rate for each stage further from the head
    config.preset = ""  # linear_probe, lp_ft, gradual_unfreezing, full, from_scratch; or name the phases yourself:
    config.phases = ()  # ({"epochs": 2, "freeze": "fc7"}, {"epochs": 5, "freeze": ""}); see jft.training.phases
    # What frozen stages compute, kept on disk: True; False; 'auto', where it can be kept and pays.
    config.cache_features = FieldReference("auto", field_type=object)
    config.features_dir = ""  # where; empty: $JFT_CACHE/features
    config.features_dtype = "float32"  # in which they are kept: float32, bfloat16
    config.solver = "steps"  # steps; lbfgs or ridge: a linear head solved for at once, on cached features
    config.regularization = ()  # of a solver: inverse strengths (C) to choose from on validation; empty: its own

    # Optimization.
    config.batch_size = 32  # images in a step, over all devices
    config.epochs = 10.0  # passes over the training images
    config.steps = 0  # steps; 0: as epochs say
    config.optimizer = "adamw"  # adam, adamw, sgd (Nesterov momentum)
    config.learning_rate = 1e-3  # peak
    config.momentum = 0.9  # of sgd
    config.weight_decay = 0.0  # on kernels, not on biases or BatchNorm; decoupled in adamw, an L2 term elsewhere
    config.schedule = "constant"  # constant, cosine (to 0), step, inverse_time: rate / (1 + rate_decay * step)
    config.warmup_epochs = 0.0  # linear, from 0 to the peak
    config.step_epochs = ()  # schedule 'step': epochs at which the rate is multiplied by step_factor
    config.step_factor = 0.1
    config.rate_decay = 0.0  # schedule 'inverse_time': what Keras' SGD calls decay
    config.clip_norm = 0.0  # global norm of the learning leaves' gradient; 0: not clipped
    config.label_smoothing = 0.0  # probability spread over all classes
    # Micro-batches in a step, to fit a large batch in memory: a number; 'auto', as few as the devices' memory asks for.
    config.accumulate = FieldReference(1, field_type=object)
    config.ema = 0.0  # decay of an average of what learns, which is evaluated in its place; 0: none
    # A loss, gradient or update that is not finite: stop; rollback, to the newest checkpoint, leaving out that step.
    config.on_nan = "stop"
    config.max_rollbacks = 3  # of on_nan 'rollback': steps left out at most
    config.spike_norm = 0.0  # gradient norm above which a step counts as one that is not finite; 0: none does
    config.early_stopping = 0  # evaluations without a better validation accuracy before stopping; 0: never
    config.seed = 0

    # Machine.
    config.dtype = "float32"  # of the computation; parameters, statistics and loss stay float32
    config.parallel = "jit"  # jit: one program over a mesh of devices; pmap: one per device
    # Devices: data copies of the state, of which each is cut into fsdp parts; one may be -1, as many as there are.
    config.mesh = ConfigDict({"data": -1, "fsdp": 1})
    config.eval_batch_size = 64  # images, over all devices
    config.initialization_timeout = 300  # seconds to wait for the other processes at the start
    config.heartbeat_timeout = 100  # seconds of silence after which a process is taken for dead, and the others end

    # Cadence.
    config.log_every = 20  # steps
    config.evaluate_every = 1.0  # epochs; a checkpoint is saved at each evaluation
    config.checkpoint_every = 0  # steps between further checkpoints; 0: none
    config.keep_last = 2  # newest checkpoints kept, beside the best on validation; two, to have one to fall back on
    config.keep_every = 0  # those kept for good: at the first save after each so many steps; 0: none

    # Comparison: ((name, {field: value}), ...) trains each arm in turn and tests all on the same images.
    config.arms = ()
    return config.lock()


_CHOICES = {
    "fit": ("whole", "crop"),
    "crop": ("random", "center", "five"),
    "auto_augment": ("", "trivial", "rand"),
    "head": ("published", "linear"),
    "balance": ("", "weights", "sampling"),
    "batch_norm": ("trained", "statistics", "frozen"),
    "preset": ("", "linear_probe", "lp_ft", "gradual_unfreezing", "full", "from_scratch"),
    "features_dtype": ("float32", "bfloat16"),
    "solver": ("steps", "lbfgs", "ridge"),
    "resize_on": ("device", "host"),
    "optimizer": ("adam", "adamw", "sgd"),
    "schedule": ("constant", "cosine", "step", "inverse_time"),
    "dtype": ("float32", "bfloat16"),
    "parallel": ("jit", "pmap"),
    "on_nan": ("stop", "rollback"),
}


@dataclasses.dataclass(frozen=True)
class Needs:
    """What another field must be for a field to have an effect.

    Attributes:
      field: the other one.
      values: any of these; (): any that is not 0, False or empty.
    """

    field: str
    values: tuple[Any, ...] = ()

    def met(self, config: Mapping[str, Any]) -> bool:
        """Whether it is so in a config."""
        return config[self.field] in self.values if self.values else bool(config[self.field])

    def __str__(self) -> str:
        return f"{self.field} = {' or '.join(map(repr, self.values))}" if self.values else self.field


_STEPS, _SOLVED = Needs("solver", ("steps",)), Needs("solver", ("lbfgs", "ridge"))
_PRETRAINED = Needs("preset", tuple(choice for choice in _CHOICES["preset"] if choice != "from_scratch"))
# Field -> what it belongs to. Where that is not so it would be ignored, and is refused unless it has its default. A
# solver minimizes the plain loss of every image alike, in one layer, at once: what steps, it leaves alone.
BELONGS_TO: dict[str, tuple[Needs, ...]] = {
    **dict.fromkeys(
        (
            *("batch_size", "steps", "optimizer", "learning_rate", "weight_decay", "schedule", "warmup_epochs"),
            *("clip_norm", "accumulate", "layer_decay", "batch_norm", "ema", "mixup", "cutmix", "label_smoothing"),
            *("balance", "class_weights", "phases", "preset", "head_init", "aux_heads", "evaluate_every"),
        ),
        (_STEPS,),
    ),
    "epochs": (_STEPS, Needs("steps", (0,)), Needs("phases", ((),))),
    "on_nan": (_STEPS,),
    "max_rollbacks": (_STEPS, Needs("on_nan", ("rollback",))),
    "spike_norm": (_STEPS,),
    "momentum": (_STEPS, Needs("optimizer", ("sgd",))),
    "step_epochs": (_STEPS, Needs("schedule", ("step",))),
    "step_factor": (_STEPS, Needs("schedule", ("step",)), Needs("step_epochs")),
    "rate_decay": (_STEPS, Needs("schedule", ("inverse_time",))),
    "early_stopping": (_STEPS, Needs("validation")),
    "head_hidden": (_STEPS, Needs("head", ("linear",))),
    "head_dropout": (_STEPS, Needs("head", ("linear",))),
    "regularization": (_SOLVED,),
    "features_dtype": (Needs("cache_features"),),
    "fresh": (_PRETRAINED, Needs("weights")),
    "region_of_interest": (Needs("dataset", ("gtsrb",)),),
    "image_column": (Needs("dataset", ("csv",)),),
    "label_column": (Needs("dataset", ("csv",)),),
    "crop": (Needs("fit", ("crop",)),),
    "crop_padding": (Needs("crop", ("random",)),),
    "rand_operations": (Needs("auto_augment", ("rand",)),),
    "rand_magnitude": (Needs("auto_augment", ("rand",)),),
}
_SHARES = ("ema", "head_dropout", "label_smoothing")
_POSITIVE = (
    *("batch_size", "eval_batch_size", "log_every", "evaluate_every", "learning_rate"),
    *("layer_decay", "rand_operations", "initialization_timeout", "heartbeat_timeout", "keep_last", "max_rollbacks"),
    "max_image_pixels",
)
_NOT_NEGATIVE = (
    *("examples_per_class", "image_size", "cache_bytes", "crop_padding", "epochs", "steps", "weight_decay"),
    *("warmup_epochs", "clip_norm", "early_stopping", "checkpoint_every", "validation"),
    *("mixup", "cutmix", "rand_magnitude", "rate_decay", "keep_every", "spike_norm"),
    "max_value",
)

# What may differ from host to host; and when a run is resumed: where things lie and how often one looks, not what is
# computed.
PLACES = ("data_dir", "weights_path", "features_dir", "cache_bytes", "max_image_pixels")
RESUMABLE = (
    *PLACES,
    *("log_every", "checkpoint_every", "eval_batch_size", "keep_last", "keep_every"),
    *("on_nan", "max_rollbacks", "spike_norm"),  # so that a run that one of them stopped can go on
    *("mesh", "initialization_timeout", "heartbeat_timeout"),
)


def validate(config: ConfigDict) -> None:
    """Raises one ValueError listing every field whose value makes no sense or has no effect."""
    refuse([*wrong_values(config), *without_effect(config.to_dict()).values()])


def refuse(wrong: list[str]) -> None:
    """Raises one ValueError of what is wrong with a config, if anything is."""
    if wrong:
        raise ValueError("the config is wrong in " + "; ".join(wrong) + ".")


def without_effect(config: Mapping[str, Any]) -> dict[str, str]:
    """The fields that are other than by default and change nothing, by `BELONGS_TO` -> why.

    Args:
      config: as a dict, of Python or read from JSON. A field that one of its phases uses has an effect.
    """
    whole = _plain(config)
    own = [phase for phase in whole["phases"] or () if isinstance(phase, dict)]
    # A phase's length, in steps or epochs, is its own matter.
    phases = [{**whole, **{k: v for k, v in phase.items() if k not in ("steps", "epochs")}} for phase in own] or [whole]
    idle = [_idle(phase) for phase in phases]
    return {field: why for field, why in idle[-1].items() if field in whole and all(field in one for one in idle)}


def effective(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config, as a dict, with what has no effect at its default."""
    usual = default_config()
    return {**config, **{field: usual[field] for field in without_effect(config)}}


def _idle(config: Mapping[str, Any]) -> dict[str, str]:
    usual, found = _plain(default_config().to_dict()), {}
    for field, needs in BELONGS_TO.items():
        if config[field] == usual[field] or (field == "epochs" and not config[field]):  # as good as left out
            continue
        if unmet := next((need for need in needs if not need.met(config)), None):
            here = f"{unmet.field} = {config[unmet.field]!r}"
            found[field] = (
                f"{field} = {config[field]!r} has no effect where {here}: it belongs to {unmet}, leave it out"
            )
    return found


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """With tuples, for lists, so that what came from JSON compares alike."""
    return {k: tuple(v) if isinstance(v, list | tuple) else v for k, v in config.items()}


def wrong_values(config: ConfigDict) -> list[str]:
    """What makes no sense, whatever it belongs to."""
    wrong = [
        f"{field} = {config[field]!r}: choose {', '.join(map(str, choices))}"
        for field, choices in _CHOICES.items()
        if config[field] not in choices
    ]
    wrong += registry.problems(config)
    wrong += [f"{field} = {config[field]!r}: must be above 0" for field in _POSITIVE if not config[field] > 0]
    wrong += [f"{field} = {config[field]!r}: must not be below 0" for field in _NOT_NEGATIVE if config[field] < 0]
    wrong += [
        f"{field} = {config[field]!r}: must be in 0 .. 1, below 1" for field in _SHARES if not 0 <= config[field] < 1
    ]
    # No comparison above is true of NaN, and infinity passes some.
    wrong += [
        f"{field} = {value!r}: give a finite number"
        for field, value in config.items()
        if isinstance(value, float) and not math.isfinite(value)
    ]
    try:
        check_background(config.background)
    except ValueError as error:
        wrong.append(str(error))
    if config.rand_magnitude > 30:
        wrong.append(f"rand_magnitude = {config.rand_magnitude}: must be in 0 .. 30")
    if config.solver != "steps":
        wrong += _wrong_for_solver(config)
    if not (config.cache_features == "auto" or isinstance(config.cache_features, bool)):
        wrong.append(f"cache_features = {config.cache_features!r}: choose 'auto', True or False")
    parts = config.accumulate
    if parts != "auto" and not (type(parts) is int and parts > 0):
        wrong.append(f"accumulate = {parts!r}: choose 'auto' or a whole number above 0")
    elif parts != "auto" and config.batch_size % parts:
        wrong.append(f"batch_size = {config.batch_size} is not a multiple of accumulate = {parts}")
    if not (config.epochs or config.steps):
        wrong.append("epochs and steps are both 0: nothing would be trained")
    return wrong


def _wrong_for_solver(config: ConfigDict) -> list[str]:
    """What a solver would stumble over."""
    wrong = []
    if registry.is_own(config.loss):
        wrong.append(f"solver = {config.solver!r} minimizes its own loss, and loss = {config.loss!r}")
    if config.cache_features is False:
        wrong.append(f"solver = {config.solver!r} reads cached features, and cache_features = False")
    if any(not c > 0 for c in config.regularization):
        wrong.append(f"regularization = {config.regularization}: inverse strengths are above 0")
    if not config.validation and len(config.regularization) != 1:
        wrong.append("validation = 0 leaves nothing to choose regularization by: hold images out, or give one value")
    return wrong


def as_json(config: ConfigDict) -> dict[str, Any]:
    """The config in types that JSON has, as it will be read back."""
    return json.loads(json.dumps(config.to_dict()))


# Fields and values that releases before 0.2.0 spelled otherwise.
_RENAMED = {"regularisation": "regularization"}
_RESPELLED = {("crop", "centre"): "center"}


def upgraded(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that an older release wrote, spelled as they are now.

    >>> upgraded({"regularisation": [1.0], "crop": "centre"})
    {'regularization': [1.0], 'crop': 'center'}
    """
    renamed = {_RENAMED.get(name, name): value for name, value in fields.items()}
    return {
        name: _RESPELLED.get((name, value), value) if isinstance(value, str) else value
        for name, value in renamed.items()
    }


@functools.cache
def json_shape() -> dict[str, Any]:
    """What each field must hold in JSON, as `json_file.mismatch` reads it."""
    elements = {
        **{"classes": str, "head_hidden": int, "phases": dict[str, Any], "arms": tuple[str, dict[str, Any]]},
        **dict.fromkeys(("class_weights", "regularization", "step_epochs"), float),
    }
    odd = {"mesh": dict[str, int], "cache_features": bool | str, "accumulate": int | str}
    return {
        name: odd.get(name) or (list[elements[name]] if isinstance(value, tuple) else type(value))
        for name, value in default_config().to_dict().items()
    }


def unknown_field(error: Exception) -> str | None:
    """What to say of an error that ml_collections raised for a field that there is not; None if it is about another."""
    # It quotes the field that a config file or --config.name sets.
    found = re.search(r"""Key "(\w+)" does not exist|instead of "(\w+)"|^[\\'"]*(\w+)[\\'"]*$""", str(error.args[0]))
    if found is None:
        return None
    name = next(group for group in found.groups() if group)
    config = default_config()
    guess = tree.did_you_mean(name, [*config, *config.mesh])
    return f"unknown config field {name!r}{guess or ': jft/config.py lists the fields.'}"


def difference(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Lines 'field: old -> new' for the fields in which two configs (as dicts) would compute something else."""
    usual = as_json(default_config())
    # A field younger than the old config had its default's effect then, and so had one without effect; but for
    # transparent pixels, whose hidden colors were read.
    old, new = {**usual, "background": "", **old}, {**usual, **new}
    old, new = (json.loads(json.dumps(effective(config))) for config in (old, new))
    return [
        f"{key}: {old.get(key)!r} -> {new.get(key)!r}"
        for key in sorted({*old, *new} - set(RESUMABLE))
        if old.get(key) != new.get(key)
    ]


def arms_of(name: str, config: ConfigDict) -> list[tuple[str, ConfigDict]]:
    """(name, config) of each arm of a config, or of itself where it has none."""
    if not config.arms:
        return [(name, config)]
    return [(f"{name}/{arm.replace(' ', '_')}", arm_config(config, arm, changes)) for arm, changes in config.arms]


def arm_config(config: ConfigDict, name: str, changes: dict[str, Any]) -> ConfigDict:
    """The config of one arm: the common one with some fields changed.

    Fields of the common config that are for other arms, as the optimizer's where this one's head is solved for, are
    left at their defaults: what a run records is what it does.

    Raises:
      ValueError: a field or value that is wrong, or a common field that no arm makes use of.
    """
    arm = _merged(config, name, changes)
    inherited = {field: why for field, why in without_effect(arm.to_dict()).items() if field not in changes}
    others = [without_effect(_merged(config, *other).to_dict()) for other in config.arms]
    refuse([why for field, why in inherited.items() if all(field in idle for idle in others)])
    kept = effective(arm.to_dict())
    arm.update({field: kept[field] for field in inherited})
    validate(arm)
    return arm


def _merged(config: ConfigDict, name: str, changes: dict[str, Any]) -> ConfigDict:
    arm = copy.deepcopy(config)
    for field, value in {**changes, "arms": ()}.items():
        tree.choose(config.to_dict(), field, what=f"field of arm {name!r}")
        arm[field] = value
    return arm
