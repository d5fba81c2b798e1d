"""Fingerprints: the same wherever an array lies, and others for other values, places and names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jft.utils import fingerprint
from jft.utils.fingerprint import fingerprints

RNG = np.random.default_rng(0)
ARRAYS = {
    "long": RNG.standard_normal((8, 40, 300), np.float32),  # more than one block
    "scalar": np.float32(3),
    "empty": np.zeros((0, 3), np.float32),
    "whole": np.int32(-7),
    "half": RNG.standard_normal((3, 5)).astype(jnp.bfloat16),
    "bytes": np.arange(-4, 4, dtype=np.int8),
    "flags": np.array([[True, False], [False, False]]),
    "turned": RNG.standard_normal((6, 9)).astype(np.float32).T,
}


@pytest.mark.parametrize("name", ARRAYS)
def test_host_and_devices_compute_the_same(name):
    array = ARRAYS[name]
    on_device = jnp.asarray(array)
    assert fingerprint.on_host([array]) == fingerprint.on_devices([on_device]) == fingerprint.on_host([on_device])
    assert fingerprints({name: array}) == {f"['{name}']": fingerprint.on_host([array])[0]}


def test_an_array_that_is_cut_over_devices_has_that_of_the_whole():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    whole = ARRAYS["long"]
    cut = jax.device_put(whole, NamedSharding(mesh, PartitionSpec("data")))
    assert not cut.is_fully_replicated
    assert fingerprint.on_devices([cut]) == fingerprint.on_host([whole]) == list(fingerprints([cut]).values())


def test_what_devices_of_another_kind_hold_they_mix_themselves(monkeypatch):
    monkeypatch.setattr(fingerprint, "_is_on_host", lambda leaf: False)
    monkeypatch.setattr(fingerprint, "on_host", None)
    assert fingerprints(jnp.asarray(ARRAYS["long"])) == {"": fingerprint.on_devices([ARRAYS["long"]])[0]}


def test_any_change_is_another():
    whole = ARRAYS["long"]
    bit = whole.copy()
    bit.view(np.uint32)[7, 39, 299] ^= 1
    swapped = whole.copy()
    swapped[0, 0, [0, 1]] = whole[0, 0, [1, 0]]
    assert len(set(fingerprint.on_host([whole, bit, swapped, -whole]))) == 4
