"""One step on one device and on several, under jit and pmap, the state in copies and in parts: the same figures."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from on_demand import on_demand
from parallel_case import alone, run

from jft.models import abstract_variables, create_model
from jft.utils.mesh import make_parallel

of_pairs = pytest.mark.xdist_group("pairs")  # as in test_distributed.py: one worker trains on one device for all
two_devices = on_demand("four and eight are always run")


@pytest.mark.parametrize(
    ("mode", "mesh"),
    [
        pytest.param("jit", {"data": 2}, marks=two_devices),
        ("jit", {"data": -1}),
        ("jit", {"data": 2, "fsdp": 4}),
        ("jit", {"data": 1, "fsdp": 4}),
        pytest.param("pmap", {"data": 2}, marks=two_devices),
        ("pmap", {"data": 8}),
    ],
    ids=str,
)
@of_pairs
def test_devices_do_not_change_the_figures(mode, mesh):
    count = 8 if -1 in mesh.values() else mesh["data"] * mesh.get("fsdp", 1)
    found, one = run(mode, mesh, jax.devices()[:count]), alone()
    np.testing.assert_allclose(found["losses"], one["losses"], rtol=1e-5)
    assert (found["count"], found["correct"]) == (100, one["correct"])
    np.testing.assert_allclose(found["loss"], one["loss"], rtol=1e-5)
    # Of every image, in the images' order.
    np.testing.assert_allclose(found["probabilities"], one["probabilities"], rtol=1e-3, atol=1e-5)
    if mesh.get("fsdp", 1) != 1:
        assert found["bytes"] < found["whole_bytes"] / 2
    else:
        assert found["bytes"] == found["whole_bytes"]


@on_demand("micro-batches on one device and whole batches on several are always run")
@of_pairs
def test_micro_batches_on_several_devices():
    found = run("jit", {"data": 2, "fsdp": 4}, steps=5, accumulate=2)
    one = run("jit", {"data": 1}, jax.devices()[:1], steps=5, accumulate=2)
    np.testing.assert_allclose(found["losses"], one["losses"], rtol=1e-5)


def test_batch_sizes_that_do_not_divide():
    parallel = make_parallel("jit")
    parallel.check_batch_size(32, what="batch_size", parts=2)
    with pytest.raises(ValueError, match="batch_size = 24 does not divide over 8 devices x 2: use 16 or 32"):
        parallel.check_batch_size(24, what="batch_size", parts=2)
    with pytest.raises(ValueError, match="eval_batch_size = 3 does not divide over 8 devices x 1: use 8"):
        parallel.check_batch_size(3, what="eval_batch_size")


@pytest.mark.parametrize(
    ("mode", "mesh", "message"),
    [
        ("jit", {"data": 3}, r"mesh = \{'data': 3\} does not fit 8 devices: use \{'data': -1\} .* product is 8"),
        ("jit", {"data": -1, "fsdp": 3}, "does not fit 8 devices"),
        ("jit", {"data": -1, "fsdp": -1}, "one of them may be -1"),
        ("jit", {"data": 0}, "each axis is 1 or more"),
        ("jit", {"model": 8}, "its axes are 'data' and 'fsdp'"),
        ("pmap", {"data": 4, "fsdp": 2}, "use parallel = 'jit'"),
    ],
    ids=str,
)
def test_meshes_that_there_are_not(mode, mesh, message):
    with pytest.raises(ValueError, match=message):
        make_parallel(mode, mesh)


def test_large_leaves_are_cut_by_their_shape():
    parallel = make_parallel("jit", {"data": 2, "fsdp": 4})
    cut = {(25088, 4096): 0, (4096, 25088): 1, (3, 3, 512, 512): 2, (1000, 6, 100): 0}
    for shape, dimension in cut.items():
        spec = parallel.sharding_of(shape).spec
        assert list(spec).index("fsdp") == dimension and len(spec) == dimension + 1, shape
    for shape in ((), (4096,), (255, 255), (2001, 2001)):  # small, or of a size that 4 does not divide
        assert parallel.sharding_of(shape) == parallel.replicated, shape


def test_vgg19_with_adam_in_eighths():
    """At most a sixth of a copy's bytes on each device, counted from the arrays' shards."""
    parallel = make_parallel("jit", {"data": 1, "fsdp": 8})
    shapes = abstract_variables(create_model("vgg19", num_classes=1000), 224)["params"]

    def begin():
        params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return params, optax.scale_by_adam().init(params)

    state = jax.jit(begin, out_shardings=parallel.shardings(jax.eval_shape(begin)))()
    leaves = jax.tree.leaves(state)
    whole = sum(leaf.nbytes for leaf in leaves)
    assert whole == 4 * (3 * 143_667_240 + 1)
    for device in jax.devices():
        held = [shard.data.nbytes for leaf in leaves for shard in leaf.addressable_shards if shard.device == device]
        assert len(held) == len(leaves) and sum(held) <= whole / 6
