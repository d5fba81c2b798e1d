"""Phases of a run: which layers are trainable, and with which optimizer, in which steps.

`config.phases` lists them, each a dict of what it changes:

    config.phases = (
        {"name": "head", "epochs": 2, "freeze": "layer4"},
        {"name": "top", "epochs": 3, "freeze": "layer3", "learning_rate": 1e-4, "schedule": "cosine"},
        {"name": "all", "steps": 500, "freeze": "", "learning_rate": 1e-5, "layer_decay": 0.7, "batch_norm": "frozen"},
    )

The length of a phase is one of `steps`, `epochs` and `examples`; fields that it does not name are those of the config.
A phase with a `solver` fits the head on cached features and counts as one step. `config.preset` names a ready-made
list, see `presets`. A run without either is one phase.
"""

import copy
import dataclasses
import functools
import types
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import optax

from jft import config as config_lib
from jft.config import OF_A_PHASE, Config
from jft.data import augmentations
from jft.data.augment import Augmentation
from jft.data.transforms import Preprocess
from jft.models import Chain, abstract_variables
from jft.models.chain import JOINED
from jft.training import l2_sp, optim, optimizers, presets
from jft.training.freeze import Plan, make_plan
from jft.utils import tree

_LENGTHS = ("steps", "epochs", "examples")
_GIVEN = ("optimizer", "schedule", "augment")  # what Python may give as an object


@dataclasses.dataclass(frozen=True)
class Phase:
    """A part of a run.

    Attributes:
      name: its name, for people.
      first: number of steps done when it begins.
      last: number of steps done when it ends.
      config: the run's config as this phase changes it.
      plan: says which leaves are frozen.
      spec: preprocessing of its training images; their size may differ from that of evaluation.
      augmentation: of its training images.
      schedule: step of the run -> learning rate; None where the optimizer has its own.
      tx: the optimizer, whose `update` takes the rate.
      groups: leaf -> group of the optimizer, the phase since which it learns without a break.
      given: the optimizer, where it was given in Python.
      cut: whether steps after `last` are left out, as when a part of a run is replayed.
    """

    name: str
    first: int
    last: int
    config: Config
    plan: Plan
    spec: Preprocess
    augmentation: Augmentation
    schedule: optax.Schedule | None
    tx: optax.GradientTransformation
    groups: Mapping[str, str]
    given: Any = None
    cut: bool = False

    @property
    def num_steps(self) -> int:
        """Number of steps of the phase."""
        return self.last - self.first

    @property
    def solved(self) -> bool:
        """Whether a solver fits its head, in one step; otherwise it is trained by gradient descent."""
        return self.config.solver != "steps"

    @property
    def averages(self) -> bool:
        """Whether its trained weights are averaged with those before it, at its end; see `wise_ft`."""
        return not self.solved and self.config.wise_ft != 1

    @property
    def keeps_start(self) -> bool:
        """Whether its trainable parameters at its start are kept, to average with or to decay toward."""
        return self.averages or (not self.solved and self.config.l2_sp > 0)

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
    spec: Preprocess,
    own: Mapping[str, Any] = types.MappingProxyType({}),
) -> tuple[Phase, ...]:
    """Makes the phases of a run, in order and without gaps.

    Args:
      config: `phases`, `preset`, and what the phases do not change.
      model: the chain.
      variables: `{'params', 'batch_stats'}`, shapes or arrays.
      num_steps: length of a run without phases, which presets divide.
      steps_per_epoch: to turn epochs into steps.
      spec: preprocessing of the run.
      own: from `own.recorded`: 'optimizer', 'schedule' and 'augment', where they were given in Python.

    Raises:
      ValueError: a phase has no length or several, an unknown field, a wrong value, or nothing trainable; names it.
    """
    norms = bool(variables["batch_stats"])
    heads = ("head", *model.auxiliary_heads())
    stages = tuple(stage for stage in model.stages() if stage != JOINED)  # which has no parameters
    settings = _settings(presets.Given(config, stages, heads, norms, num_steps, steps_per_epoch))
    if len(settings) > 1 and config.early_stopping:
        raise ValueError(
            f"early_stopping = {config.early_stopping} would end the run in the first phase without improvement: leave "
            f"it out of a run with {len(settings)} phases."
        )
    phases: list[Phase] = []
    for number, setting in enumerate(settings, 1):
        name = setting.get("name", f"phase {number}")
        try:
            changed = _changed(config, setting)
            length = _length(setting, changed.solver, config.batch_size, steps_per_epoch)
            # A phase that names another does not mean the one that was given.
            given = {name: own.get(name) for name in _GIVEN if changed[name] == config[name]}
            phases.append(_make_phase(name, length, changed, model, variables, phases, steps_per_epoch, spec, given))
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
    spec: Preprocess,
    given: Mapping[str, Any],
) -> Phase:
    plan = make_plan(model, variables, config.freeze, batch_norm=config.batch_norm)
    first = before[-1].last if before else 0
    of_optimizer = l2_sp.of_optimizer(config)
    if config.solver == "steps":
        optimizers.check(of_optimizer, given.get("optimizer"), plan.split(variables["params"])[0])
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
    depths = tuple(stage for stage in plan.stages if stage != JOINED)
    factors = optim.decay_factors(depths, config.layer_decay, heads)
    mask = plan.freeze_mask(variables["params"])
    tx = optim.make_optimizer(of_optimizer, mask, groups=groups, factors=factors, given=given.get("optimizer"))
    schedule = None if own is None else lambda step: own(step - first)
    spec = _resized(spec, config.image_size, model, variables)
    functions = augmentations.resolve(config.augment, given.get("augment"), spec.size)
    augmentation = Augmentation.from_config(config, functions)
    last = first + length
    return Phase(
        name, first, last, config, plan, spec, augmentation, schedule, tx, groups, given=given.get("optimizer")
    )


