import dataclasses
import functools
import importlib
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jft.data import datasets, decode
from jft.data.augment import Augmentation
from jft.data.transforms import Preprocess
from jft.features import cache_key, program_digest
from jft.features.feature_step import Wanted
from jft.models import abstract_variables, create_model
from jft.utils import tree
from jft.utils.mesh import make_parallel

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
        ({"earlier": ("block1",)}, False),
        ({"fit": "crop"}, False),
        ({"resize_on": "host"}, False),
        ({"augmentation": Augmentation()}, True),
        ({"augmentation": Augmentation(flip=True)}, False),
        ({"augmentation": Augmentation(crop="five")}, True),  # whole images are not cropped
        ({"augmentation": Augmentation(crop="five"), "fit": "crop"}, False),
    ],
)
def test_the_recipe_knows_what_features_depend_on(variables, change, same):
    change = dict(change)
    known = cache_key.recipe(MODEL, variables, SPEC, WANTED)
    model = MODEL.clone(**change.pop("model", {}))
    spec = dataclasses.replace(SPEC, **change.pop("spec", {}))
    if "params" in change:
        variables = nudged(variables, change.pop("params"))
    other = cache_key.recipe(model, variables, spec, dataclasses.replace(WANTED, **change))
    assert (cache_key.key(other) == cache_key.key(known)) == same


def test_running_statistics_count(variables):
    model = create_model("vgg_tiny", num_classes=10, batch_norm=True)
    variables = arbitrary(model)
    known = cache_key.recipe(model, variables, SPEC, WANTED)
    next(iter(tree.flatten(variables["batch_stats"]["block1"]).values()))[0] += 1
    assert cache_key.recipe(model, variables, SPEC, WANTED)["weights"] != known["weights"]


def test_five_crops_and_one_are_not_the_same(variables):
    crop = functools.partial(Wanted, "block2", pooled=False, fit="crop")
    keys = {
        cache_key.key(cache_key.recipe(MODEL, variables, SPEC, crop(augmentation=Augmentation(flip=flip, crop=cut))))
        for flip in (False, True)
        for cut in ("center", "five")
    }
    assert len(keys) == 4


def test_what_cannot_be_counted_is_refused(variables):
    with pytest.raises(ValueError, match=r"countable number of variants, but crop_padding = 0\.125"):
        cache_key.recipe(
            MODEL, variables, SPEC, dataclasses.replace(WANTED, augmentation=Augmentation(crop_padding=0.125))
        )
    with pytest.raises(ValueError, match="unknown stage 'block9'"):
        cache_key.recipe(MODEL, variables, SPEC, dataclasses.replace(WANTED, boundary="block9"))


def test_a_image_is_its_content(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), np.uint8)
    images[2] = images[0]
    images[1, -1, -1, -1] ^= 1
    plain = datasets.from_arrays(images, [0, 1, 0])
    own = cache_key.image_digests(plain)
    assert own.shape == (3, 16) and own.dtype == np.uint8
    assert (own[0] == own[2]).all() and (own[0] != own[1]).any()
    turned = cache_key.image_digests(dataclasses.replace(plain, images=images.reshape(3, 6, 4, 3)))
    assert (turned != own).any(axis=1).all()  # the same bytes, another shape
    changed = images.copy()
    changed[1, 0, 0, 0] ^= 1
    assert (cache_key.image_digests(datasets.from_arrays(changed, [0, 1, 0])) != own).any(axis=1).tolist() == [
        0,
        1,
        0,
    ]


def test_a_file_is_its_bytes_and_its_region(tmp_path):
    contents = [b"first", b"second", b"first"]
    paths = [tmp_path / name for name in "abc"]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    base = datasets.from_arrays(np.zeros((3, 1, 1, 3), np.uint8), [0, 0, 0])
    files = cache_key.image_digests(dataclasses.replace(base, images=tuple(paths)))
    assert (files[0] == files[2]).all() and (files[0] != files[1]).any()
    encoded = dataclasses.replace(base, images=tuple(contents))
    np.testing.assert_array_equal(cache_key.image_digests(encoded), files)
    regions = np.array([[0, 0, 5, 5], [0, 0, 5, 5], [0, 0, 5, 6]], np.int32)
    cut = cache_key.image_digests(dataclasses.replace(encoded, regions=regions))
    assert (cut[0] != cut[2]).any() and (cut[0] != files[0]).any()


def halved(function):
    return lambda *args, **options: function(*args, **options) / 2


def turned(function):
    return lambda *args, **options: function(*args, **options)[::-1].copy()


