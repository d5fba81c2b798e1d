"""Optimizers by name: jft's own three, every one of Optax's, and the user's own."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Protocol, cast

import jax
import optax

from jft.config import Config, default_config
from jft.utils import registry
from jft.utils.registry import Registry


class Optimizer(Protocol):
    """Makes an optimizer; called with those of these that it has a parameter without a default for, by name."""

    def __call__(self, learning_rate: Any, momentum: float, weight_decay: float) -> optax.GradientTransformation:
        """An Optax optimizer, whose updates are added to the parameters.

        Args:
          learning_rate: float32 scalar, that of the step, by the config's `schedule`; traced, so neither `float` nor
            `if` can read it. The config's `learning_rate`, the peak, where the state is made.
          momentum: the config's.
          weight_decay: the config's.
        """
        ...


def kernels(params: Any) -> Any:
    """Tree of bools, True for what decays: leaves called kernel, as Flax names the weights of its layers.

    Not biases, scales of norms, layer scales, and a transformer's tokens and position embeddings.
    """
    return jax.tree_util.tree_map_with_path(lambda path, leaf: path[-1].key == "kernel", params)


def adam(learning_rate: Any, weight_decay: float) -> optax.GradientTransformation:
    """Adam (Kingma & Ba, 2015), with decay as an L2 term."""
    return _at_rate(optax.chain(_decay(weight_decay), optax.scale_by_adam()), learning_rate)


def adamw(learning_rate: Any, weight_decay: float) -> optax.GradientTransformation:
    """Adam with decoupled decay, after the averages (Loshchilov & Hutter, 2019)."""
    return _at_rate(optax.chain(optax.scale_by_adam(), _decay(weight_decay)), learning_rate)


def sgd(learning_rate: Any, momentum: float, weight_decay: float) -> optax.GradientTransformation:
    """Gradient descent with Nesterov momentum and decay as an L2 term."""
    return _at_rate(optax.chain(_decay(weight_decay), optax.trace(momentum, nesterov=True)), learning_rate)


def _decay(weight_decay: float) -> optax.GradientTransformation:
    # At a decay of 0 it adds 0; its state is there all the same.
    return optax.add_decayed_weights(weight_decay, mask=kernels)


def _at_rate(direction: optax.GradientTransformation, learning_rate: Any) -> optax.GradientTransformation:
    """Steps against a direction; of the state of the direction alone, so that of older checkpoints fits."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = direction.update(updates, state, params)
        return jax.tree.map(lambda x: -learning_rate * x, updates), state

    return optax.GradientTransformation(direction.init, update)


def of_optax(function: Callable[..., optax.GradientTransformation]) -> Optimizer:
    """An optimizer of Optax, given those fields of the config that it has parameters of the same names for.

    Kernels alone decay. Where the optimizer has no decay of its own, it is an L2 term.
    """
    names = inspect.signature(function).parameters

    def make(learning_rate: Any, momentum: float, weight_decay: float) -> optax.GradientTransformation:
        known = {"learning_rate": learning_rate, "momentum": momentum, "weight_decay": weight_decay}
        known |= {"mask": kernels, "weight_decay_mask": kernels}
        tx = function(**{name: value for name, value in known.items() if name in names})
        return tx if "weight_decay" in names else optax.chain(_decay(weight_decay), tx)

    return make


# These need more than a gradient (values, a random key), are no optimizers by themselves, or are deprecated.
_NOT_OF_OPTAX = ("lbfgs", "noisy_sgd", "optimistic_adam", "scale_by_learning_rate", "scale_by_rprop")


def _all_of_optax() -> dict[str, Optimizer]:
    functions = {name: getattr(optax, name) for name in sorted(dir(optax)) if not name.startswith("_")}
    return {
        name: of_optax(function)
        for name, function in functions.items()
        if inspect.isfunction(function)
        and next(iter(inspect.signature(function).parameters), None) == "learning_rate"
        and name not in _NOT_OF_OPTAX
    }


OPTIMIZERS: Registry[Callable[..., optax.GradientTransformation]] = Registry(
    "optimizer",
    "(learning_rate, ...) -> optax.GradientTransformation",
    {**_all_of_optax(), "adam": adam, "adamw": adamw, "sgd": sgd},
)

# Fields that say what the rate is: without effect on an optimizer that has its own.
_OF_THE_RATE = ("learning_rate", "schedule", "warmup_epochs")


