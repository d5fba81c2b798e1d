"""What transformers have beside layers: tokens, positions for images of any size, and heads that read them."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jft.models import abstract_variables, attention, create_model
from jft.models.pooling import pooled
from jft.models.vit import ViT
from jft.utils import tree
from jft.weights import seeded

SMALL = {"width": 8, "depth": 2, "heads": 2, "patch": 4, "grid": 4, "default_size": 16, "num_classes": 3}


def drawn(model):
    shapes = tree.flatten(abstract_variables(model, 16))
    kinds = {"kernel": "hwio", "scale": "scale", "gamma": "scale"}
    return tree.unflatten(
        {
            name: seeded.seeded_tensor(name, leaf.shape, kinds.get(name.split("/")[-1], "token"))
            for name, leaf in shapes.items()
        }
    )


@pytest.mark.parametrize("to", [(3, 3), (6, 5), (4, 11), (1, 2), (13, 4)])
def test_positions_are_resampled_as_jax_resizes_images(to):
    """Bicubic with antialias; the frameworks' own are in the proofs. What comes before the grid stays."""
    position = np.random.default_rng(0).normal(size=(2 + 36, 5)).astype(np.float32)
    found = attention.resample(jnp.asarray(position), 6, to)
    wanted = jax.image.resize(position[2:].reshape(6, 6, 5), (*to, 5), "bicubic")
    np.testing.assert_allclose(found[2:], wanted.reshape(-1, 5), atol=1e-5)
    np.testing.assert_array_equal(found[:2], position[:2])
    same = attention.resample(position, 6, (6, 6))
    assert same is position


@pytest.mark.parametrize("to", [3, 9])
def test_positions_are_resampled_as_dinov2s_authors_do(to):
    """By torch's four taps without antialias, for a scale of (to + 0.1) / size; their own results are in the proofs."""
    line = np.random.default_rng(0).normal(size=6)
    found = attention.bicubic(6, to, "offset") @ line
    for i, value in enumerate(found):
        center = (i + 0.5) * 6 / (to + 0.1) - 0.5
        first, t = int(np.floor(center)), center - np.floor(center)
        taps = [line[min(max(first + k, 0), 5)] for k in (-1, 0, 1, 2)]
        near, far = (lambda x: (1.25 * x - 2.25) * x * x + 1), (lambda x: ((-0.75 * x + 3.75) * x - 6) * x + 3)
        assert value == pytest.approx(np.dot(taps, [far(1 + t), near(t), near(1 - t), far(2 - t)]), abs=1e-6)


