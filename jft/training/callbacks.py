"""Callbacks: what a run tells while it trains, and how it is stopped."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from jft.utils import distributed
from jft.utils.registry import Registry


@dataclasses.dataclass(frozen=True, kw_only=True)
class Event:
    """What callbacks are told.

    Attributes:
      kind: 'step', 'epoch' or 'evaluation'.
      step: steps done, from 1.
      num_steps: length of the run.
      epoch: passes over the training images done, such as 1.25.
      phase: name of the phase.
    """

    kind: ClassVar[str] = ""
    step: int
    num_steps: int
    epoch: float
    phase: str
    _stops: list[str] = dataclasses.field(default_factory=list, repr=False)

    def stop(self, reason: str = "") -> None:
        """Ends the run after this step, as early stopping does: evaluated, saved, at its end. `reason` is logged."""
        self._stops.append(reason or f"a callback at step {self.step}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepEnd(Event):
    """After each step.

    Attributes:
      sums: arrays on the device, sums over the batch: 'objective', 'correct', 'count', 'grad_norm', 'learning_rate'.
        To read one waits for the step: do so now and then. {} for a step that was left out.
    """

    kind: ClassVar[str] = "step"
    sums: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpochEnd(Event):
    """After the step that completes a pass over the training images."""

    kind: ClassVar[str] = "epoch"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationEnd(Event):
    """After each evaluation on the validation images, before the checkpoint is saved.

    Attributes:
      metrics: 'loss', 'accuracy', 'count' and so on, as in the log.
      history: these of all evaluations so far, each with its 'step'; this one is the last.
    """

    kind: ClassVar[str] = "evaluation"
    metrics: Mapping[str, float]
    history: Sequence[Mapping[str, float]]


def stop_when_perfect(event: Event) -> None:
    """A callback: stops once every validation image is right."""
    if isinstance(event, EvaluationEnd) and event.metrics["accuracy"] == 1:
        event.stop("every validation image is right")


Callback = Callable[[Event], Any]

CALLBACKS: Registry[Callback] = Registry(
    "callbacks",
    "(event) -> None, or an object with on_step_end, on_epoch_end or on_evaluation_end",
    {"stop_when_perfect": stop_when_perfect},
)

_METHODS = {"step": "on_step_end", "epoch": "on_epoch_end", "evaluation": "on_evaluation_end"}


def resolve(names: Sequence[str], given: Sequence[Any] | None = None) -> tuple[Any, ...]:
    """The callbacks of a config; a class is called without arguments for an object.

    Raises:
      ValueError: there is no such, or it is no callback.
    """
    found = tuple(one() if isinstance(one, type) else one for one in CALLBACKS.resolve_all(names, given))
    for name, one in zip(names, found, strict=True):
        if not callable(one) and not any(hasattr(one, method) for method in _METHODS.values()):
            raise ValueError(f"callback {name!r} is {one!r}: give a function {CALLBACKS.signature}.")
    return found


class Callbacks:
    """Those of a run.

    Attributes:
      stopped: why one of them stopped the run; '' while none did.
    """

    def __init__(self, callbacks: Sequence[Any]) -> None:
        self._callbacks, self.stopped = tuple(callbacks), ""

    def __bool__(self) -> bool:
        return bool(self._callbacks)

    def tell(self, event: Event) -> None:
        """Calls each with an event; of several processes the first one's decide whether to stop."""
        if not self._callbacks:
            return
        for one in self._callbacks:
            method = getattr(one, _METHODS[event.kind], None)
            if method is not None:
                method(event)
            elif callable(one):
                one(event)
        stops = event._stops
        if distributed.several():
            stops = distributed.from_first(stops)
        if stops and not self.stopped:
            self.stopped = stops[0]