def _resized(spec: Preprocess, size: int, model: Chain, variables: Mapping[str, Any]) -> Preprocess:
    """The preprocessing at a phase's image size; ValueError where the parameters depend on the size."""
    if not size or size == spec.size:
        return spec
    shapes, run = abstract_variables(model, size)["params"], variables["params"]
    if bad := [name for name, leaf in tree.flatten(run).items() if tree.flatten(shapes)[name].shape != leaf.shape]:
        raise ValueError(
            f"image_size = {size}, and the run's images have {spec.size} pixels: the shape of {bad[0]} depends on the "
            "size, so all phases of this network need the same one."
        )
    return spec.at(size)


def _changed(config: Config, own: Mapping[str, Any]) -> Config:
    """The run's config with a phase's own fields."""
    changed = copy.deepcopy(config)  # `Config(config)` would share the references of fields that may be 'auto'
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


def _length(own: Mapping[str, Any], solver: str, batch_size: int, steps_per_epoch: float) -> int:
    """Length of a phase in steps."""
    given = [field for field in _LENGTHS if field in own]
    if solver != "steps":
        if [own[field] for field in given] not in ([], [1]):
            raise ValueError(f"solver = {solver!r} counts as one step: leave {', '.join(given)} out.")
        return 1
    if len(given) != 1 or not isinstance(own[given[0]], int | float) or not own[given[0]] > 0:
        raise ValueError(
            f"a phase needs exactly one length above 0, of {', '.join(_LENGTHS)}; here: {', '.join(given) or 'none'}."
        )
    steps = {"steps": 1, "epochs": steps_per_epoch, "examples": 1 / batch_size}[given[0]] * own[given[0]]
    return max(1, round(steps))


def _settings(given: presets.Given) -> list[dict[str, Any]]:
    """The fields of each phase, from `phases` or `preset`; without either, one phase that changes nothing."""
    config = given.config
    if config.phases and config.preset:
        raise ValueError(f"phases and preset = {config.preset!r} both define the phases of the run: leave one out.")
    if config.solver != "steps":
        last = given.stages[-2]
        if config.freeze not in ("", last):
            raise ValueError(
                f"solver = {config.solver!r} freezes everything before the head, and freeze = {config.freeze!r}: leave "
                "freeze out; set cut = STAGE to attach the head to an earlier stage."
            )
        return [presets.probe(given.stages)]
    if config.phases and config.steps:
        raise ValueError(f"phases have their own lengths, and steps = {config.steps}: leave steps out.")
    if config.phases:
        return [dict(own) for own in config.phases]
    return presets.PRESETS[config.preset](given)


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