def test_one_set_of_variables_reads_images_of_any_multiple_of_the_patch():
    model = ViT(**SMALL)
    shapes = [jax.tree.map(jnp.shape, abstract_variables(model, size)) for size in (8, 16, 28)]
    assert shapes[0] == shapes[1] == shapes[2]
    for height, width in ((8, 8), (16, 16), (12, 20)):
        x = jax.ShapeDtypeStruct((2, height, width, 3), jnp.float32)
        run = functools.partial(model.apply, train=False, stop="norm")
        assert jax.eval_shape(run, abstract_variables(model, 16), x).shape == (2, 1 + height * width // 16, 8)


@pytest.mark.parametrize(("size", "others"), [(18, "16 or 20"), (3, "4 or 8")])
def test_other_sizes_are_refused(size, others):
    with pytest.raises(ValueError, match=rf"images are {size} x {size}, .* patch, 4 x 4 pixels.* such as {others}"):
        abstract_variables(ViT(**SMALL), size)


def test_registers_have_no_position_and_stand_between_class_token_and_patches():
    model = ViT(**SMALL, registers=2)
    variables = drawn(model)
    x = seeded.seeded_images(16)
    embedded = model.apply(variables, x, train=False, stop="embed")
    tokens = variables["params"]["embed"]["tokens"]
    assert embedded.shape == (2, 1 + 2 + 16, 8) and model.prefix_tokens == 3
    np.testing.assert_array_equal(embedded[1, 1:3], tokens["registers"])
    np.testing.assert_allclose(embedded[1, 0], tokens["cls"] + tokens["position"][0])
    patches = model.apply(variables, x, train=False, stop="embed", mutable=["x"], capture_intermediates=True)
    conv = patches[1]["intermediates"]["embed"]["patch"]["__call__"][0].reshape(2, 16, 8)
    np.testing.assert_allclose(embedded[:, 3:], conv + tokens["position"][1:], rtol=1e-6)


def test_a_class_token_without_position():
    variables = drawn(model := ViT(**SMALL, class_position=False))
    embedded = model.apply(variables, seeded.seeded_images(16), train=False, stop="embed")
    tokens = variables["params"]["embed"]["tokens"]
    assert tokens["position"].shape == (16, 8)
    np.testing.assert_array_equal(embedded[0, 0], tokens["cls"])


def test_attention_is_flaxs():
    """Of the same queries, keys and values, two heads of four channels."""
    qkv = seeded.seeded_tensor("qkv", (3, 7, 3, 2, 4), "token")
    found = attention.Product(2).apply({}, qkv.reshape(3, 7, 24))
    wanted = nn.dot_product_attention(*(qkv[:, :, i] for i in range(3)))
    np.testing.assert_allclose(found, wanted.reshape(3, 7, 8), rtol=1e-5, atol=1e-6)


TOKENS = np.arange(2 * 6 * 3, dtype=np.float32).reshape(2, 6, 3)


@pytest.mark.parametrize(
    ("pool", "wanted"),
    [
        ("token", TOKENS[:, 0]),
        ("average", TOKENS[:, 2:].mean(1)),
        ("both", np.concatenate([TOKENS[:, 0], TOKENS[:, 2:].mean(1)], -1)),
    ],
)
def test_what_a_head_reads_of_tokens(pool, wanted):
    np.testing.assert_allclose(pooled(jnp.asarray(TOKENS), pool, 2), wanted)
    assert pooled(jnp.asarray(wanted), pool, 2).shape == wanted.shape  # what is pooled already stays
    model = ViT(**SMALL, pool=pool, registers=1)
    variables, tokens = drawn(model), seeded.seeded_tensor("tokens", (2, 18, 8), "token")
    whole = model.apply(variables, tokens, train=False, start="norm")
    np.testing.assert_allclose(model.apply(variables, model.pooled(tokens), train=False, start="norm"), whole)
    assert variables["params"]["head"]["head"]["kernel"].shape == (16 if pool == "both" else 8, 3)
    assert whole.shape == (2, 3) and np.ptp(whole) > 0.1


def test_a_pool_that_is_none_is_refused():
    with pytest.raises(ValueError, match="pool = 'token': ResNet has average"):
        create_model("resnet18", pool="token")
    with pytest.raises(ValueError, match="pool = 'tokens': ViT has average, token, both"):
        create_model("vit_tiny_patch16", pool="tokens")


def test_a_linear_head_after_a_cut_pools_as_asked():
    model = create_model("vit_tiny_patch16", pool="both", cut="block3", new_head="linear", head_hidden=[5])
    assert tuple(model.stages()) == ("embed", "block1", "block2", "block3", "head")
    assert abstract_variables(model, 224)["params"]["head"]["hidden1"]["kernel"].shape == (384, 5)


def test_what_training_drops():
    rates = {}

    def note(call, args, kwargs, context):
        layer = context.module
        if isinstance(layer, nn.Dropout):
            assert not layer.deterministic
            rates.setdefault(layer.path[0], []).append((layer.rate, bool(layer.broadcast_dims)))
        return call(*args, **kwargs)

    model = ViT(**{**SMALL, "depth": 3}, drop_path=0.2, dropout=0.5)
    images = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)
    with nn.intercept_methods(note):
        keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
        jax.eval_shape(lambda x: model.init(keys, x, train=True), images)
    block = [(0.5, False), None, (0.5, False), (0.5, False), None]
    wanted = {f"block{i + 1}": [one or (0.1 * i, True) for one in block] for i in range(3)}
    assert rates == {"embed": [(0.5, False)], **wanted, "head": [(0.0, False)]}


def test_bfloat16_keeps_the_softmax_in_float32():
    model = ViT(**SMALL, dtype=jnp.bfloat16)
    variables, x = drawn(model), seeded.seeded_images(16)
    program = str(jax.make_jaxpr(lambda v: model.apply(v, x, train=False))(variables))
    assert program.count("f32[2,2,17,17] = exp") == 2
    tokens = jax.eval_shape(functools.partial(model.apply, train=False, stop="block1"), variables, x)
    assert tokens.dtype == jnp.bfloat16
