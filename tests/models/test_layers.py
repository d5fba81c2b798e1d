"""Layers against loops over NumPy arrays, XLA's own gradients, and torch's arithmetic of sizes."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hasty import AS_USERS

from jft.models import alexnet, create_model, layers, window_pooling
from jft.utils import tree


def windows(x, window, stride, before, out):
    """(row, column, what lies inside the image of the window that ends up there)."""
    for i, j in itertools.product(range(out), repeat=2):
        top, left = i * stride - before, j * stride - before
        yield i, j, x[:, max(top, 0) : top + window, max(left, 0) : left + window]


def loop_conv(x, kernel, bias, stride=1, padding=0, groups=1):
    side, outputs = kernel.shape[0], kernel.shape[-1]
    x = np.pad(np.asarray(x, np.float64), [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    out = (x.shape[1] - side) // stride + 1
    y = np.zeros((x.shape[0], out, out, outputs))
    inputs, width = x.shape[-1] // groups, outputs // groups
    for i, j, patch in windows(x, side, stride, 0, out):
        for g in range(groups):
            mine, ours = slice(g * inputs, (g + 1) * inputs), slice(g * width, (g + 1) * width)
            y[:, i, j, ours] = np.tensordot(patch[..., mine], kernel[..., ours], 3) + bias[ours]
    return y


def loop_lrn(x, size, alpha, beta, k=1.0):
    x, y = np.asarray(x, np.float64), np.zeros(x.shape)
    for c in range(x.shape[-1]):
        first, last = max(c - size // 2, 0), min(c + (size - 1) // 2, x.shape[-1] - 1)
        energy = sum(x[..., other] ** 2 for other in range(first, last + 1))
        y[..., c] = x[..., c] / (k + alpha / size * energy) ** beta
    return y


def loop_pool(x, reduce, window, stride, padding, out):
    y = np.zeros((x.shape[0], out, out, x.shape[-1]))
    for i, j, patch in windows(np.asarray(x, np.float64), window, stride, padding, out):
        y[:, i, j] = reduce(patch, axis=(1, 2))
    return y


def relu(x):
    return np.maximum(x, 0)


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.max(np.abs(wanted)))


def filled(module, x, seed=0):
    """The module with random leaves, biases too, and these by their names."""
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), x, train=False))["params"]
    rng = np.random.default_rng(seed)
    leaves = {
        name: rng.normal(0, np.sqrt(2 / np.prod(leaf.shape[:-1])) if name.endswith("kernel") else 0.2, leaf.shape)
        for name, leaf in tree.flatten(shapes).items()
    }
    leaves = {name: leaf.astype(np.float32) for name, leaf in leaves.items()}
    return lambda x: module.apply({"params": tree.unflatten(leaves)}, x, train=False), leaves


@pytest.mark.parametrize(("size", "alpha", "beta", "k"), [(5, 1e-4, 0.75, 1.0), (3, 0.5, 0.5, 2.0), (4, 0.1, 0.9, 1.0)])
def test_local_response_norm(size, alpha, beta, k):
    x = np.random.default_rng(0).normal(0, 150, (2, 3, 3, 7)).astype(np.float32)
    wanted = loop_lrn(x, size, alpha, beta, k)
    assert np.max(wanted / x) > 1.5 * np.min(wanted / x)  # the neighborhoods differ
    options = {"size": size, "alpha": alpha, "beta": beta, "k": k}
    close(layers.local_response_norm(x, **options), wanted)
    half = layers.local_response_norm(jnp.asarray(x, jnp.bfloat16), **options)
    assert half.dtype == jnp.bfloat16
    exact = loop_lrn(np.asarray(jnp.asarray(x, jnp.bfloat16), np.float32), size, alpha, beta, k)
    np.testing.assert_allclose(np.asarray(half, np.float32), exact, rtol=2**-8)  # rounded once, at the end


def test_local_response_norm_gradient():
    x = np.random.default_rng(1).normal(0, 3, (1, 1, 1, 6))
    options = {"size": 5, "alpha": 0.3, "beta": 0.75}
    weights = np.arange(1.0, 7)
    found = jax.grad(lambda x: jnp.sum(weights * layers.local_response_norm(x, **options)))(jnp.asarray(x, jnp.float32))
    steps = 1e-4 * np.eye(6).reshape(6, 1, 1, 1, 6)
    wanted = [np.sum(weights * (loop_lrn(x + h, **options) - loop_lrn(x - h, **options))) / 2e-4 for h in steps]
    np.testing.assert_allclose(found.ravel(), wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize(
    ("size", "window", "stride", "padding", "out"),
    [(6, 3, 1, 1, 6), (14, 5, 3, 0, 4), (7, 3, 2, 1, 4)],
)
def test_avg_pool(size, window, stride, padding, out, count_include_pad):
    x = np.random.default_rng(0).normal(0, 1, (2, size, size, 3)).astype(np.float32)
    mean = (lambda p, axis: np.sum(p, axis=axis) / window**2) if count_include_pad else np.mean
    wanted = loop_pool(x, mean, window, stride, padding, out)

    def pool(x):
        return window_pooling.avg_pool(x, window, stride, padding=padding, count_include_pad=count_include_pad)

    close(pool(x), wanted)
    half = pool(jnp.asarray(x, jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(half, np.float32), wanted, atol=0.02)

    def reference(x):
        pads = [(padding, padding)] * 2
        return nn.avg_pool(x, (window,) * 2, (stride,) * 2, pads, count_include_pad=count_include_pad)

    weights = jax.random.normal(jax.random.key(1), wanted.shape)
    gradients = [jax.grad(lambda x, f=f: jnp.sum(weights * f(x)))(x) for f in (pool, reference)]
    np.testing.assert_allclose(*gradients, atol=1e-6)


def test_grouped_convolution():
    x = np.random.default_rng(0).normal(0, 1, (2, 6, 6, 4)).astype(np.float32)
    conv = layers.Conv(6, (5, 5), padding=2, feature_group_count=2)
    variables = conv.init(jax.random.key(0), x)
    kernel = np.asarray(variables["params"]["kernel"])
    assert kernel.shape == (5, 5, 2, 6)
    close(conv.apply(variables, x), loop_conv(x, kernel, np.zeros(6), padding=2, groups=2))


@pytest.mark.parametrize(
    ("name", "width", "size", "options", "pooled"),
    [
        ("conv1", 8, 31, {"stride": 4}, 3),  # 6 pixels after the convolution: the pool's last window is cut
        ("conv2", 6, 8, {"padding": 2, "groups": 2}, 4),
        ("conv4", 6, 5, {"padding": 1, "groups": 2}, None),
    ],
)
def test_convolutions_of_alexnet_as_caffe_has_them(name, width, size, options, pooled):
    x = np.random.default_rng(0).normal(0, 200, (2, size, size, 3 if name == "conv1" else 4)).astype(np.float32)
    run, leaves = filled(alexnet.Conv(name, width, True, jnp.float32), x)
    wanted = relu(loop_conv(x, leaves[f"{name}/kernel"], leaves[f"{name}/bias"], **options))
    if pooled:
        wanted = loop_pool(loop_lrn(wanted, 5, 1e-4, 0.75), np.max, 3, 2, 0, pooled)
    close(run(x), wanted)


def test_stem_of_googlenet_as_caffe_has_it():
    x = np.random.default_rng(0).normal(0, 200, (1, 20, 20, 3)).astype(np.float32)
    run, leaves = filled(create_model("googlenet_caffe").stages()["stem"](), x)

    def unit(x, name, **options):
        return relu(loop_conv(x, leaves[f"{name}/conv/kernel"], leaves[f"{name}/conv/bias"], **options))

    y = loop_pool(unit(x, "conv1", stride=2, padding=3), np.max, 3, 2, 0, 5)
    y = unit(loop_lrn(y, 5, 1e-4, 0.75), "conv2_reduce")
    y = loop_lrn(unit(y, "conv2", padding=1), 5, 1e-4, 0.75)
    close(run(x), loop_pool(y, np.max, 3, 2, 0, 2))


@pytest.mark.parametrize(("stage", "pooled"), [("3a", None), ("3b", 3), ("4e", 3)])
def test_inceptions_of_googlenet_as_caffe_has_them(stage, pooled):
    x = np.random.default_rng(0).normal(0, 1, (1, 6, 6, 5)).astype(np.float32)
    run, leaves = filled(create_model("googlenet_caffe").stages()[stage](), x)

    def unit(x, name, padding=0):
        return relu(loop_conv(x, leaves[f"{name}/conv/kernel"], leaves[f"{name}/conv/bias"], padding=padding))

    y = [
        unit(x, "1x1"),
        unit(unit(x, "3x3_reduce"), "3x3", 1),
        unit(unit(x, "5x5_reduce"), "5x5", 2),
        unit(loop_pool(x, np.max, 3, 1, 1, 6), "pool_proj"),
    ]
    assert leaves["5x5/conv/kernel"].shape[:2] == (5, 5)
    y = np.concatenate(y, axis=-1)
    close(run(x), loop_pool(y, np.max, 3, 2, 0, pooled) if pooled else y)


def test_auxiliary_head_of_googlenet_as_caffe_has_it():
    x = np.random.default_rng(0).normal(0, 1, (2, 14, 14, 6)).astype(np.float32)
    run, leaves = filled(create_model("googlenet_caffe", num_classes=5).auxiliary_heads()["aux1"].build(), x)
    y = loop_pool(x, np.mean, 5, 3, 0, 4)
    y = relu(loop_conv(y, leaves["reduce/conv/kernel"], leaves["reduce/conv/bias"])).reshape(2, -1)
    y = relu(y @ leaves["fc/kernel"] + leaves["fc/bias"])
    close(run(x), y @ leaves["head/kernel"] + leaves["head/bias"])


@pytest.mark.parametrize(
    ("name", "size", "drops_input"), [("alexnet", 6, True), ("alexnet_caffe", 6, False), ("vgg16", 7, False)]
)
@pytest.mark.parametrize("stage", ["fc6", "fc7"])
def test_where_hidden_layers_drop(name, size, drops_input, stage):
    model = create_model(name, hidden=3, dropout=1.0)
    x = jnp.ones((1, size, size, 2) if stage == "fc6" else (1, 4))
    inputs = x.size
    params = {"dense": {"kernel": jnp.ones((inputs, 3)), "bias": jnp.full(3, 2.0)}}
    layer = model.stages()[stage]()
    np.testing.assert_array_equal(layer.apply({"params": params}, x, train=False), np.full((1, 3), inputs + 2.0))
    rngs = {"dropout": jax.random.key(0)}
    found = layer.apply({"params": params}, x, train=True, rngs=rngs)
    # All dropped: of the inputs the bias remains, of the outputs nothing.
    np.testing.assert_array_equal(found, np.full((1, 3), 2.0 if drops_input else 0.0))


@pytest.mark.parametrize(
    ("size", "window", "stride", "padding", "ceil", "out"),
    [
        (8, 2, 2, 0, False, 4),
        (9, 2, 2, 0, False, 4),
        (9, 2, 2, 0, True, 5),
        (28, 3, 2, 1, False, 14),
        (27, 3, 2, 0, True, 13),
        (26, 3, 2, 0, True, 13),
        pytest.param(112, 3, 2, 1, False, 56, marks=pytest.mark.slow),
        pytest.param(111, 3, 2, 0, True, 55, marks=pytest.mark.slow),
        pytest.param(110, 3, 2, 0, True, 55, marks=pytest.mark.slow),
        (7, 3, 1, 1, False, 7),
        (6, 2, 1, 0, False, 5),
        (5, 2, 3, 1, True, 2),  # torch drops a last window that would begin in the padding
    ],
)
def test_max_pool_sizes_values_and_gradient(size, window, stride, padding, ceil, out):
    x = jnp.round(jax.random.normal(jax.random.key(0), (2, size, size, 3)) * 2)  # rounding makes ties
    y = window_pooling.max_pool(x, window, stride, padding=padding, ceil=ceil)
    assert y.shape == (2, out, out, 3)
    end = (out - 1) * stride + window - size - padding
    pads = [(padding, max(end, 0))] * 2
    keep = size + min(end, 0)

    def reference(x):
        return nn.max_pool(x[:, :keep, :keep], (window, window), (stride, stride), pads)

    np.testing.assert_array_equal(y, reference(x))
    with jax.enable_x64(True):
        x, weights = np.asarray(x, np.float64), np.random.default_rng(1).normal(size=y.shape)
        ours, back = jax.vjp(lambda x: window_pooling.max_pool(x, window, stride, padding=padding, ceil=ceil), x)
        xla, xla_back = jax.vjp(reference, x)
        np.testing.assert_array_equal(ours, xla)
        np.testing.assert_allclose(back(weights)[0], xla_back(weights)[0], rtol=1e-10)


def test_max_pool_of_what_is_not_a_number():
    x = jnp.zeros((1, 4, 4, 1)).at[0, 1, 2, 0].set(jnp.nan)
    y, back = jax.vjp(lambda x: window_pooling.max_pool(x, 2, 2), x)
    np.testing.assert_array_equal(y[0, :, :, 0], [[0, np.nan], [0, 0]])
    assert back(jnp.ones_like(y))[0][0, 1, 2, 0] == 1


@pytest.mark.usefixtures("optimizing_compiler")
@pytest.mark.parametrize("fusion", ["", "LIBRARY_FUSION_TYPE_DOT"])  # jft's flag; XLA's own default
def test_max_pool_keeps_the_gradient_when_xla_computes_its_input_again(fusion):
    x, weights = (jax.random.normal(jax.random.key(i), (2, n, n, 32)) for i, n in ((0, 28), (1, 14)))

    def loss(x, scale, *, pool):
        normal = (x - jnp.mean(x, (0, 1, 2))) * jax.lax.rsqrt(jnp.var(x, (0, 1, 2)) + 1e-5)
        return jnp.sum(weights * pool(nn.relu(normal * scale + 0.1)))

    gradients = [
        jax.jit(jax.grad(functools.partial(loss, pool=pool), (0, 1)))
        .lower(x, jnp.ones(32))
        .compile({**AS_USERS, "xla_cpu_experimental_ynn_fusion_type": fusion})(x, jnp.ones(32))
        for pool in (
            lambda x: window_pooling.max_pool(x, 3, 2, padding=1),
            lambda x: nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))),
        )
    ]
    for ours, xla in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, xla, atol=1e-4)


def test_adaptive_avg_pool_windows():
    x = jnp.arange(5.0).reshape(1, 5, 1, 1) * jnp.ones((1, 5, 5, 1))
    # torch: windows [0, 2), [1, 4), [3, 5) of five rows.
    np.testing.assert_allclose(window_pooling.adaptive_avg_pool(x, 3)[0, :, 0, 0], [0.5, 2.0, 3.5])
    assert window_pooling.adaptive_avg_pool(x, 5) is x
    np.testing.assert_allclose(window_pooling.adaptive_avg_pool(x[:, 2:3, 2:3], 7), np.full((1, 7, 7, 1), 2.0))


def test_where_no_window_of_a_pool_fits_the_map_is_empty_and_so_is_the_gradient():
    x = jnp.ones((1, 2, 2, 3))
    y, back = jax.vjp(lambda x: window_pooling.max_pool(x, 3, 2), x)
    assert y.shape == (1, 0, 0, 3)
    np.testing.assert_array_equal(back(y)[0], jnp.zeros_like(x))