def nearly(function):
    """As another release of NumPy might round."""
    return lambda *args, **options: np.nextafter(function(*args, **options), np.float32(2))


@pytest.mark.parametrize(
    ("patched", "changed", "wanted"),
    [
        ("jft.models.window_pooling.max_pool", halved, {}),
        ("jft.data.transforms.normalize", halved, {}),
        ("jft.data.transforms.resize_weights", nearly, {}),
        ("jft.data.transforms._FEW_TAPS", lambda taps: 1, {}),
        (
            "jft.data.augment._mirror",
            lambda mirror: lambda images, mirrored: images,
            {"augmentation": Augmentation(flip=True)},
        ),
        ("jft.data.decode.decode", turned, {}),
        ("jft.data.decode._square", turned, {}),
        ("jft.data.transforms.resize_weights", nearly, {"resize_on": "host"}),
        (
            "jft.data.host_resize.resize",
            lambda resize: lambda images, *how: 255 - resize(images, *how),
            {"resize_on": "host"},
        ),
    ],
)
def test_a_change_of_what_computes_features_is_noticed(variables, monkeypatch, patched, changed, wanted):
    wanted = dataclasses.replace(WANTED, **wanted)
    known = program_digest.examine(MODEL, variables, SPEC, wanted)
    assert program_digest.examine(MODEL, variables, SPEC, wanted) == known
    module, name = patched.rsplit(".", 1)
    original = getattr(importlib.import_module(module), name)
    replaced = changed(original)
    for loaded in [m for n, m in sys.modules.items() if n.startswith("jft.") and getattr(m, name, None) is original]:
        monkeypatch.setattr(loaded, name, replaced)
    found = program_digest.examine(MODEL, variables, SPEC, wanted)
    assert found.digest != known.digest and found.output == known.output
    keys = {
        cache_key.key({**cache_key.recipe(MODEL, variables, SPEC, wanted), "program": p.digest}) for p in (known, found)
    }
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("flags", "same"),
    [
        ("--xla_cpu_experimental_ynn_fusion_type=", False),
        ("--xla_force_host_platform_device_count=3 --xla_dump_to=/tmp", True),
    ],
)
def test_flags_that_compile_otherwise_are_noticed(variables, monkeypatch, flags, same):
    monkeypatch.setenv("XLA_FLAGS", "")
    known = program_digest.examine(MODEL, variables, SPEC, WANTED)
    monkeypatch.setenv("XLA_FLAGS", flags)
    assert (program_digest.examine(MODEL, variables, SPEC, WANTED) == known) == same


def test_precision_and_release_are_noticed(variables, monkeypatch):
    known = program_digest.examine(MODEL, variables, SPEC, WANTED)
    with jax.default_matmul_precision("highest"):
        assert program_digest.examine(MODEL, variables, SPEC, WANTED) != known
    monkeypatch.setattr(jax, "__version__", "99.0")
    assert program_digest.examine(MODEL, variables, SPEC, WANTED) != known


def test_devices_and_what_lies_behind_the_boundary_do_not_matter(variables):
    known = program_digest.examine(MODEL, variables, SPEC, WANTED)
    placed = make_parallel("jit").place_state(variables)
    assert program_digest.examine(MODEL, placed, SPEC, WANTED) == known
    stages = {name: leaves for name, leaves in variables["params"].items() if name in ("block1", "block2")}
    assert program_digest.examine(MODEL.clone(axis_name="data"), {"params": stages}, SPEC, WANTED) == known


def test_every_start_finds_the_same_program():
    """In a process of its own, on another number of devices."""
    code = (
        "import jax; from test_cache_key import MODEL, SPEC, WANTED, program_digest;"
        "from jft.models import abstract_variables;"
        "print(jax.device_count(), program_digest.examine(MODEL, abstract_variables(MODEL, 32), SPEC, WANTED).digest)"
    )
    flags = " ".join(f for f in os.environ["XLA_FLAGS"].split() if "device_count" not in f)
    environment = {
        **os.environ,
        "XLA_FLAGS": flags,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    known = program_digest.examine(MODEL, abstract_variables(MODEL, 32), SPEC, WANTED)
    assert done.stdout.split() == ["1", known.digest], done.stderr


def test_the_samples_are_read():
    """Upright, over what is transparent, and of 16 bits."""
    folder = Path(decode.__file__).parent / "samples"
    assert sorted(path.name for path in folder.iterdir()) == ["deep.png", "transparent.png", "upright.jpg"]
    for name in ("transparent.png", "upright.jpg"):
        pixels = decode.decode(folder / name, SPEC, fit="whole")
        assert pixels.shape == (32, 32, 3) and pixels.std() > 20
