"""Kernels against plain JAX in float64, by finite differences, and on several devices."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.test_util import check_grads

from jft.models import kernels, layers

EPSILON = 1e-3
SHAPES = [(2, 5, 3, 4), (8, 1, 1, 3), (3, 7, 7, 1), (6, 5), (2, 8, 8, 3), (2, 11, 11, 2), (2, 71, 1, 3), (1, 19, 19, 2)]


def values(*shape, seed=0, kind=np.float64):
    return np.random.default_rng(seed).normal(1, 2, shape).astype(kind)


def plain_norm(x, scale, bias):
    axes = tuple(range(x.ndim - 1))
    mean, variance = jnp.mean(x, axes), jnp.var(x, axes)
    return (x - mean) / jnp.sqrt(variance + EPSILON) * scale + bias, mean, variance


def norm(x, scale, bias, axis_name=None):
    return kernels.batch_norm(x, scale, bias, EPSILON, axis_name)


def plain_conv(x, kernel):
    return jnp.einsum("bhwi,io->bhwo", x, kernel)


def close(found, wanted, tolerance):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.max(np.abs(b))))


@pytest.mark.parametrize(
    "shape", [*SHAPES[::2], *(pytest.param(shape, marks=pytest.mark.slow) for shape in SHAPES[1::2])]
)
def test_batch_norm_and_its_gradient(shape):
    with jax.enable_x64(True):
        arguments = values(*shape), values(shape[-1], seed=1), values(shape[-1], seed=2)
        ours, back = jax.vjp(jax.jit(lambda *a: norm(*a)[0]), *arguments)
        wanted, plain_back = jax.vjp(lambda *a: plain_norm(*a)[0], *arguments)
        cotangent = values(*shape, seed=3)
        close(ours, wanted, 1e-10)
        close(back(cotangent), plain_back(cotangent), 1e-10)
        close(norm(*arguments)[1:], plain_norm(*arguments)[1:], 1e-10)
        check_grads(lambda *a: norm(*a)[0], arguments, order=1, modes=["rev"])


@pytest.mark.parametrize("side", [112, 113])
def test_sums_of_many_values_keep_their_digits(side):
    """A product over all of them at once is off by 1.5e-4 of the variance here, XLA's own sums by 6e-6."""
    x = values(8, side, side, 16, kind=np.float32)
    _, mean, variance = norm(x, np.ones(16, np.float32), np.zeros(16, np.float32))
    wide = x.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean((0, 1, 2)), rtol=5e-6)
    np.testing.assert_allclose(variance, wide.var((0, 1, 2)), rtol=2e-5)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, jnp.bfloat16])
def test_residual_is_relu_of_the_sum_bit_for_bit(dtype):
    with jax.enable_x64(dtype == np.float64):
        y, shortcut = (jnp.asarray(values(3, 5, 4, 7, seed=seed), dtype) for seed in (0, 1))
        y = y.at[0].set(-shortcut[0]).at[1, 0].set(jnp.inf).at[1, 1].set(jnp.nan)  # sums that are 0, inf and NaN
        ours, back = jax.vjp(jax.jit(kernels.residual), y, shortcut)
        wanted, plain_back = jax.vjp(lambda y, shortcut: nn.relu(y + shortcut), y, shortcut)
        np.testing.assert_array_equal(*(np.asarray(map_, np.float64) for map_ in (ours, wanted)))
        cotangent = jnp.asarray(values(*y.shape, seed=3), dtype)
        for found, expected in zip(back(cotangent), plain_back(cotangent), strict=True):
            np.testing.assert_array_equal(*(np.asarray(map_, np.float64) for map_ in (found, expected)))


@pytest.mark.parametrize(
    ("ours", "plain", "x", "parameter"),
    [
        (kernels.conv_1x1, plain_conv, (2, 5, 3, 4), (4, 6)),
        (kernels.conv_1x1, plain_conv, (2, 5, 3, 6), (6, 4)),  # narrower outputs are transposed in place of inputs
        (kernels.conv_1x1, plain_conv, (1, 1, 1, 2), (2, 6)),
        (kernels.dense, jnp.dot, (3, 20), (20, 7)),  # a kernel that is larger than the batch of gradients
        (kernels.dense, jnp.dot, (30, 4), (4, 5)),  # and a smaller one
        (kernels.add_bias, jnp.add, (2, 9, 7, 3), (3,)),
        (kernels.add_bias, jnp.add, (5, 3), (3,)),
    ],
)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_an_operation_and_its_gradient(monkeypatch, elsewhere, ours, plain, x, parameter):
    if elsewhere:
        as_elsewhere(monkeypatch)
    with jax.enable_x64(True):
        arguments = values(*x), values(*parameter, seed=1)
        y, back = jax.vjp(jax.jit(ours), *arguments)
        wanted, plain_back = jax.vjp(plain, *arguments)
        cotangent = values(*wanted.shape, seed=3)
        close(y, wanted, 1e-12)
        close(back(cotangent), plain_back(cotangent), 1e-12)
        check_grads(ours, arguments, order=1, modes=["rev"])


