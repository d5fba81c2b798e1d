"""Single functions of JAX as ONNX: what a chain of a user's own may be made of."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import onnx_case
import pytest
from jax import lax

from jft.exporters.onnx import file
from jft.exporters.onnx.graph import CONSTANT, INPUT, ordered
from jft.models import layers, window_pooling

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(3, 3, 4, 6)).astype(np.float32)
MATRIX = RNG.normal(size=(4, 6)).astype(np.float32)
CHANNELS = RNG.uniform(0.5, 2, 4).astype(np.float32)


def conv(x, **options):
    numbers = ("NHWC", "HWIO", "NHWC")
    given = {"window_strides": (1, 1), "padding": "SAME", **options}
    return lax.conv_general_dilated(x, KERNEL, dimension_numbers=numbers, **given)


def attention(x):
    q = x.reshape(x.shape[0], -1, 2, 2)
    return jnp.einsum("bqhd,bkhd->bhqk", q, q * 2)


def gates(x):
    return x * jax.nn.sigmoid(jnp.mean(x, (1, 2)) @ MATRIX[:, :4])[:, None, None]


# Each of maps [batch, 6, 8, 4].
FUNCTIONS = {
    "every second, first, last, reversed": lambda x: (
        x[:, ::2, 1::3].sum((1, 2)) + x[:, 0, -1] + x[:, ::-1, 2][:, 0] + x[..., ::-1][:, 1, 1]
    ),
    "taken and split": lambda x: jnp.take(x, np.array([3, 0, 0, 5]), 1)[:, :, :2] + jnp.split(x, 2, 2)[1][:, 2:, :2],
    "sliced at a place that is known": lambda x: lax.dynamic_slice_in_dim(x, 2, 3, 2) + lax.slice_in_dim(x, 5, 8, 1, 2),
    "padded and cropped": lambda x: lax.pad(x, jnp.float32(2), ((0, 0, 0), (1, -2, 0), (-1, 3, 0), (0, 0, 0))),
    "transposed and reshaped": lambda x: x.transpose(0, 3, 1, 2).reshape(x.shape[0], 2, -1)[:, :, None, ::5],
    "joined with a constant": lambda x: jnp.concatenate([conv(x)[..., :4], jnp.broadcast_to(CHANNELS, x.shape)], 1),
    "reduced": lambda x: jnp.stack([x.max((1, 3)), x.min((1, 3)), x.mean((1, 3)), x.var((1, 3)), x.prod((1, 3))], 1),
    "normalized over channels": lambda x: layers.nn.LayerNorm().apply(
        {"params": {"scale": CHANNELS, "bias": CHANNELS}}, x
    ),
    "chosen": lambda x: jnp.where((x > 0.5) | (x != x[:, :1]) & ~(x < -1), jnp.clip(x, -0.5, 1), 2 * x),
    "activations": lambda x: sum(
        f(x)
        for f in (
            jax.nn.relu6,
            jnp.tanh,
            jax.nn.gelu,
            jax.nn.silu,
            jax.nn.softplus,
            jax.nn.elu,
            jax.nn.leaky_relu,
            jnp.abs,
        )
    ),
    "powers": lambda x: jnp.sqrt(x**2 + 1) + x**3 + jnp.exp(-jnp.abs(x)) + lax.rsqrt(1 + x * x) + lax.erfc(x) / 3,
    "dilated and valid": lambda x: conv(x, rhs_dilation=(2, 1), padding="VALID", window_strides=(1, 2)),
    "cropped by a convolution": lambda x: conv(x, padding=((-1, 2), (0, -1))),
    "scaled before and after": lambda x: conv(x * CHANNELS + 1) * np.arange(1, 7, dtype=np.float32) / 3 - 1,
    "a convolution that two read": lambda x: (lambda y: y + 2 * y[:, ::-1])(conv(x)),
    "averages": lambda x: (
        window_pooling.avg_pool(x, 3, 1, padding=1)
        + window_pooling.avg_pool(x, 3, 1, padding=1, count_include_pad=False)
    ),
    "sums of windows": lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 2, 1, 3), (1, 2, 1, 1), "VALID"),
    "largest of windows": lambda x: (
        window_pooling.max_pool(x, 3, 2, ceil=True) + window_pooling.max_pool(x, 3, 1).sum((1, 2), keepdims=True)
    ),
    "normalized by neighbors": lambda x: layers.local_response_norm(x, size=3, alpha=0.5, beta=0.75, k=2.0),
    "averaged to a grid": lambda x: window_pooling.adaptive_avg_pool(conv(x), 3),
    "products": lambda x: attention(x)[..., :4].sum((1, 2)) + jnp.einsum("bhwc,co->bo", x, MATRIX)[:, :4],
    "gated": gates,
    "softmax of two axes": lambda x: jax.nn.softmax(x, (1, 2)) * jax.nn.softmax(x, 1),
    "integers": lambda x: (jnp.round(x * 3).astype(jnp.int32) // 2 % 3).astype(jnp.float32) + x,
    "remembered": jax.checkpoint(lambda x: jnp.sin(x) * x),
    "on each platform": lambda x: lax.platform_dependent(x, cpu=jnp.exp, cuda=jnp.cos),
}


@onnx_case.needs_onnx
def test_each_function(tmp_path):
    """All in one file, which takes a fraction of the time."""

    def together(x):
        return jnp.concatenate([f(x).reshape(x.shape[0], -1) for f in FUNCTIONS.values()], 1)

    images = onnx_case.images_of((6, 8, 4))
    file.write(together, tmp_path / "model.onnx", images.shape[1:], np.float32)
    opened, wanted = file.read_as_given(tmp_path / "model.onnx"), onnx_case.of_jax(together, images)
    counts = [jax.eval_shape(f, images[:1]).size for f in FUNCTIONS.values()]
    for batch in (1, 5):
        found = np.isclose(opened(images[:batch]), wanted[:batch], rtol=1e-5, atol=1e-5)
        parts = np.split(found, np.cumsum(counts)[:-1], axis=1)
        assert [name for name, part in zip(FUNCTIONS, parts, strict=True) if not part.all()] == []


def operators(function):
    nodes = ordered(onnx_case.graph_of(function, (6, 8, 4)))
    return collections.Counter(node.op for node in nodes if node.op not in (CONSTANT, INPUT))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("normalized by neighbors", {"LRN": 1}),
        ("scaled before and after", {"BatchNormalization": 1, "Conv": 1}),
        ("averages", {"AveragePool": 2, "Add": 1}),
        ("gated", {"GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1, "Sigmoid": 1, "Unsqueeze": 1, "Mul": 1}),
    ],
)
def test_a_function_is_few_operators(name, expected):
    found = operators(FUNCTIONS[name])
    assert {op: n for op, n in found.items() if op != "Transpose"} == expected and found["Transpose"] <= 2


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x: lax.conv_transpose(x, KERNEL, (2, 2), "SAME"), "a transposed convolution"),
        (lambda x: x[:, x[0, 0, 0, 0].astype(int)], "a slice whose place is computed"),
        (lambda x: x.reshape(2, -1)[:, :3], "the batch"),
        (lambda x: x[:1], "a part of the batch"),
        (lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 2), (1, 1, 1, 1), "SAME"), "windows over more axes"),
        (lambda x: lax.fori_loop(0, 3, lambda i, y: y * 2, x), "JAX's primitive '(scan|while)'"),
    ],
    ids=["transposed", "computed", "lengths", "batch", "windows", "loop"],
)
def test_what_there_is_no_word_for(function, why):
    with pytest.raises(ValueError, match=f"^a function outside of all stages has no translation to ONNX: .*{why}"):
        onnx_case.graph_of(function, (6, 8, 4))
