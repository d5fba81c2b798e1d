"""Phases of a run: which layers are trainable, and with which optimizer, in which steps.

`config.phases` lists them, each a dict of what it changes:

    config.phases = (
        {"name": "head", "epochs": 2, "freeze": "layer4"},
        {"name": "top", "epochs": 3, "freeze": "layer3", "learning_rate": 1e-4, "schedule": "cosine"},
        {"name": "all", "steps": 500, "freeze": "", "learning_rate": 1e-5, "layer_decay": 0.7, "batch_norm": "frozen"},
    )

The length of a phase is one of `steps`, `epochs` and `examples`; fields that it does not name are those of the config.
`config.preset` names a ready-made list. A run without either is one phase.
"""

import dataclasses
import functools
import types
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax

from jft import config as config_lib
from jft.config import OF_A_PHASE, Config
from jft.models import Chain
from jft.training import optim, optimizers
from jft.training.freeze import Plan, make_plan
from jft.utils import tree
from jft.utils.text import aligned

_LENGTHS = ("steps", "epochs", "examples")
# Fine-tuning after a linear probe uses a tenth of the head's rate, which preserves pretrained weights better.
_GENTLER = 0.1


@dataclasses.dataclass(frozen=True)
class Phase:
    """A part of a run.

    Attributes:
      name: its name, for people.
      first: number of steps done when it begins.
      last: number of steps done when it ends.
      config: the run's config as this phase changes it.
      plan: says which leaves are frozen.
      schedule: step of the run -> learning rate; None where the optimizer has its own.
      tx: the optimizer, whose `update` takes the rate.
      groups: leaf -> group of the optimizer, the phase since which it learns without a break.
      given: the optimizer, where it was given in Python.
    """

    name: str
    first: int
    last: int
    config: Config
    plan: Plan
    schedule: optax.Schedule | None
    tx: optax.GradientTransformation
    groups: Mapping[str, str]
    given: Any = None

    @property
    def num_steps(self) -> int:
        """Number of steps of the phase."""
        return self.last - self.first

    @functools.cached_property
    def init(self) -> Any:
        """`tx.init` under jit, traced once for parameters of the same shapes, whoever asks."""
        return jax.jit(self.tx.init)


def make_phases(
    config: Config,
    model: Chain,
    variables: Mapping[str, Any],
    *,
    num_steps: int,
    steps_per_epoch: float,
    own: Mapping[str, Any] = types.MappingProxyType({}),
) -> tuple[Phase, ...]:
    """Makes the phases of a run, in order and without gaps.

    Args:
      config: `phases`, `preset`, and what the phases do not change.
      model: the chain.
      variables: `{'params', 'batch_stats'}`, shapes or arrays.
      num_steps: length of a run without phases, which presets divide.
      steps_per_epoch: to turn epochs into steps.
      own: from `own.recorded`: 'optimizer' and 'schedule', where they were given in Python.

    Raises:
      ValueError: a phase has no length or several, an unknown field, a wrong value, or nothing trainable; names it.
    """
    settings = _settings(config, model, num_steps)
    if len(settings) > 1 and config.early_stopping:
        raise ValueError(
            f"early_stopping = {config.early_stopping} would end the run in the first phase without improvement: leave "
            f"it out of a run with {len(settings)} phases."
        )
    phases: list[Phase] = []
    for number, setting in enumerate(settings, 1):
        name = setting.get("name", f"phase {number}")
        try:
            length = _length(setting, config.batch_size, steps_per_epoch)
            changed = _changed(config, setting)
            # A phase that names another does not mean the one that was given.
            given = {name: own.get(name) for name in ("optimizer", "schedule") if changed[name] == config[name]}
            phases.append(_make_phase(name, length, changed, model, variables, phases, steps_per_epoch, given))
        except ValueError as error:
            called = f"phase {name!r}" if "name" in setting else name
            raise ValueError(f"{called}: {error}" if len(settings) > 1 else str(error)) from error
    return tuple(phases)


