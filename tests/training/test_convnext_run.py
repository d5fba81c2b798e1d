"""ConvNeXt trains as any network: frozen by stage, on cached maps or averages, resumed, and exported."""

import functools
import shutil

import jax
import numpy as np
import pytest
import small_chain
from jax import export as jax_export

from jft.config import default_config
from jft.evaluation.load import load
from jft.evaluation.restore import restore
from jft.exporters import stablehlo
from jft.models import MODELS
from jft.models.convnext import ConvNeXt
from jft.training import feature_cache
from jft.training.loop import train
from jft.training.run import create_run
from jft.utils import tree
from jft.utils.mesh import make_parallel

TINY = functools.partial(ConvNeXt, blocks=(1, 1, 1, 1), width=4, default_size=64, drop_path=0.3, layer_scale=0.5)
pytestmark = pytest.mark.xdist_group("ConvNeXt")


@pytest.fixture(scope="module", autouse=True)
def tiny():
    """The model by its name, and one device, for which XLA compiles faster than for eight."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS._rows, "convnext_atto", TINY)
        patch.setattr(jax, "devices", lambda *a: jax.local_devices()[:1])
        yield


def make(tmp_path, **changes):
    config = default_config()
    config.update(
        {
            **{"model": "convnext_atto", "weights": "", "batch_size": 12, "validation": 0.25, "flip": False},
            **{"learning_rate": 0.01, "steps": 4, "evaluate_every": 1000.0, "weight_decay": 0.1, "layer_decay": 0.5},
            **{"features_dir": str(tmp_path / "features"), "cache_features": True, "freeze": "stage3", **changes},
        }
    )
    return config


def final(workdir):
    restored = restore(workdir, make_parallel("jit")).variables
    return tree.flatten(jax.tree.map(np.asarray, restored))


@pytest.mark.parametrize(
    ("freeze", "what"),
    [
        ("stem", "stem, 48 x 16 x 16 x 4"),
        ("stage2", "stage2, 48 x 8 x 8 x 8"),
        ("stage4", "stage4, averaged, 48 x 32"),
        ("norm", "norm, 48 x 32"),
    ],
)
def test_what_is_cached(tmp_path, freeze, what):
    run = create_run(make(tmp_path, freeze=freeze), tmp_path / "run", small_chain.images(60))
    (found,) = feature_cache.decide(run, None, {})
    assert found.cached and found.why.startswith(f"cached after {what} ")


@pytest.mark.slow
def test_cached_maps_and_live_ones_teach_the_same_and_a_resumed_run_goes_on(tmp_path):
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
    side = model.preprocess.size
    exported = jax_export.deserialize(bytearray(stablehlo.serialize(predict, side)))
    pixels = np.random.default_rng(0).integers(0, 256, (5, side, side, 3), dtype=np.uint8)
    for batch in (1, 5):
        np.testing.assert_allclose(exported.call(pixels[:batch]), predict(pixels[:batch]), rtol=1e-5, atol=1e-6)
