"""Networks of inverted bottlenecks: what their tables mean, and what training drops and keeps."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jft.models import abstract_variables, create_model
from jft.models.mbconv import Blocks, MBConvNet, divisible

# Two stages of two blocks, of which the second ones have shortcuts.
TINY = (
    (Blocks("mbconv", 2, 3, 2, 8, 2, squeeze=True),),
    (Blocks("mbconv", 2, 5, 1, 16, 2),),
)


def tiny(**fields):
    return MBConvNet(**{"table": TINY, "stem_width": 8, "top_width": 16, "num_classes": 3} | fields)


def test_widths_are_multiples_of_eight_and_never_a_tenth_below():
    assert [divisible(x) for x in (1, 11, 12, 16 * 1.4, 24 * 1.2, 80 * 2.3)] == [8, 16, 16, 24, 32, 184]
    assert divisible(11, floor=0) == 8


@pytest.mark.parametrize(
    ("name", "widths", "repeats"),
    [
        ("efficientnet_b7", [32, 48, 80, 160, 224, 384, 640], [4, 7, 7, 10, 10, 13, 4]),
        ("efficientnet_v2_b2", [16, 32, 56, 104, 120, 208], [2, 3, 3, 4, 6, 10]),
        ("efficientnet_lite0", [16, 24, 40, 80, 112, 192, 320], [1, 2, 2, 3, 3, 4, 1]),
        ("efficientnet_lite4", [24, 32, 56, 112, 160, 272, 448], [1, 4, 4, 6, 6, 8, 1]),
    ],
)
def test_scaling(name, widths, repeats):
    rows = [row for (row,) in create_model(name).table]
    assert [row.channels for row in rows] == widths
    assert [row.repeats for row in rows] == repeats


def test_the_first_block_of_a_row_strides_and_has_no_shortcut():
    blocks = [block for stage in tiny().blocks() for block in stage]
    assert [(block.inputs, block.stride, block.shortcut) for block in blocks] == [
        (8, 2, False),
        (8, 1, True),
        (8, 1, False),
        (16, 1, True),
    ]
    assert [block.squeezed for block in blocks] == [2, 2, 0, 0]


def dropped(model, train):
    """{path: rate} of what drops."""
    found = {}

    def note(call, args, kwargs, context):
        layer = context.module
        if isinstance(layer, nn.Dropout) and not layer.deterministic:
            found["/".join(layer.path[:2])] = layer.rate
        return call(*args, **kwargs)

    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    with nn.intercept_methods(note):
        jax.eval_shape(lambda: model.init(rngs, jnp.zeros((1, 32, 32, 3)), train=train))
    return found


def test_later_blocks_drop_more_of_their_branches():
    rates = {"stage1/block1": 0.4 / 4, "stage2/block1": 0.4 * 3 / 4, "head/Dropout_0": 0.2}
    assert dropped(tiny(drop_path=0.4), train=True) == pytest.approx(rates)
    assert dropped(tiny(drop_path=0.4), train=False) == {}


@pytest.mark.parametrize(("field", "value"), [("padding", "valid"), ("activation", "rleu6")])
def test_unknown_words(field, value):
    with pytest.raises(ValueError, match=f"unknown {field} '{value}'"):
        create_model("efficientnet_lite0", **{field: value})


def test_padding():
    """A 3x3 convolution of ones and stride 2, on six rows that hold their numbers."""
    x = np.arange(6, dtype="f4").reshape(1, 6, 1, 1) * np.ones((1, 6, 6, 3), "f4")
    sums = {}
    for padding in ("torch", "same"):
        model = tiny(padding=padding, activation="relu", bn_epsilon=0.0)
        variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, "f4"), abstract_variables(model, 32))
        variables["params"]["stem"]["bn"]["bias"] = variables["batch_stats"]["stem"]["bn"]["mean"]
        sums[padding] = model.apply(variables, x, train=False, stop="stem")[0, :, 1, 0]
    # Rows -1 to 1, 1 to 3, 3 to 5; rows 0 to 2, 2 to 4, 4 to 6; of three columns and three channels.
    np.testing.assert_allclose(sums["torch"], [9.0, 54, 108])
    np.testing.assert_allclose(sums["same"], [27.0, 81, 81])