def _make_phase(
    name: str,
    length: int,
    config: Config,
    model: Chain,
    variables: Mapping[str, Any],
    before: Sequence[Phase],
    steps_per_epoch: float,
    given: Mapping[str, Any],
) -> Phase:
    plan = make_plan(model, variables, config.freeze, batch_norm=config.batch_norm)
    first = before[-1].last if before else 0
    if config.solver == "steps":
        optimizers.check(config, given.get("optimizer"), plan.split(variables["params"])[0])
    own = None
    if not optimizers.has_own_rate(optimizers.resolve(config, given.get("optimizer"))):
        own = optim.make_schedule(
            config, num_steps=length, steps_per_epoch=steps_per_epoch, given=given.get("schedule")
        )
    # Another kind of optimizer cannot use the state of the last one: every leaf gets a fresh state.
    known = before[-1].groups if before and before[-1].config.optimizer == config.optimizer else {}
    trainable = [leaf for leaf in tree.flatten(variables["params"]) if leaf not in plan.frozen]
    groups = {leaf: known.get(leaf, f"since {first}") for leaf in trainable}
    heads = {head: auxiliary.after for head, auxiliary in model.auxiliary_heads().items()}
    factors = optim.decay_factors(plan.stages, config.layer_decay, heads)
    mask = plan.freeze_mask(variables["params"])
    tx = optim.make_optimizer(config, mask, groups=groups, factors=factors, given=given.get("optimizer"))
    schedule = None if own is None else lambda step: own(step - first)
    return Phase(name, first, first + length, config, plan, schedule, tx, groups, given.get("optimizer"))


def _changed(config: Config, own: Mapping[str, Any]) -> Config:
    """The run's config with a phase's own fields."""
    changed = Config(config)  # a copy
    for field, value in own.items():
        if field in ("name", *_LENGTHS):
            continue
        tree.choose(dict.fromkeys(OF_A_PHASE), field, what="field of a phase")
        try:
            changed[field] = value
        except TypeError as error:
            raise ValueError(str(error)) from error
    idle = config_lib.without_effect({**changed.to_dict(), "phases": ()})
    # Only fields that the phase names itself; the others may belong to another phase.
    config_lib.refuse([*config_lib.wrong_values(changed), *(idle[f] for f in OF_A_PHASE if f in own and f in idle)])
    return changed


def _length(own: Mapping[str, Any], batch_size: int, steps_per_epoch: float) -> int:
    """Length of a phase in steps."""
    given = [field for field in _LENGTHS if field in own]
    if len(given) != 1 or not isinstance(own[given[0]], int | float) or not own[given[0]] > 0:
        raise ValueError(
            f"a phase needs exactly one length above 0, of {', '.join(_LENGTHS)}; here: {', '.join(given) or 'none'}."
        )
    steps = {"steps": 1, "epochs": steps_per_epoch, "examples": 1 / batch_size}[given[0]] * own[given[0]]
    return max(1, round(steps))


def _settings(config: Config, model: Chain, num_steps: int) -> list[dict[str, Any]]:
    """The fields of each phase, from `phases` or `preset`; without either, one phase that changes nothing."""
    if config.phases and config.preset:
        raise ValueError(f"phases and preset = {config.preset!r} both define the phases of the run: leave one out.")
    if config.solver != "steps":
        last = tuple(model.stages())[-2]
        if config.freeze not in ("", last):
            raise ValueError(
                f"solver = {config.solver!r} freezes everything before the head, and freeze = {config.freeze!r}: leave "
                "freeze out; set cut = STAGE to attach the head to an earlier stage."
            )
        return _linear_probe(config, model, 1)
    if config.phases and config.steps:
        raise ValueError(f"phases have their own lengths, and steps = {config.steps}: leave steps out.")
    if config.phases:
        return [dict(own) for own in config.phases]
    return _PRESETS[config.preset](config, model, num_steps)


def _single(config: Config, model: Chain, num_steps: int) -> list[dict[str, Any]]:
    del config, model
    return [{"name": "training", "steps": num_steps}]


