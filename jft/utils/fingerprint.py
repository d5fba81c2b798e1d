"""Fingerprints of arrays, computed on the devices: the same for any number of devices and any sharding.

A word of an array is mixed with its place, and the mixtures are added modulo 2^32: exact in any order, so devices add
up their parts. The mixing is one to one, so that a change of any one word shows with certainty; others go unseen once
in 2^32. It guards against accidents, not against forgery.
"""

import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

_WORDS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


def fingerprints(arrays: Any) -> dict[str, int]:
    """A number of 32 bits for each leaf of a pytree, by its path such as `['params']['head']['kernel']`.

    Args:
      arrays: leaves of at most 4 bytes an element, on any devices.
    """
    flat, _ = jax.tree_util.tree_flatten_with_path(arrays)
    # Leaf by leaf: leaves of one shape share a program, and so do runs. All are on their way before the first is read.
    numbers = [_of_leaf(leaf) for _, leaf in flat]
    return {jax.tree_util.keystr(path): int(number) for (path, _), number in zip(flat, numbers, strict=True)}


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


def _mix(x: jax.Array) -> jax.Array:
    """The finaliser of MurmurHash3 (Appleby, 2011): one to one, and each bit moves about half of the others."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