def as_elsewhere(monkeypatch):
    """What is lowered for platforms other than CPUs, on this one."""
    monkeypatch.setattr(lax, "platform_dependent", lambda *a, default, **_: default(*a))


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_on_every_platform_in_every_type(monkeypatch, elsewhere, dtype):
    if elsewhere:
        as_elsewhere(monkeypatch)
    x, kernel = values(4, 6, 6, 8, kind=np.float32), values(8, 5, seed=1, kind=np.float32)
    scale, bias = values(8, seed=2, kind=np.float32), values(8, seed=3, kind=np.float32)
    tolerance = 1e-5 if dtype == np.float32 else 2e-2

    def ours(x, kernel, scale, bias):
        return kernels.conv_1x1(norm(x.astype(dtype), scale, bias)[0], kernel.astype(dtype))

    def plain(x, kernel, scale, bias):
        return plain_conv(plain_norm(x, scale, bias)[0], kernel)

    y, back = jax.vjp(ours, x, kernel, scale, bias)
    assert y.dtype == dtype and norm(jnp.asarray(x, dtype), scale, bias)[1].dtype == jnp.float32
    wanted, plain_back = jax.vjp(plain, x, kernel, scale, bias)
    close(y.astype(np.float32), wanted, tolerance)
    cotangent = values(*wanted.shape, seed=4, kind=np.float32)
    close(back(jnp.asarray(cotangent, dtype)), plain_back(cotangent), tolerance)


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-6), (jnp.bfloat16, 1e-2)])
def test_gelu_and_its_gradient(monkeypatch, elsewhere, dtype, tolerance):
    if elsewhere:
        as_elsewhere(monkeypatch)
    with jax.enable_x64(True):
        x = np.concatenate([values(40), np.linspace(-40, 40, 9)])
        wanted, plain_back = jax.vjp(functools.partial(nn.gelu, approximate=False), x)
        found, back = jax.vjp(kernels.gelu, jnp.asarray(x, dtype))
        cotangent = values(*x.shape, seed=3)
        (gradient,) = back(jnp.asarray(cotangent, dtype))
        assert found.dtype == gradient.dtype == dtype
        close((np.float64(found), np.float64(gradient)), (wanted, *plain_back(cotangent)), tolerance)
        check_grads(kernels.gelu, (values(5),), order=1, modes=["rev"])


def plain_groups(x, kernel, strides, pads, groups=None):
    numbers = ("NHWC", "HWIO", "NHWC")
    groups = groups or x.shape[-1]
    return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=numbers, feature_group_count=groups)


DEPTHWISE = [  # input, window, strides, padding
    ((2, 7, 6, 3), (3, 3), (1, 1), ((1, 1), (1, 1))),
    ((2, 9, 8, 2), (3, 3), (2, 2), ((0, 1), (0, 1))),
    ((1, 8, 9, 2), (5, 5), (2, 2), ((2, 2), (1, 2))),
    ((1, 11, 5, 2), (7, 7), (1, 1), ((3, 3), (3, 3))),  # more products than are written out: a padded copy
    ((1, 19, 18, 2), (3, 5), (2, 3), ((-1, 1), (5, -2))),  # outputs that see nothing but padding; cropped pixels
    ((2, 1, 1, 2), (3, 3), (2, 2), ((1, 1), (1, 1))),
    ((1, 4, 5, 2), (1, 1), (3, 2), ((0, 0), (0, 0))),  # inputs that no output reads
    ((1, 2, 6, 2), (3, 3), (1, 1), ((0, 0), (0, 0))),  # no output
]


@pytest.mark.parametrize(("shape", "window", "strides", "pads"), DEPTHWISE)
def test_depthwise_and_its_gradient(shape, window, strides, pads):
    with jax.enable_x64(True):
        arguments = values(*shape), values(*window, 1, shape[-1], seed=1)
        y, back = jax.vjp(lambda *a: kernels.depthwise(*a, strides, pads), *arguments)
        wanted, plain_back = jax.vjp(lambda *a: plain_groups(*a, strides, pads), *arguments)
        assert y.shape == wanted.shape
        cotangent = values(*wanted.shape, seed=3)
        if y.size:
            close((y, back(cotangent)), (wanted, plain_back(cotangent)), 1e-10)


