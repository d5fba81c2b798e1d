"""Runs one step on any number of devices: a mesh, batches sharded over it, and states replicated or sharded.

A mesh has two axes. `data` holds copies of the state, `fsdp` parts of its large leaves (Rajbhandari et al., 2020,
"ZeRO"; Zhao et al., 2023, "PyTorch FSDP"): each device of an fsdp row keeps 1/m of them, and XLA gathers them where
they are used. The batch is spread over both axes. Which leaf is cut along which dimension is a rule on its shape alone,
so that a parameter and what the optimizer knows of it are cut alike.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jft.utils import compile_cache, waiting

# Names of the mesh's axes; DATA is also the axis under pmap.
DATA, FSDP = "data", "fsdp"

# Leaves with fewer elements are replicated: sharding them is not worth the communication.
SMALLEST_CUT = 2**16


@dataclasses.dataclass(frozen=True)
class Parallel:
    """Places states and batches on the devices, and compiles steps for them.

    Attributes:
      mode: 'jit', one program over the mesh in which the batch is global; or 'pmap', one program per device, in which
        the step sums over `axis_name` itself.
      mesh: the devices of all processes, those of one process side by side.
    """

    mode: str
    mesh: Mesh

    @property
    def axis_name(self) -> str | None:
        """The pmap axis over which the step and BatchNorm must sum; None under jit, where XLA does it."""
        return DATA if self.mode == "pmap" else None

    @property
    def shard(self) -> tuple[int, int]:
        """(i, n): this process reads the i-th of n equal parts of every batch."""
        processes = sorted({device.process_index for device in self.mesh.devices.flat})
        return processes.index(jax.process_index()), len(processes)

    def check_batch_size(self, size: int, *, what: str, parts: int = 1) -> None:
        """Raises a ValueError unless `size` images split evenly over the devices, in `parts` micro-batches."""
        unit = self.mesh.size * parts
        if size % unit:
            below = size // unit * unit
            near = " or ".join(str(n) for n in (below, below + unit) if n)
            raise ValueError(f"{what} = {size} does not divide over {self.mesh.size} devices x {parts}: use {near}.")

    def rounded(self, size: int) -> int:
        """The number of images, or the next larger one that splits evenly over the devices."""
        return -(-size // self.mesh.size) * self.mesh.size

    @property
    def replicated(self) -> NamedSharding:
        """The sharding of replicated arrays."""
        return NamedSharding(self.mesh, PartitionSpec())

    def sharding_of(self, shape: Sequence[int]) -> NamedSharding:
        """The sharding of a leaf of a state: replicated, or, if it is large, sharded along its longest dimension.

        Args:
          shape: of the leaf. It is cut along the longest of those dimensions that the axis fsdp divides.
        """
        parts = self.mesh.shape[FSDP]
        divisible = [n for n in shape if n % parts == 0]
        if parts == 1 or not divisible or np.prod(shape) < SMALLEST_CUT:
            return self.replicated
        where = list(shape).index(max(divisible))
        return NamedSharding(self.mesh, PartitionSpec(*[None] * where, FSDP))

    def shardings(self, state: Any) -> Any:
        """`sharding_of` each leaf of a pytree of arrays or shapes."""
        return jax.tree.map(lambda leaf: self.sharding_of(np.shape(leaf)), state)

    def abstract(self, state: Any) -> Any:
        """A pytree of arrays or shapes as `jax.ShapeDtypeStruct`s with their shardings, to compile or restore by."""
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self.sharding_of(leaf.shape)), state
        )

    def place_state(self, state: Any) -> Any:
        """Places a pytree of arrays, equal on every process, on the devices."""

        def place(leaf: Any, sharding: NamedSharding) -> jax.Array:
            if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
                return jax.device_put(leaf, sharding)
            if sharding.is_fully_addressable:
                return jax.device_put(leaf, sharding)
            whole = np.asarray(leaf)
            return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

        return jax.tree.map(place, state, self.shardings(state))

    def place_batch(self, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """Shards the arrays of a batch over the devices along their first axis.

        Args:
          batch: this process' part of each array, see `shard`.

        Returns:
          The arrays of all processes together; under pmap [devices, batch / devices, ...].
        """
        if self.mode == "pmap":
            local = self.mesh.size // self.shard[1]
            batch = {k: v.reshape(local, -1, *v.shape[1:]) for k, v in batch.items()}
        sharding = NamedSharding(self.mesh, PartitionSpec((DATA, FSDP)))
        if sharding.is_fully_addressable:
            return jax.device_put(dict(batch), sharding)
        return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}

    def compile(self, step: Callable, state: Any, batch: Any, *, donate: bool) -> jax.stages.Compiled:
        """Compiles a step for the shapes of its arguments, once: other shapes are an error afterwards.

        Args:
          step: a pure step, `(TrainState, batch) -> (TrainState, told)` or `(variables, batch) -> told`.
          state: from `place_state`, or `abstract`.
          batch: from `place_batch`.
          donate: the step is of the first kind; its state's memory is given to the result, and the caller's is gone
            after a call.

        Returns:
          The compiled step, with JAX's `cost_analysis()` and `memory_analysis()`. What it tells is whole everywhere.
        """
        with waiting.during("compiling the training step" if donate else "compiling the forward pass"):
            return self._lowered(step, state, batch, donate).compile()

    def _lowered(self, step: Callable, state: Any, batch: Any, donate: bool) -> jax.stages.Lowered:
        donated = (0,) if donate else ()
        if self.mode == "pmap":
            # The state goes in and comes out whole, the same on every device, as it does under jit.
            devices = list(self.mesh.devices.flat)
            mapped = jax.pmap(step, DATA, in_axes=(None, 0), out_axes=None, devices=devices, donate_argnums=donated)
            return mapped.lower(state, batch)
        # Without out_shardings the compiler may shard the outputs differently, and the next call would not fit.
        out = (self.shardings(state), self.replicated) if donate else self.replicated
        whole = self._with_whole_parameters(step, donate)
        return jax.jit(whole, donate_argnums=donated, out_shardings=out).lower(state, batch)

    def _with_whole_parameters(self, step: Callable, trains: bool) -> Callable:
        """The step, beginning with parameters that are gathered; XLA would rather cut activations as they are cut."""
        if self.mesh.shape[FSDP] == 1:
            return step

        def gathered(tree: Any) -> Any:
            return jax.lax.with_sharding_constraint(tree, self.replicated)

        def whole(state: Any, batch: Any) -> Any:
            if not trains:
                return step(gathered(state), batch)
            return step(state.replace(params=gathered(state.params), teacher=gathered(state.teacher)), batch)

        return whole


def make_parallel(mode: str, mesh: Mapping[str, int] | None = None, devices: Sequence[Any] | None = None) -> Parallel:
    """A `Parallel` over devices, whose programs `compile_cache` keeps.

    Args:
      mode: 'jit' or 'pmap'.
      mesh: `{'data': copies, 'fsdp': parts}`; -1 for as many as there are devices for, 1 where an axis is left out.
        None: all copies.
      devices: by default those of all processes.

    Raises:
      ValueError: a mesh of other axes or another number of devices, or parts under pmap, which only makes copies.
    """
    devices = jax.devices() if devices is None else devices
    compile_cache.use()
    sizes = {DATA: 1, FSDP: 1, **(mesh or {DATA: -1})}
    told = f"mesh = {dict(mesh or {})}"
    if set(sizes) != {DATA, FSDP}:
        raise ValueError(f"{told}: its axes are {DATA!r} and {FSDP!r}.")
    if list(sizes.values()).count(-1) > 1 or any(size < 1 and size != -1 for size in sizes.values()):
        raise ValueError(f"{told}: each axis is 1 or more, and one of them may be -1, for all devices there are.")
    known = int(np.prod([size for size in sizes.values() if size > 0]))
    sizes = {axis: len(devices) // known if size == -1 else size for axis, size in sizes.items()}
    if sizes[DATA] * sizes[FSDP] != len(devices):
        raise ValueError(
            f"{told} does not fit {len(devices)} devices: use {{'data': -1}} for any number, or sizes whose product is "
            f"{len(devices)}."
        )
    if mode == "pmap" and sizes[FSDP] > 1:
        raise ValueError(f"{told} cuts the state into parts, and parallel = 'pmap' copies it: use parallel = 'jit'.")
    # The devices of a process hold neighboring rows of the batch, which is the part that the process reads.
    ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
    return Parallel(mode, Mesh(np.array(ordered).reshape(sizes[DATA], sizes[FSDP]), (DATA, FSDP)))
