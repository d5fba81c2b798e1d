"""Ready-made phases, by the names of `config.preset`: the fields of each phase as a dict, as in `config.phases`."""

import dataclasses
from collections.abc import Callable
from typing import Any

from jft.config import Config, default_config

# Fine-tuning after a linear probe uses a tenth of the head's rate, which preserves pretrained weights better.
_GENTLER = 0.1

# The head is solved for on images as evaluation reads them, mirrored or not.
_STILL = {"resized_crop": (), "resized_crop_ratio": (), "crop_padding": 0.0, "auto_augment": "", "augment": ()}

# What fine-tuning from a solved head begins with, where the config says nothing else. Found on training images of
# CIFAR-10, GTSRB and flowers, see docs/results.md.
_FINE_TUNING = {
    "optimizer": "adamw",
    "schedule": "cosine",
    "clip_norm": 1.0,
    "batch_norm": "frozen",
    "wise_ft": "auto",
    "resized_crop": (0.5, 1.0),
}
_WARMUP = 0.1  # of the phase
# Frozen BatchNorms bear small rates only, and in runs shorter than this, which have few images, still smaller ones. The
# head was solved for with their statistics; where they are trained, the network first has to learn to do without.
_RATE, _SHORT_RATE, _SHORT = 3e-4, 1e-4, 150

Phases = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Given:
    """What a preset makes phases of.

    Attributes:
      config: the run's.
      stages: of the model, in order.
      heads: the head and the auxiliary heads.
      norms: whether it has BatchNorms.
      num_steps: length of the run.
      steps_per_epoch: to turn steps into epochs.
    """

    config: Config
    stages: tuple[str, ...]
    heads: tuple[str, ...]
    norms: bool
    num_steps: int
    steps_per_epoch: float


def _single(given: Given) -> Phases:
    return [{"name": "training", "steps": given.num_steps}]


def _linear_probe(given: Given) -> Phases:
    """Trains the head only."""
    _check_freeze(given.config, given.stages[-2])
    return [{**probe(given.stages), "steps": given.num_steps}]


def probe(stages: tuple[str, ...]) -> dict[str, Any]:
    """A phase of one step that changes the head alone."""
    return {"name": "linear probe", "steps": 1, "freeze": stages[-2]}


def _lp_ft(given: Given) -> Phases:
    """Half of the steps the head only, then all stages after `freeze` at a tenth of the rate (Kumar et al., 2022)."""
    half = max(1, given.num_steps // 2)
    tuning = {"name": "fine-tuning", "steps": max(1, given.num_steps - half)}
    return [{**probe(given.stages), "steps": half}, {**tuning, "learning_rate": _GENTLER * given.config.learning_rate}]


def _fine_tune(given: Given) -> Phases:
    """The head solved for, then all stages after `freeze` trained from there, and the best average of the two.

    So it begins where a probe ends (Kumar et al., 2022), and what it averages to (Wortsman et al., 2022) has no larger
    validation loss than the probe. Fields that the config changes hold instead of the preset's.
    """
    config, usual = given.config, default_config()
    short = given.norms and given.num_steps < _SHORT
    chosen = {"learning_rate": _SHORT_RATE if short else _RATE, **_FINE_TUNING}
    chosen = {name: value for name, value in chosen.items() if config[name] == usual[name]}
    if config.warmup_epochs == usual.warmup_epochs:
        chosen["warmup_epochs"] = _WARMUP * given.num_steps / given.steps_per_epoch
    if config.crop_padding:
        chosen.pop("resized_crop", None)
    head = {**probe(given.stages), "solver": "lbfgs", **_STILL}
    if config.fit == "crop" and config.crop == "random":
        head["crop"] = "center"
    return [head, {"name": "fine-tuning", "steps": given.num_steps, **chosen}]


def _gradual_unfreezing(given: Given) -> Phases:
    """The head only, then one more stage per phase, down to `freeze` (Howard & Ruder, 2018); phases of equal length."""
    config, stages, num_steps = given.config, given.stages, given.num_steps
    if config.freeze and config.freeze not in stages:
        raise ValueError(
            f"gradual_unfreezing unfreezes down to a stage, and freeze = {config.freeze!r} is a pattern: give a stage."
        )
    if config.freeze == "head":
        raise ValueError("gradual_unfreezing needs a stage before the head, and freeze = 'head': give another.")
    # The boundary of each phase, from the last stage before the head down; "" freezes nothing.
    lowest = stages.index(config.freeze) + 1 if config.freeze else 0
    boundaries = [stages[i - 1] if i else "" for i in range(len(stages) - 1, lowest - 1, -1)]
    if num_steps < len(boundaries):
        raise ValueError(
            f"gradual_unfreezing has {len(boundaries)} phases, and the run only {num_steps} steps: train longer."
        )
    ends = [round(num_steps * i / len(boundaries)) for i in range(len(boundaries) + 1)]
    return [
        {
            "name": f"from {stages[stages.index(boundary) + 1] if boundary else stages[0]}",
            "steps": end - begin,
            "freeze": boundary,
        }
        for boundary, begin, end in zip(boundaries, ends, ends[1:], strict=False)
    ]


def _scales_and_biases(given: Given) -> Phases:
    """Heads, the scales of norms and all biases (Ben Zaken et al., 2022, "BitFit"; Frankle et al., 2021)."""
    config = given.config
    _check_freeze(config)
    if config.batch_norm != "trained":
        raise ValueError(
            f"preset 'scales_and_biases' trains the scales of BatchNorms, and batch_norm = {config.batch_norm!r} "
            "freezes them: leave one of them out."
        )
    learns = [f"{head}/.*" for head in given.heads] + [f"(?:{new})(?:/.*)?" for new in config.fresh.split()]
    frozen = f"(?!(?:{'|'.join([*learns, '.*/(?:scale|bias)'])})$).+"  # all other names
    return [{"name": "scales and biases", "steps": given.num_steps, "freeze": frozen}]


def _full(given: Given) -> Phases:
    """Trains everything; used for 'full' and for 'from_scratch', which loads no weights."""
    _check_freeze(given.config)
    return [{"name": "training", "steps": given.num_steps, "freeze": ""}]


def _check_freeze(config: Config, *possible: str) -> None:
    if config.freeze not in ("", *possible):
        raise ValueError(
            f"preset {config.preset!r} defines what is frozen, and freeze = {config.freeze!r}: leave one of them out."
        )


PRESETS: dict[str, Callable[[Given], Phases]] = {
    "": _single,
    "linear_probe": _linear_probe,
    "lp_ft": _lp_ft,
    "fine_tune": _fine_tune,
    "gradual_unfreezing": _gradual_unfreezing,
    "scales_and_biases": _scales_and_biases,
    "full": _full,
    "from_scratch": _full,
}