@pytest.mark.parametrize(
    ("inputs", "outputs", "groups", "strides", "pads"),
    [
        (6, 9, 3, (1, 2), ((1, 1), (0, 2))),  # all groups in one block
        (40, 20, 5, (2, 1), ((1, 0), (-1, 1))),  # blocks of one group would be too narrow, and five has no other parts
        (32, 16, 16, (1, 1), ((1, 1), (1, 1))),  # two blocks of eight groups
        (36, 36, 2, (1, 1), ((0, 0), (0, 0))),  # a block for each group
        (18, 36, 18, (1, 1), ((1, 1), (1, 1))),  # two outputs for each input
    ],
)
def test_groups_and_their_gradient(inputs, outputs, groups, strides, pads):
    with jax.enable_x64(True):
        arguments = values(2, 5, 6, inputs), values(3, 3, inputs // groups, outputs, seed=1)
        y, back = jax.vjp(lambda *a: kernels.grouped(*a, strides, pads, groups), *arguments)
        wanted, plain_back = jax.vjp(lambda *a: plain_groups(*a, strides, pads, groups), *arguments)
        cotangent = values(*wanted.shape, seed=3)
        close((y, back(cotangent)), (wanted, plain_back(cotangent)), 1e-10)


def test_depthwise_by_finite_differences():
    with jax.enable_x64(True):
        arguments = values(1, 5, 4, 2), values(3, 3, 1, 2, seed=1)
        check_grads(lambda *a: kernels.depthwise(*a, (2, 1), ((1, 1), (0, 1))), arguments, order=1, modes=["rev"])


@pytest.mark.parametrize("elsewhere", [False, True])
def test_depthwise_keeps_bfloat16(monkeypatch, elsewhere):
    if elsewhere:
        as_elsewhere(monkeypatch)
    strides, pads = (2, 2), ((1, 1), (1, 1))
    x, kernel = values(2, 6, 6, 4, kind=np.float32), values(3, 3, 1, 4, seed=1, kind=np.float32)
    y, back = jax.vjp(lambda *a: kernels.depthwise(*a, strides, pads), *(a.astype(jnp.bfloat16) for a in (x, kernel)))
    wanted, plain_back = jax.vjp(lambda *a: plain_groups(*a, strides, pads), x, kernel)
    cotangent = values(*wanted.shape, seed=3, kind=np.float32)
    found = y, *back(cotangent.astype(jnp.bfloat16))
    assert {a.dtype for a in found} == {jnp.dtype(jnp.bfloat16)}
    close([a.astype(np.float32) for a in found], (wanted, *plain_back(cotangent)), 3e-2)


@pytest.mark.parametrize(
    ("convolve", "inputs", "more"),
    [(kernels.depthwise, 1, ()), (kernels.grouped, 2, (3,))],
    ids=["depthwise", "grouped"],
)
def test_elsewhere_they_are_xla_s_convolutions(monkeypatch, convolve, inputs, more):
    as_elsewhere(monkeypatch)
    x, kernel, how = jnp.ones((1, 5, 5, 3 * inputs)), jnp.ones((3, 3, inputs, 3)), ((1, 1), ((1, 1), (1, 1)), *more)

    def all_three(x, kernel):
        y, back = jax.vjp(lambda *a: convolve(*a, *how), x, kernel)
        return y, back(y)

    text = jax.jit(all_three).lower(x, kernel).as_text()
    assert text.count("stablehlo.convolution") == 3


@pytest.mark.parametrize("how", ["mesh", "pmap", "vmap"])
def test_devices_share_a_depthwise_convolution(how):
    devices, strides, pads = jax.devices()[:4], (2, 2), ((1, 1), (1, 1))
    x, kernel = values(8, 5, 5, 2, kind=np.float32), values(3, 3, 1, 2, seed=1, kind=np.float32)
    cotangent = values(8, 3, 3, 2, seed=3, kind=np.float32)

    def both(x, cotangent):
        y, back = jax.vjp(lambda *a: kernels.depthwise(*a, strides, pads), x, kernel)
        return y, *back(cotangent)

    y, back = jax.vjp(lambda *a: plain_groups(*a, strides, pads), x, kernel)
    if how == "mesh":
        sharding = NamedSharding(Mesh(np.array(devices), ("data",)), PartitionSpec("data"))
        found = jax.jit(both)(*(jax.device_put(a, sharding) for a in (x, cotangent)))
    else:
        parts = (a.reshape(4, 2, *a.shape[1:]) for a in (x, cotangent))
        spread = (jax.vmap(both) if how == "vmap" else jax.pmap(both, devices=devices))(*parts)
        found = spread[0].reshape(y.shape), spread[1].reshape(x.shape), spread[2].sum(0)
    close(found, (y, *back(cotangent)), 1e-5)


@pytest.mark.parametrize("how", ["mesh", "pmap"])
def test_devices_normalize_by_the_whole_batch(how):
    devices = jax.devices()[:4]
    x, scale, bias = values(8, 3, 3, 2, kind=np.float32), np.float32([1, 2]), np.float32([0, 1])
    cotangent = values(*x.shape, seed=3, kind=np.float32)

    def both(x, cotangent, axis_name=None):
        y, back = jax.vjp(lambda *a: norm(*a, axis_name), x, scale, bias)
        return *y, *back((cotangent, *map(jnp.zeros_like, y[1:])))

    wanted = both(x, cotangent)
    if how == "mesh":
        mesh = jax.make_mesh((4,), ("data",), devices=devices)
        sharding = NamedSharding(mesh, PartitionSpec("data"))
        found = jax.jit(both)(*(jax.device_put(a, sharding) for a in (x, cotangent)))
    else:
        parts = (a.reshape(4, 2, *a.shape[1:]) for a in (x, cotangent))
        spread = jax.pmap(functools.partial(both, axis_name="i"), axis_name="i", devices=devices)(*parts)
        y, mean, variance, dx, dscale, dbias = spread
        # Gradients of parameters are those of each device's images, to be added up by who wants them.
        found = y.reshape(x.shape), mean[0], variance[3], dx.reshape(x.shape), dscale.sum(0), dbias.sum(0)
    close(found, wanted, 1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"strides": 2, "padding": 0, "use_bias": False},
        {"strides": (2, 1)},
        {"padding": 1, "use_bias": False},
        {"feature_group_count": 2, "padding": 0},
        {"kernel_size": (3, 3), "padding": 1, "strides": 2},
        {"kernel_size": (3, 3), "padding": ((0, 1), (2, 0)), "feature_group_count": 2},
        {"kernel_size": (5, 1), "padding": "VALID", "use_bias": False},
        {"kernel_size": (3, 3), "padding": "SAME", "strides": 2, "feature_group_count": 4, "features": 4},
        {"kernel_size": (3, 3), "padding": 1, "feature_group_count": 4, "features": 8},
    ],
)
def test_a_layer_is_flax_s(options):
    options = {"kernel_size": (1, 1), "features": 6, **options}
    x = values(2, 7, 6, 4, kind=np.float32)
    plain, ours = nn.Conv(**options), layers.Conv(**options)
    variables = jax.tree.map(lambda leaf: values(*leaf.shape, kind=np.float32), plain.init(jax.random.key(0), x))
    assert jax.tree.map(jnp.shape, ours.init(jax.random.key(0), x)) == jax.tree.map(jnp.shape, variables)
    wanted, back = jax.vjp(plain.apply, variables, x)
    found, our_back = jax.vjp(ours.apply, variables, x)
    close(found, wanted, 1e-5)
    cotangent = values(*wanted.shape, seed=3, kind=np.float32)
    close(our_back(cotangent), back(cotangent), 1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        lambda x: kernels.max_pool(x, (3, 3), 2, ((1, 1), (1, 1))),
        lambda x: kernels.depthwise(x, jnp.ones((3, 3, 1, 4)), (2, 2), ((1, 1), (1, 1))),
        lambda x: kernels.conv_1x1(x, jnp.ones((4, 5))),
        lambda x: kernels.residual(x, x),
        lambda x: kernels.dense(x[:, 0, 0], jnp.ones((4, 5))),
    ],
)
def test_a_program_is_exported_for_any_batch(layer):
    (batch,) = jax.export.symbolic_shape("batch")
    program = jax.export.export(jax.jit(layer))(jax.ShapeDtypeStruct((batch, 7, 7, 4), np.float32))
    x = values(3, 7, 7, 4, kind=np.float32)
    close(program.call(x), layer(x), 1e-6)


def test_a_dense_layer_is_flax_s():
    x = values(3, 4, kind=np.float32)
    plain, ours = nn.Dense(6), layers.Dense(6)
    variables = jax.tree.map(lambda leaf: values(*leaf.shape, kind=np.float32), plain.init(jax.random.key(0), x))
    assert jax.tree.map(jnp.shape, ours.init(jax.random.key(0), x)) == jax.tree.map(jnp.shape, variables)
    close(ours.apply(variables, x), plain.apply(variables, x), 1e-6)


def test_statistics_move_as_flax_s():
    x = values(4, 3, 3, 5, kind=np.float32)
    plain = nn.BatchNorm(momentum=0.9, epsilon=1e-5, use_running_average=False)
    variables = plain.init(jax.random.key(0), x)
    wanted = plain.apply(variables, x, mutable=["batch_stats"])
    found = layers.BatchNorm().apply(variables, x, train=True, mutable=["batch_stats"])
    close(found, wanted, 1e-5)