def resolve(config: Config, given: Any = None) -> Any:
    """What `config.optimizer` stands for: an `Optimizer`, or an `optax.GradientTransformation`.

    Args:
      config: `optimizer`.
      given: what was given in Python and `config.optimizer` is the name of.
    """
    found = OPTIMIZERS.resolve(config.optimizer, given)
    of_optax_itself = callable(found) and getattr(found, "__module__", "").startswith("optax.")
    return of_optax(cast(Callable[..., optax.GradientTransformation], found)) if of_optax_itself else found


def has_own_rate(optimizer: Any) -> bool:
    """Whether the rate is within the optimizer, and not the config's."""
    return _is_made(optimizer) or "learning_rate" not in registry.needed_by(optimizer)


def transformation(config: Config, given: Any = None) -> optax.GradientTransformationExtraArgs:
    """The optimizer of a config, whose `update` takes the learning rate of the step by that name.

    So the rate is a function of the step alone, and no counter of Optax's can disagree with it.

    Args:
      config: `optimizer`, `learning_rate`, `momentum`, `weight_decay`.
      given: see `resolve`.
    """
    make = functools.partial(_make, resolve(config, given), config)

    def init(params: Any) -> Any:
        return make(config.learning_rate).init(params)

    def update(updates: Any, state: Any, params: Any = None, *, learning_rate: Any = 1.0, **_: Any) -> tuple[Any, Any]:
        return make(learning_rate).update(updates, state, params)

    return optax.GradientTransformationExtraArgs(init, update)


def _make(optimizer: Any, config: Config, learning_rate: Any) -> optax.GradientTransformation:
    if _is_made(optimizer):
        return optimizer
    available = {"learning_rate": learning_rate, "momentum": config.momentum, "weight_decay": config.weight_decay}
    return registry.call_with(optimizer, available, what=_called(config))


def check(config: Config, given: Any, params: Any) -> None:
    """Raises a ValueError unless the optimizer of a config works on these parameters and with the config's fields.

    Args:
      config: of the run, or of a phase.
      given: see `resolve`.
      params: shapes of the trainable parameters.
    """
    optimizer, called = resolve(config, given), _called(config)
    if optimizer in (adam, adamw, sgd):
        return
    if not (_is_made(optimizer) or callable(optimizer)):
        raise ValueError(f"{called} is {optimizer!r}: give a function {OPTIMIZERS.signature}, or what it returns.")
    _check_fields(config, optimizer)
    tx = transformation(config, given)
    try:
        state = jax.eval_shape(tx.init, params)
        rate = jax.ShapeDtypeStruct((), "float32")
        moved, after = jax.eval_shape(
            lambda g, s, p, r: tx.update(g, s, p, learning_rate=r), params, state, params, rate
        )
    except Exception as error:  # whatever the user's own code raises
        raise ValueError(
            f"{called} fails ({type(error).__name__}: {error}). It is called as {OPTIMIZERS.signature}, its `init` "
            "with the parameters, its `update` with gradients, state and parameters, inside of jax.jit."
        ) from error
    for what, one, other in (("updates", params, moved), ("the state after a step", state, after)):
        wanted, found = _shapes(one), _shapes(other)
        if wanted != found:
            differing = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
            name = differing[0]
            raise ValueError(
                f"{called}: {what} must have the shapes of {'the parameters' if one is params else 'that before it'}, "
                f"and differ in {name}: {wanted.get(name)} and {found.get(name)}."
            )


def _check_fields(config: Config, optimizer: Any) -> None:
    """Raises a ValueError where the config sets what an optimizer of the user's own does not ask for."""
    asked = () if _is_made(optimizer) else registry.needed_by(optimizer)
    idle = [name for name in ("momentum", "weight_decay") if name not in asked]
    idle += _OF_THE_RATE if "learning_rate" not in asked else ()
    usual = default_config()
    for field in idle:
        if config[field] != usual[field]:
            remedy = (
                "give a function (learning_rate) -> optax.GradientTransformation"
                if _is_made(optimizer)
                else f"give it a parameter {'learning_rate' if field in _OF_THE_RATE else field} without a default"
            )
            raise ValueError(
                f"{field} = {config[field]!r} has no effect on {_called(config)}, which does not ask for it: {remedy}, "
                f"or leave {field} out."
            )


def _shapes(values: Any) -> dict[str, str]:
    leaves = jax.tree_util.tree_leaves_with_path(values)
    return {jax.tree_util.keystr(path): f"{leaf.dtype} {list(leaf.shape)}" for path, leaf in leaves}


def _is_made(optimizer: Any) -> bool:
    return callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None))


def _called(config: Config) -> str:
    return f"optimizer = {config.optimizer!r}"
