"""A transformer trains as any network: frozen by block, on cached tokens or pooled ones, resumed, and exported."""

import functools
import shutil

import jax
import numpy as np
import pytest
import small_chain
from jax import export as jax_export

from jft.config import default_config
from jft.data.transforms import Preprocess
from jft.evaluation.load import load
from jft.evaluation.restore import restore
from jft.exporters import stablehlo
from jft.models import MODELS
from jft.models.vit import ViT
from jft.training import feature_cache, linear_probe
from jft.training.loop import train
from jft.training.run import create_run
from jft.utils import tree
from jft.utils.mesh import make_parallel

# Four patches of 4 pixels, a class token and a register.
TINY = functools.partial(ViT, width=8, depth=2, heads=2, patch=4, grid=3, default_size=8, registers=1, drop_path=0.3)
pytestmark = pytest.mark.xdist_group("transformer")


@pytest.fixture(scope="module", autouse=True)
def tiny():
    """The model by its name, and one device, for which XLA compiles faster than for eight."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS._rows, "vit_small", TINY)
        patch.setattr(jax, "devices", lambda *a: jax.local_devices()[:1])
        yield


def make(tmp_path, **changes):
    config = default_config()
    config.update(
        {
            **{"model": "vit_small", "weights": "", "batch_size": 12, "validation": 0.25, "flip": False},
            **{"learning_rate": 0.01, "steps": 4, "evaluate_every": 1000.0, "weight_decay": 0.1, "layer_decay": 0.5},
            **{"features_dir": str(tmp_path / "features"), "cache_features": True, "freeze": "block1", **changes},
        }
    )
    return config


def final(workdir):
    restored = restore(workdir, make_parallel("jit")).variables
    return tree.flatten(jax.tree.map(np.asarray, restored))


def run_of(tmp_path, **changes):
    return create_run(make(tmp_path, **changes), tmp_path / "run", small_chain.images(60))


BOTH = {"freeze": "norm", "pool": "both"}


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({}, "block1, 48 x 6 x 8"),
        ({"freeze": "norm"}, "norm, class token, 48 x 8"),
        ({"freeze": "norm", "pool": "average"}, "norm, averaged, 48 x 8"),
        (BOTH, "norm, class token and average, 48 x 16"),
        ({**BOTH, "freeze": "embed", "cut": "embed", "head": "linear"}, "embed, class token and average, 48 x 16"),
    ],
)
def test_what_is_cached(tmp_path, changes, what):
    run = run_of(tmp_path, **changes)
    (found,) = feature_cache.decide(run, None, {})
    assert found.cached and found.why.startswith(f"cached after {what} ")
    assert run.model_options.get("pool") == changes.get("pool")


def test_ridge_reads_class_token_and_average(tmp_path):
    config = {"optimizer": "adamw", "weight_decay": 0.0, "layer_decay": 1.0, "learning_rate": 1e-3, "steps": 0}
    linear_probe.check_head(run_of(tmp_path, **BOTH, **config, solver="ridge", batch_size=32, evaluate_every=1.0))


@pytest.mark.slow
def test_cached_tokens_and_live_ones_teach_the_same_and_a_resumed_run_goes_on(tmp_path):
    images = small_chain.images(60)
    for cached in (True, False):
        train(make(tmp_path, cache_features=cached, checkpoint_every=2), tmp_path / f"{cached}", images)
    found, live = final(tmp_path / "True"), final(tmp_path / "False")
    assert found.keys() == live.keys()
    for name, leaf in live.items():
        np.testing.assert_allclose(found[name], leaf, rtol=1e-4, atol=1e-4, err_msg=name)

    for path in (tmp_path / "False").rglob("4"):
        shutil.rmtree(path)
    train(make(tmp_path, cache_features=False, checkpoint_every=2), tmp_path / "False", images)
    for name, leaf in final(tmp_path / "False").items():
        np.testing.assert_array_equal(leaf, live[name], err_msg=name)

    model = load(tmp_path / "False")
    predict = stablehlo.make_predict(model.model, model.variables, model.spec, model.objective, model.fit)
    exported = jax_export.deserialize(bytearray(stablehlo.serialize(predict, 8)))
    pixels = np.stack([images.images[i] for i in range(5)])
    for batch in (1, 5):
        np.testing.assert_allclose(exported.call(pixels[:batch]), predict(pixels[:batch]), rtol=1e-5, atol=1e-6)


def test_an_image_size_that_is_no_multiple_of_the_patch_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"images are 10 x 10, .* such as 8 or 12 \(image_size\)"):
        run_of(tmp_path, image_size=10)
    assert run_of(tmp_path, image_size=12).spec == Preprocess().at(12)
