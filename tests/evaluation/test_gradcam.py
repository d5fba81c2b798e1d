"""Grad-CAM: against finite differences, of each row's own class; and what is laid over an image."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import colormaps
from onnx_case import images_of, seeded_variables
from small_chain import Small

from jft.evaluation.gradcam import default_stage, linear_weights, make_grad_cam, overlay
from jft.metrics.losses import Objective
from jft.models import abstract_variables, create_model
from jft.models.vgg import VGG
from jft.models.vit import ViT
from jft.utils import tree


def network(outputs):
    """block1 gives [8, 8, 3], block2 [4, 4, 4]; then fc6, fc7 and the head, all drawn by NumPy."""
    model = VGG(num_classes=outputs, convs=(1, 1), widths=(3, 4), hidden=8, grid=4, default_size=16)
    rng = np.random.default_rng(5)  # whose maps are 0 for no class
    drawn = {
        name: rng.normal(scale=(2 / np.prod(leaf.shape[:-1])) ** 0.5, size=leaf.shape).astype(np.float32)
        for name, leaf in tree.flatten(abstract_variables(model, 16)).items()
    }
    return model, tree.unflatten(drawn), rng.normal(size=(3, 16, 16, 3)).astype(np.float32)


def by_differences(model, variables, x, stage, logit, step=1e-6):
    """The map's definition, each of the stage's outputs moved up and down by a step; `logit` of ([n, k], row)."""
    features = np.asarray(model.apply(variables, x, train=False, stop=stage), np.float64)
    kernel, double = variables["params"]["head"]["head"]["kernel"], model.clone(dtype=jnp.float64)
    moves = step * np.eye(features[0].size).reshape(-1, *features.shape[1:])
    cams = []
    with jax.enable_x64(True):
        # Up to fc7, for a chain's logits are float32.
        rest = jax.jit(lambda moved: double.apply(variables, moved, train=False, start=stage, stop="fc7"))
        for row, image in enumerate(features):
            up, down = (logit(np.asarray(rest(image + sign * moves)) @ kernel, row) for sign in (1, -1))
            weights = ((up - down) / (2 * step)).reshape(image.shape).mean((0, 1))
            cams.append(np.maximum(image @ weights, 0))
    return np.stack(cams)


@pytest.mark.parametrize("stage", ["block1", "block2"])
@pytest.mark.parametrize("kind", ["softmax", "multilabel"])
def test_the_map_is_its_definition_for_each_rows_own_class(stage, kind):
    model, variables, x = network(3)
    grad_cam = jax.jit(make_grad_cam(model, stage=stage, objective=Objective(kind, 3)))
    cams = []
    for classes in ((2, 0, 1), (0, 1, 2)):
        cam = grad_cam(variables, x, np.array(classes, np.int32))
        wanted = by_differences(model, variables, x, stage, lambda logits, row, own=classes: logits[:, own[row]])
        assert cam.dtype == jnp.float32 and wanted.max((1, 2)).min() > 0.01
        np.testing.assert_allclose(cam, wanted, atol=1e-5 * wanted.max())
        cams.append(np.asarray(cam))
    assert all(np.abs(cams[0] - cams[1]).max((1, 2)) > 0.01)


def test_the_two_classes_of_one_sigmoid_unit_have_opposite_weights():
    model, variables, x = network(1)
    grad_cam = jax.jit(make_grad_cam(model, stage="block2", objective=Objective("binary", 2)))
    first, second = (np.asarray(grad_cam(variables, x, np.full(3, c, np.int32))) for c in (0, 1))
    for cam, sign in ((first, -1), (second, 1)):
        wanted = by_differences(model, variables, x, "block2", lambda logits, row, sign=sign: sign * logits[:, 0])
        np.testing.assert_allclose(cam, wanted, atol=1e-5 * wanted.max())
    assert first.max() > 0.01 and second.max() > 0.01 and not (first * second).any()


def test_earlier_stages_are_run_but_not_differentiated():
    model = Small(num_classes=3)
    grad_cam = make_grad_cam(model, stage="b", objective=Objective("softmax", 3))
    images, classes = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.int32)
    program = str(jax.make_jaxpr(grad_cam)(abstract_variables(model, 8), images, classes))
    # a, b and c forward, c backward, and the head's gradient, which CPUs compute as a convolution
    assert program.count("conv_general_dilated[") == 5


def test_the_map_of_a_transformer_is_that_of_its_patches():
    model = ViT(num_classes=3, width=8, depth=1, heads=2, patch=4, grid=4, default_size=16, registers=1)
    rng = np.random.default_rng(2)
    variables = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), abstract_variables(model, 16))
    x, classes = rng.normal(size=(2, 16, 16, 3)).astype(np.float32), np.array([2, 0])
    run = functools.partial(model.apply, variables, train=False)
    tokens = jax.jit(functools.partial(run, stop="embed"))(x)
    logit = jax.jit(lambda tokens: run(tokens, start="embed")[np.arange(2), classes].sum())
    gradient = jax.grad(logit)(tokens)
    cam = jax.jit(make_grad_cam(model, stage="embed", objective=Objective("softmax", 3)))(variables, x, classes)
    assert cam.shape == (2, 4, 4) and cam.max() > 0.01
    for image, i, j in ((0, 1, 2), (1, 3, 0), (1, 0, 1)):
        wanted = tokens[image, 2 + 4 * i + j] @ gradient[image, 2:].mean(0)
        np.testing.assert_allclose(cam[image, i, j], max(wanted, 0), atol=1e-5)


def test_stages_of_a_transformer():
    """After the last block a head on the class token does not see the patches."""
    model = create_model("vit_tiny_patch16")
    assert default_stage(model, 224) == "block11"
    assert default_stage(model.clone(cut="block5", new_head="linear"), 224) == "block4"
    assert default_stage(model.clone(pool="average"), 224) == default_stage(model.clone(pool="both"), 224) == "norm"
    with pytest.raises(ValueError, match=r"stage 'norm' has no feature map .* the last, 'block11', of embed, block1,"):
        make_grad_cam(model, stage="norm", objective=Objective("softmax", 1000))


def test_stages():
    assert default_stage(create_model("squeezenet1_1"), 224) == "fire9"
    assert default_stage(create_model("resnet18"), 224) == "layer4"
    assert default_stage(create_model("resnet18"), 32) == "layer3"  # whose map is 2 x 2; that of layer4 is one place
    tiny = create_model("vgg_tiny")
    assert default_stage(tiny, 32) == "block3"
    with pytest.raises(ValueError, match=r"no stage .* for images of 2 pixels: give larger ones; .* for 32"):
        default_stage(VGG(convs=(1,), widths=(4,), hidden=8, default_size=32), 2)
    objective = Objective("softmax", 1000)
    for stage in ("fc6", "head"):
        with pytest.raises(
            ValueError, match=f"stage '{stage}' has no feature map .* 'block3', of block1, block2, block3"
        ):
            make_grad_cam(tiny, stage=stage, objective=objective)
    with pytest.raises(ValueError, match="unknown stage 'blok3', did you mean 'block3'"):
        make_grad_cam(tiny, stage="blok3", objective=objective)


def test_overlay():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    cam = np.zeros((4, 6), np.float32)
    np.testing.assert_array_equal(overlay(image, cam), image)
    cam[3, 5] = 7
    shown = overlay(image, cam)
    assert shown.dtype == np.uint8
    np.testing.assert_array_equal(shown[:20], image[:20])
    np.testing.assert_allclose(
        shown[-1, -1], 0.35 * image[-1, -1] + 0.65 * 255 * np.array(colormaps["inferno"](1.0)[:3]), atol=0.51
    )
    np.testing.assert_array_equal(overlay(image, cam / 7), shown)
    gray = overlay(np.full((8, 400, 3), 90, np.uint8), np.linspace(0, 1, 100)[None])[4].astype(float)
    distance = np.abs(gray - 90).sum(-1)
    assert distance[-1] > distance[200] > distance[100] > distance[0]


@pytest.mark.parametrize(
    ("image", "cam", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), np.ones((2, 2)), r"image is float32 \[4, 4, 3\]"),
        (np.zeros((4, 4, 3), np.uint8), np.ones((1, 2, 2)), r"the map is \[1, 2, 2\] in 1\.\.1"),
        (np.zeros((4, 4, 3), np.uint8), np.full((2, 2), np.nan), "NaN comes from"),
    ],
)
def test_what_cannot_be_laid_over_is_refused(image, cam, message):
    with pytest.raises(ValueError, match=message):
        overlay(image, cam)


@pytest.mark.parametrize("kind", ["softmax", "binary"])
def test_weights_of_a_linear_head_give_the_same_maps(kind):
    objective = Objective(kind, 2 if kind == "binary" else 3)
    model = Small(num_classes=objective.num_outputs)
    drawn = seeded_variables(model, 8)
    x, classes = images_of((8, 8, 3), 4), np.array([0, 1, 1, 0], np.int32)
    weights = linear_weights(model, drawn, size=8, objective=objective)
    maps = np.asarray(model.apply(drawn, x, train=False, stop="c"))
    found = np.maximum(np.einsum("bhwc,cb->bhw", maps, weights[:, classes]), 0)
    wanted = make_grad_cam(model, stage="c", objective=objective)(drawn, x, classes)
    assert wanted.max() > 0
    np.testing.assert_allclose(found / 64, wanted, atol=1e-5 * float(wanted.max()))


def test_other_heads_have_no_such_weights():
    model, variables, _ = network(3)  # whose head reads a vector
    assert linear_weights(model, variables, size=16, objective=Objective("softmax", 3)) is None
    deep = Small(num_classes=3, new_head="linear", head_hidden=(5,))
    assert linear_weights(deep, seeded_variables(deep, 8), size=8, objective=Objective("softmax", 3)) is None
