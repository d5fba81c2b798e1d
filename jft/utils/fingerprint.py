"""Fingerprints of arrays, computed where they lie: the same on the host and for any number of devices and any sharding.

A word of an array is mixed with its place, and the mixtures are added modulo 2^32: exact in any order, so devices add
up their parts. The mixing is one to one, so that a change of any one word shows with certainty; others go unseen once
in 2^32. It guards against accidents, not against forgery.
"""

import os
import zlib
from collections.abc import Mapping, Sequence
from concurrent import futures
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_BLOCK = 2**15  # words that NumPy mixes at a time, in a processor's cache
_WORDS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


def fingerprints(arrays: Any) -> dict[str, int]:
    """A number of 32 bits for each leaf of a pytree, by its path such as `['params']['head']['kernel']`.

    Args:
      arrays: leaves of at most 4 bytes an element, on any devices.
    """
    flat, _ = jax.tree_util.tree_flatten_with_path(arrays)
    leaves = [leaf for _, leaf in flat]
    numbers = on_host(leaves) if all(map(_is_on_host, leaves)) else on_devices(leaves)
    return {jax.tree_util.keystr(path): number for (path, _), number in zip(flat, numbers, strict=True)}


def _is_on_host(leaf: Any) -> bool:
    if not isinstance(leaf, jax.Array):
        return True
    return leaf.is_fully_addressable and all(device.platform == "cpu" for device in leaf.devices())


def on_devices(leaves: Sequence[Any]) -> list[int]:
    """Numbers of arrays, each computed where it lies."""
    # Leaf by leaf: leaves of one shape share a program, and so do runs. All are on their way before the first is read.
    return [int(number) for number in [_of_leaf(leaf) for leaf in leaves]]


def on_host(leaves: Sequence[Any]) -> list[int]:
    """The same of arrays in the host's memory: NumPy is done before programs for all their shapes are loaded."""
    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda leaf: _of_array(np.asarray(leaf)), leaves))


def combined(numbers: Mapping[str, int]) -> str:
    """One fingerprint of the names and values of many, in hexadecimal digits."""
    told = "\n".join(f"{name} {number}" for name, number in sorted(numbers.items()))
    return f"{zlib.crc32(told.encode()):08x}"


@jax.jit
def _of_leaf(leaf: jax.Array) -> jax.Array:
    if leaf.dtype == jnp.bool_:
        leaf = leaf.astype(jnp.uint8)
    words = jax.lax.bitcast_convert_type(leaf, _WORDS[leaf.dtype.itemsize]).astype(jnp.uint32)
    # Positions are computed for each dimension: flattening would gather a sharded array.
    place = jnp.zeros(leaf.shape, jnp.uint32)
    for dimension, size in enumerate(leaf.shape):
        place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, dimension)
    mixed = _mix(words ^ _mix(place + jnp.uint32(0x9E3779B9)))
    return jnp.sum(mixed, dtype=jnp.uint32)


def _of_array(leaf: np.ndarray) -> int:
    words = np.ascontiguousarray(leaf).reshape(-1).view(f"u{leaf.dtype.itemsize}")
    total = 0
    for start in range(0, len(words), _BLOCK):
        block = words[start : start + _BLOCK].astype(np.uint32)
        place = np.arange(start, start + len(block), dtype=np.uint64).astype(np.uint32)
        total += int(_mix(block ^ _mix(place + np.uint32(0x9E3779B9))).sum(dtype=np.uint64))
    return total % 2**32


def _mix(x: Any) -> Any:
    """The finaliser of MurmurHash3 (Appleby, 2011): one to one, and each bit moves about half of the others."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
