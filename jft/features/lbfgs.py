"""L-BFGS for linear models: two products with the features a step, whatever its line search tries.

Logits are linear in the parameters, so those along a direction are `logits + t * slopes`: one product with the features
gives `slopes`, and the line search works on [n, outputs] numbers. The other product is the gradient's. A line search
that does not know this computes both for each `t`, and so tries few.

The method is that of Nocedal and Wright, Numerical Optimization, algorithms 7.4 and 7.5.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jft.utils.arrays import Array

_MEMORY = 10  # pairs of steps and of changes of the gradient
_CLOSE = 0.1  # of the slope at its beginning: a line search ends within
_TRIES = 20
_LOSS = 1e-5  # relative: while the objective is expected to fall by more, it goes on; it ends within some 1e-4


class State(NamedTuple):
    """Where the solver is, and what it knows of the curvature.

    Changes of the gradient are those of the loss alone. The penalty's part is added when C is known, so that what was
    learned at one C serves the next.

    Attributes:
      params: [outputs, d + 1], the last column the bias. A kernel by its rows: the gradient is then a product that
        XLA's CPU does 3 times as fast.
      steps: [_MEMORY, outputs, d + 1], a ring.
      changes: likewise.
      pairs: how many have been written to the rings.
      logits: [n, outputs] of the parameters.
      of_loss: [outputs, d + 1], gradient of the mean loss.
      moved: [outputs, d + 1], by which the parameters differ from the solution before, at another C.
      slopes: [n, outputs], by which the logits do.
    """

    params: jax.Array
    steps: jax.Array
    changes: jax.Array
    pairs: jax.Array
    logits: jax.Array
    of_loss: jax.Array
    moved: jax.Array
    slopes: jax.Array


def start(z: jax.Array, targets: jax.Array, outputs: int, count: Any = None) -> State:
    """All parameters 0, nothing known; the arguments are those of `solve`."""
    params = jnp.zeros((outputs, z.shape[1] + 1), z.dtype)
    ring = jnp.zeros((_MEMORY, *params.shape), z.dtype)
    logits = jnp.zeros((len(z), outputs), z.dtype)
    of_loss = jax.jit(_Problem.of_loss)(_Problem(z, targets, _shares(z, count), params[0]), logits)
    return State(params, ring, ring, jnp.zeros((), jnp.int32), logits, of_loss, params, logits)


def _shares(z: jax.Array, count: Any) -> jax.Array:
    """The share of each row in the mean loss, [n]: 0 of those beyond `count`."""
    count = len(z) if count is None else count
    return jnp.where(jnp.arange(len(z)) < count, 1 / jnp.asarray(count, z.dtype), 0).astype(z.dtype)


class _Problem(NamedTuple):
    z: jax.Array
    targets: jax.Array
    shares: jax.Array  # of the rows in the mean loss
    penalty: jax.Array  # of each column of the parameters

    def logits(self, params: jax.Array) -> jax.Array:
        # Accelerators would round the factors to fewer bits, and the line search finds no descent in that noise.
        return jnp.matmul(self.z, params[:, :-1].T, precision="highest") + params[:, -1]

    def probabilities(self, logits: jax.Array) -> jax.Array:
        return jax.nn.softmax(logits) if self.targets.ndim == 1 else jax.nn.sigmoid(logits)

    def excess(self, p: jax.Array) -> jax.Array:
        """Gradient of the nats for the logits."""
        hot = self.targets[:, None] == jnp.arange(p.shape[1]) if self.targets.ndim == 1 else self.targets
        return p - hot.astype(p.dtype)

    def of_loss(self, logits: jax.Array) -> jax.Array:
        """Gradient of the mean loss for the parameters."""
        excess = self.excess(self.probabilities(logits)) * self.shares[:, None]
        kernel = jnp.matmul(excess.T, self.z, precision="highest")
        return jnp.concatenate([kernel, excess.sum(0)[:, None]], 1)

    def objective(self, logits: jax.Array, params: jax.Array) -> jax.Array:
        return _dot(nats(logits, self.targets), self.shares) + _dot(self.penalty * params, params) / 2

    def derivatives(self, logits: jax.Array, slopes: jax.Array) -> tuple[jax.Array, jax.Array]:
        """First and second derivative of the mean loss where the logits move by `slopes`."""
        p = self.probabilities(logits)
        shares = self.shares[:, None]
        moved = p * slopes
        along = moved.sum(1, keepdims=True) if self.targets.ndim == 1 else moved
        slope = _dot(self.excess(p), shares * slopes)
        return slope, _dot(moved, shares * slopes) - _dot(along, shares * along)


class _Point(NamedTuple):
    """What is known at the parameters of a state."""

    direction: jax.Array
    slope: jax.Array  # of the objective along the direction, below 0
    gradient: jax.Array  # its largest component
    objective: jax.Array
    fell: jax.Array  # whether the last step made the objective smaller by more than rounding
    taken: jax.Array  # steps


@jax.jit
def solve(
    z: jax.Array, targets: jax.Array, c: Any, state: State, tolerance: Any, max_steps: Any, count: Any = None
) -> tuple[State, jax.Array, jax.Array]:
    """Minimizes mean(nats) + |kernel|**2 / (2 C n).

    It ends where the largest component of the gradient is within the tolerance, and either the objective is expected to
    fall by less than 1e-5 of itself or it no longer falls by more than rounding.

    Args:
      z: features [n, d].
      targets: classes int32 [n] of a softmax, or 0 and 1 [n, outputs] of sigmoid units.
      c: C, the inverse strength of the penalty.
      state: where to begin: `start`, or the solution at another C. The first step from a second solution goes on along
        the line from the first.
      tolerance: of the gradient.
      max_steps: after so many it ends anyway.
      count: rows that count, the first ones; those behind are padding, so that one compiled program serves several
        sets of rows. None: all.

    Returns:
      The solution, the steps taken, and the largest component of the gradient.
    """
    count = len(z) if count is None else count
    penalty = jnp.ones_like(state.params[0]).at[-1].set(0) / (c * count)
    problem = _Problem(z, targets, _shares(z, count), penalty)

    def point(state: State, before: Any, taken: Any) -> _Point:
        gradient = state.of_loss + penalty * state.params
        direction = -_inverse_hessian(state, penalty, gradient)
        objective = problem.objective(state.logits, state.params)
        fell = before - objective > 4 * jnp.finfo(z.dtype).eps * objective
        return _Point(direction, _dot(gradient, direction), jnp.max(jnp.abs(gradient)), objective, fell, taken)

    def going(carry: tuple[State, _Point]) -> jax.Array:
        at = carry[1]
        expected = -at.slope / 2  # the fall of the quadratic model
        short = (at.gradient > tolerance) | (at.fell & (expected > _LOSS * at.objective))
        return short & (at.taken < max_steps)

    def along(state: State, direction: jax.Array, slopes: jax.Array) -> State:
        t = _line_search(problem, state, direction, slopes)
        params, logits, row = state.params + t * direction, state.logits + t * slopes, state.pairs % _MEMORY
        of_loss = problem.of_loss(logits)
        steps = state.steps.at[row].set(t * direction)
        changes = state.changes.at[row].set(of_loss - state.of_loss)
        return state._replace(
            params=params, steps=steps, changes=changes, pairs=state.pairs + 1, logits=logits, of_loss=of_loss
        )

    def advance(carry: tuple[State, _Point]) -> tuple[State, _Point]:
        state, at = carry
        state = along(state, at.direction, problem.logits(at.direction))
        return state, point(state, at.objective, at.taken + 1)

    # Solutions at one C after the other lie about on a line: the first step goes on along it, without a product.
    onwards = jnp.any(state.moved != 0)
    begun = lax.cond(onwards, lambda: along(state, state.moved, state.slopes), lambda: state)
    found, last = lax.while_loop(going, advance, (begun, point(begun, jnp.inf, 0)))
    found = found._replace(moved=found.params - state.params, slopes=found.logits - state.logits)
    return found, last.taken, last.gradient


def _inverse_hessian(state: State, penalty: jax.Array, gradient: jax.Array) -> jax.Array:
    """L-BFGS' estimate of the inverse Hessian, times the gradient: the two loops over the memory, oldest pair first.

    Pairs that were never written, or along which rounding left no curvature, weigh 0.
    """

    def pair(i: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        row = (state.pairs + i) % _MEMORY
        step, change = state.steps[row], state.changes[row] + penalty * state.steps[row]
        curvature = _dot(step, change)
        return step, change, jnp.where(curvature > 0, 1 / curvature, 0)

    def newest_first(i: Any, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        q, weights = carry
        step, change, inverse = pair(_MEMORY - 1 - i)
        weight = inverse * _dot(step, q)
        return q - weight * change, weights.at[_MEMORY - 1 - i].set(weight)

    def oldest_first(i: Any, q: jax.Array) -> jax.Array:
        step, change, inverse = pair(i)
        return q + (weights[i] - inverse * _dot(change, q)) * step

    q, weights = lax.fori_loop(0, _MEMORY, newest_first, (gradient, jnp.zeros(_MEMORY, gradient.dtype)))
    _, change, inverse = pair(_MEMORY - 1)
    scale = jnp.where(inverse > 0, 1 / (inverse * _dot(change, change)), 1)
    return lax.fori_loop(0, _MEMORY, oldest_first, scale * q)


def _line_search(problem: _Problem, state: State, direction: jax.Array, slopes: jax.Array) -> jax.Array:
    """The length of a step, where little is left of the slope: Newton's method within bounds, as all is convex."""
    linear = _dot(problem.penalty * state.params, direction)
    square = _dot(problem.penalty * direction, direction)
    begins = jnp.abs(_dot(state.of_loss, direction) + linear)

    def derivatives(t: Any) -> tuple[jax.Array, jax.Array]:
        slope, curvature = problem.derivatives(state.logits + t * slopes, slopes)
        return slope + linear + t * square, curvature + square

    def seeking(carry: tuple) -> jax.Array:
        return (jnp.abs(carry[1]) > _CLOSE * begins) & (carry[-1] < _TRIES)

    def closer(carry: tuple) -> tuple:
        t, slope, curvature, low, high, tries = carry
        low, high = jnp.where(slope < 0, t, low), jnp.where(slope < 0, high, t)
        newton = t - slope / curvature
        beyond = jnp.where(jnp.isinf(high), 2 * t + 1, (low + high) / 2)
        t = jnp.where((newton > low) & (newton < high), newton, beyond)
        return t, *derivatives(t), low, high, tries + 1

    # The length of a gradient means nothing while no curvature is known: Newton's step from 0. Otherwise 1 mostly does.
    t = jnp.where(state.pairs > 0, 1, 0).astype(slopes.dtype)
    bounds = jnp.zeros_like(t), jnp.full_like(t, jnp.inf)
    return lax.while_loop(seeking, closer, (t, *derivatives(t), *bounds, 0))[0]


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.vdot(a, b, precision="highest")


def nats(logits: Array, targets: Array) -> jax.Array:
    """Nats [n]: softmax where targets are classes int32 [n], otherwise summed over sigmoid units [n, outputs]."""
    if targets.ndim == 1:
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    return jnp.sum(optax.sigmoid_binary_cross_entropy(logits, targets), -1)
