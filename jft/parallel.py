"""One step on any number of devices: a 1-D mesh, the state on every device, the batch spread over them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

# Name of the mesh's axis, and of the axis under pmap.
AXIS = "data"


@dataclasses.dataclass(frozen=True)
class Parallel:
    """Places states and batches on the devices, and compiles steps for them.

    Attributes:
      mode: 'jit', one program over the mesh in which the batch is global; or 'pmap', one program per device, in which
        the step sums over `axis_name` itself.
      mesh: the devices.
    """

    mode: str
    mesh: Mesh

    @property
    def axis_name(self) -> str | None:
        """What the step and BatchNorm must sum over themselves; None under jit, where XLA does."""
        return AXIS if self.mode == "pmap" else None

    def check_batch_size(self, size: int, *, what: str, parts: int = 1) -> None:
        """Raises a ValueError unless `size` pictures split evenly over the devices, in `parts` micro-batches."""
        unit = self.mesh.size * parts
        if size % unit:
            below = size // unit * unit
            near = " or ".join(str(n) for n in (below, below + unit) if n)
            raise ValueError(f"{what} = {size} does not divide over {self.mesh.size} devices x {parts}: use {near}.")

    def place_state(self, state: Any) -> Any:
        """Copies a pytree of arrays to every device."""
        return jax.device_put(state, NamedSharding(self.mesh, PartitionSpec()))

    def place_batch(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        """Spreads the arrays of a batch over the devices by their first axis."""
        if self.mode == "pmap":
            batch = {k: v.reshape(self.mesh.size, -1, *v.shape[1:]) for k, v in batch.items()}
        return jax.device_put(batch, NamedSharding(self.mesh, PartitionSpec(AXIS)))

    def compile(self, step: Callable, state: Any, batch: Any, *, donate: bool) -> jax.stages.Compiled:
        """Compiles `step(state, batch)` for the shapes of its arguments, once: other shapes are an error afterwards.

        Args:
          step: a pure step.
          state: from `place_state`.
          batch: from `place_batch`.
          donate: give the state's memory to the result; the caller's state is gone after a call.

        Returns:
          The compiled step, with JAX's `cost_analysis()` and `memory_analysis()`.
        """
        donated = (0,) if donate else ()
        if self.mode == "pmap":
            # The state goes in and comes out whole, the same on every device, as it does under jit.
            mapped = jax.pmap(step, AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=donated)
            return mapped.lower(state, batch).compile()
        # Without out_shardings the compiler may shard what it returns, and the next call would not fit.
        jitted = jax.jit(step, donate_argnums=donated, out_shardings=NamedSharding(self.mesh, PartitionSpec()))
        return jitted.lower(state, batch).compile()


def make_parallel(mode: str, devices: list[jax.Device] | None = None) -> Parallel:
    """A `Parallel` over the given devices, by default all of this process's backend."""
    devices = jax.devices() if devices is None else devices
    return Parallel(mode, Mesh(np.array(devices), (AXIS,)))