def _linear_probe(config: Config, model: Chain, num_steps: int) -> list[dict[str, Any]]:
    """Trains the head only."""
    _check_freeze(config, "linear_probe", "", tuple(model.stages())[-2])
    return [{"name": "linear probe", "steps": num_steps, "freeze": tuple(model.stages())[-2]}]


def _lp_ft(config: Config, model: Chain, num_steps: int) -> list[dict[str, Any]]:
    """Half of the steps the head only, then all stages after `freeze` at a tenth of the rate (Kumar et al., 2022)."""
    probe = max(1, num_steps // 2)
    tuning = {"name": "fine-tuning", "steps": max(1, num_steps - probe)}
    head = {"name": "linear probe", "steps": probe, "freeze": tuple(model.stages())[-2]}
    return [head, {**tuning, "learning_rate": _GENTLER * config.learning_rate}]


def _gradual_unfreezing(config: Config, model: Chain, num_steps: int) -> list[dict[str, Any]]:
    """The head only, then one more stage per phase, down to `freeze` (Howard & Ruder, 2018); phases of equal length."""
    stages = tuple(model.stages())
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


def _check_freeze(config: Config, preset: str, *possible: str) -> None:
    if config.freeze not in possible:
        raise ValueError(
            f"preset {preset!r} defines what is frozen, and freeze = {config.freeze!r}: leave one of them out."
        )


def _full(config: Config, model: Chain, num_steps: int) -> list[dict[str, Any]]:
    """Trains everything; used for 'full' and for 'from_scratch', which loads no weights."""
    _check_freeze(config, config.preset, "")
    del model
    return [{"name": "training", "steps": num_steps, "freeze": ""}]


_PRESETS = {
    "": _single,
    "linear_probe": _linear_probe,
    "lp_ft": _lp_ft,
    "gradual_unfreezing": _gradual_unfreezing,
    "full": _full,
    "from_scratch": _full,
}


def phase_table(phases: Sequence[Phase], variables: Mapping[str, Any]) -> str:
    """Formats one line per phase: steps, frozen stages, trainable parameters, BatchNorm mode, optimizer and rates.

    Args:
      phases: from `make_phases`.
      variables: `{'params', ...}`, arrays or shapes, to count trainable parameters.
    """
    rows = [("phase", "steps", "frozen up to", "trainable", "BatchNorm", "optimizer", "learning rate", "layer decay")]
    for phase in phases:
        settings = in_force(phase, variables)
        rates = "the optimizer's own"
        if phase.schedule is not None:
            first, last = (float(np.asarray(phase.schedule(step))) for step in (phase.first, phase.last - 1))
            rates = f"{first:.3g} to {last:.3g} ({phase.config.schedule})"
        rows.append(
            (
                phase.name,
                f"{phase.first:,} to {phase.last:,}",
                settings["boundary"] or "-",
                f"{settings['learning']:,}",
                settings["batch_norm"],
                phase.config.optimizer,
                rates,
                f"{phase.config.layer_decay:g}",
            )
        )
    return "\n".join(aligned(rows, right=(3,)))


def in_force(phase: Phase, variables: Mapping[str, Any]) -> dict[str, Any]:
    """What is frozen and trainable in a phase, according to the plan of its compiled step; logged with the metrics.

    Returns:
      `{'phase', 'boundary', 'learning', 'batch_norm'}`: its name; the last frozen stage or ''; the number of trainable
      parameters; the mode of its BatchNorms ('none' if the network has none): see `make_plan`.
    """
    flat = tree.flatten(variables["params"])
    norms = {name.rsplit("/", 1)[0] for name in tree.flatten(variables["batch_stats"])}
    return {
        "phase": phase.name,
        "boundary": phase.plan.boundary or "",
        "learning": sum(leaf.size for name, leaf in flat.items() if name not in phase.plan.frozen),
        "batch_norm": _norm_mode(phase.plan, norms),
    }


def _norm_mode(plan: Plan, norms: set[str]) -> str:
    if not norms:
        return "none"
    moving = norms - plan.inference_norms
    if not moving:
        return "frozen"
    return "trained" if any(f"{norm}/scale" not in plan.frozen for norm in moving) else "statistics"
