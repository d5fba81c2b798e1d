"""Images that live on the devices: a batch carries rows, and a small program gathers their images.

The program is not part of the step, so that the step is the same whatever feeds it.
"""

import functools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jft.data import transforms
from jft.data.feeds.images import Batch, Images, Rows
from jft.data.feeds.threads import made_ahead
from jft.data.source import Source
from jft.utils.mesh import DATA, FSDP, Parallel

_AXES = (DATA, FSDP)
_SHARDED = PartitionSpec(_AXES)  # along the first axis, over all devices

# Images on the devices, kept for as long as their source lives: {source: {(how they were decoded, mesh): array}}.
_placed: weakref.WeakKeyDictionary[Source, dict[tuple[Any, Mesh], jax.Array]] = weakref.WeakKeyDictionary()


class ResidentFeed:
    """A `Feed` whose batches hold `'row'`, int32 [b], in place of images. Needs `parallel.mode` 'jit'."""

    def __init__(self, images: Images, parallel: Parallel) -> None:
        """Decodes files and places all images, unless an earlier feed of the source has.

        Args:
          images: decoded, or files that fit in `cache_bytes`; none that the host resizes.
          parallel: the devices. Each holds an equal part of the rows, as uint8.

        Raises:
          ValueError: an image is unreadable; names it.
        """
        array = images.arrays()
        if array is None or images.resizes:
            raise ValueError(f"the images of {images.source.name!r} are not arrays of one size that fit in memory.")
        self._images, self._array, self._parallel = images, array, parallel
        key = (None if images.source.decoded else images.kept_as), parallel.mesh
        held = _placed.setdefault(images.source, {})
        if key not in held:
            held[key] = _place(array, parallel.mesh)
        self._held = held[key]
        self._gather = _make_gather(parallel.mesh, images.shape)

    def batches(self, rows: Rows, steps: range) -> Iterator[Batch]:
        """See `Feed.batches`."""
        source = self._images.source

        def batch(step: int) -> Batch:
            chosen, mask = rows(step)
            labels, indices = source.labels[chosen], source.indices[chosen]
            return {"row": chosen.astype(np.int32), "label": labels, "index": indices, "mask": mask}

        return made_ahead(batch, steps)

    def place(self, batch: Batch) -> dict[str, jax.Array]:
        """See `Feed.place`."""
        placed = self._parallel.place_batch({key: batch[key] for key in ("row", "label", "mask")})
        return {"image": self._gather(self._held, placed.pop("row")), **placed}

    def check(self, batch: Batch) -> None:
        """See `Feed.check`."""
        transforms.check_range(self._array[batch["row"]], self._images.reading.spec)


def nbytes_of(images: Images, parallel: Parallel) -> int:
    """Bytes on each device that the images would take."""
    return -(-len(images.source) // parallel.mesh.size) * int(np.prod(images.shape))


def nbytes_held(parallel: Parallel) -> int:
    """Bytes on each device that images take now."""
    arrays = [array for held in _placed.values() for (_, mesh), array in held.items() if mesh == parallel.mesh]
    return sum(array.nbytes for array in arrays) // parallel.mesh.size


def _place(array: np.ndarray, mesh: Mesh) -> jax.Array:
    """uint8 [n, h, w, 3] as [n or a few more, h * w * 3], sharded by rows; of other processes' rows nothing is sent."""
    flat = array.reshape(len(array), -1)  # some devices pad a last axis of 3 to 128
    rows = -(-len(flat) // mesh.size) * mesh.size

    def part(index: Any) -> np.ndarray:
        start, stop, _ = index[0].indices(rows)
        own = flat[start:stop]
        missing = stop - start - len(own)
        return np.pad(own, ((0, missing), (0, 0))) if missing else own

    return jax.make_array_from_callback((rows, flat.shape[1]), NamedSharding(mesh, _SHARDED), part)


@functools.lru_cache(maxsize=16)
def _make_gather(mesh: Mesh, shape: tuple[int, int, int]) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Makes `(images uint8 [n, h * w * 3], rows int32 [b]) -> uint8 [b, h, w, 3]`, all sharded by their first axis."""

    def gather(held: jax.Array, rows: jax.Array) -> jax.Array:
        if mesh.size == 1:
            return held.at[rows].get(mode="promise_in_bounds").reshape(-1, *shape)
        # Each device looks for every row among its own, and sends each device what it has found for that one's rows.
        wanted = jax.lax.all_gather(rows, _AXES, tiled=True) - len(held) * jax.lax.axis_index(_AXES)
        found = held.at[jnp.clip(wanted, 0, len(held) - 1)].get(mode="promise_in_bounds")
        found = jax.lax.all_to_all(found, _AXES, split_axis=0, concat_axis=0, tiled=True)
        found = found.reshape(mesh.size, len(rows), -1)  # by the device that it comes from
        return found.at[rows // len(held), jnp.arange(len(rows))].get(mode="promise_in_bounds").reshape(-1, *shape)

    specs: Any = {"in_specs": (_SHARDED, _SHARDED), "out_specs": _SHARDED}
    # JAX would name the same sharding otherwise on meshes with an axis of 1.
    return jax.jit(jax.shard_map(gather, mesh=mesh, **specs), out_shardings=NamedSharding(mesh, _SHARDED))
