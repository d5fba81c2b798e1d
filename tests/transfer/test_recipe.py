import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jft import tree
from jft.data import sources
from jft.data.augment import Augmentation
from jft.data.preprocess import Preprocess
from jft.models import abstract_variables, create_model
from jft.transfer import recipe
from jft.transfer.recipe import Wanted

SPEC = Preprocess().at(32)
MODEL = create_model("vgg_tiny", num_classes=10)
WANTED = Wanted("block2", pooled=False, fit="whole")


def arbitrary(model):
    """Variables in the shapes of a model."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.random(leaf.shape, np.float32), abstract_variables(model, 32))


@pytest.fixture(scope="module")
def variables():
    return arbitrary(MODEL)


def nudged(variables, name):
    """The variables with one number changed as little as can be."""
    flat = {key: np.array(leaf) for key, leaf in tree.flatten(variables["params"]).items()}
    flat[name].flat[-1] = np.nextafter(flat[name].flat[-1], np.float32(1))
    return {**variables, "params": tree.unflatten(flat)}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"params": "block1/conv1_1/kernel"}, False),
        ({"params": "block2/conv2_1/bias"}, False),
        ({"params": "block3/conv3_1/kernel"}, True),  # behind the boundary
        ({"params": "head/head/kernel"}, True),
        ({"model": {"num_classes": 7, "dropout": 0.1, "head_dropout": 0.3, "new_head": "linear"}}, True),
        ({"model": {"cut": "block2"}}, True),
        ({"model": {"dtype": jnp.bfloat16}}, False),
        ({"model": {"adaptive_pool": False}}, False),
        ({"spec": {"mean": (0.5, 0.5, 0.5)}}, False),
        ({"spec": {"interpolation": "bicubic"}}, False),
        ({"boundary": "block1"}, False),
        ({"pooled": True}, False),
        ({"fit": "crop"}, False),
        ({"resize_on": "host"}, False),
        ({"augmentation": Augmentation()}, True),
        ({"augmentation": Augmentation(flip=True)}, False),
        ({"augmentation": Augmentation(crop="five")}, True),  # whole pictures are not cropped
        ({"augmentation": Augmentation(crop="five"), "fit": "crop"}, False),
    ],
)
def test_the_recipe_knows_what_features_depend_on(variables, change, same):
    change = dict(change)
    known = recipe.recipe(MODEL, variables, SPEC, WANTED)
    model = MODEL.clone(**change.pop("model", {}))
    spec = dataclasses.replace(SPEC, **change.pop("spec", {}))
    if "params" in change:
        variables = nudged(variables, change.pop("params"))
    other = recipe.recipe(model, variables, spec, dataclasses.replace(WANTED, **change))
    assert (recipe.key(other) == recipe.key(known)) == same


def test_running_statistics_count(variables):
    model = create_model("vgg_tiny", num_classes=10, batch_norm=True)
    variables = arbitrary(model)
    known = recipe.recipe(model, variables, SPEC, WANTED)
    next(iter(tree.flatten(variables["batch_stats"]["block1"]).values()))[0] += 1
    assert recipe.recipe(model, variables, SPEC, WANTED)["weights"] != known["weights"]


def test_five_crops_and_one_are_not_the_same(variables):
    crop = functools.partial(Wanted, "block2", pooled=False, fit="crop")
    keys = {
        recipe.key(recipe.recipe(MODEL, variables, SPEC, crop(augmentation=Augmentation(flip=flip, crop=cut))))
        for flip in (False, True)
        for cut in ("centre", "five")
    }
    assert len(keys) == 4


def test_what_cannot_be_counted_is_refused(variables):
    with pytest.raises(ValueError, match=r"can be counted, but crop_padding = 0\.125"):
        recipe.recipe(
            MODEL, variables, SPEC, dataclasses.replace(WANTED, augmentation=Augmentation(crop_padding=0.125))
        )
    with pytest.raises(ValueError, match="unknown stage 'block9'"):
        recipe.recipe(MODEL, variables, SPEC, dataclasses.replace(WANTED, boundary="block9"))


def test_a_picture_is_its_content(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), np.uint8)
    images[2] = images[0]
    images[1, -1, -1, -1] ^= 1
    plain = sources.from_arrays(images, [0, 1, 0])
    own = recipe.picture_digests(plain)
    assert own.shape == (3, 16) and own.dtype == np.uint8
    assert (own[0] == own[2]).all() and (own[0] != own[1]).any()
    turned = recipe.picture_digests(dataclasses.replace(plain, pictures=images.reshape(3, 6, 4, 3)))
    assert (turned != own).any(axis=1).all()  # the same bytes, another shape
    changed = images.copy()
    changed[1, 0, 0, 0] ^= 1
    assert (recipe.picture_digests(sources.from_arrays(changed, [0, 1, 0])) != own).any(axis=1).tolist() == [0, 1, 0]


def test_a_file_is_its_bytes_and_its_region(tmp_path):
    contents = [b"first", b"second", b"first"]
    paths = [tmp_path / name for name in "abc"]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    base = sources.from_arrays(np.zeros((3, 1, 1, 3), np.uint8), [0, 0, 0])
    files = recipe.picture_digests(dataclasses.replace(base, pictures=tuple(paths)))
    assert (files[0] == files[2]).all() and (files[0] != files[1]).any()
    encoded = dataclasses.replace(base, pictures=tuple(contents))
    np.testing.assert_array_equal(recipe.picture_digests(encoded), files)
    regions = np.array([[0, 0, 5, 5], [0, 0, 5, 5], [0, 0, 5, 6]], np.int32)
    cut = recipe.picture_digests(dataclasses.replace(encoded, regions=regions))
    assert (cut[0] != cut[2]).any() and (cut[0] != files[0]).any()
