"""What small networks of the newer families must do as the others do: be trained, cached, resumed and exported."""

import contextlib
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
from jft.training.loop import train
from jft.utils import tree
from jft.utils.mesh import make_parallel


@contextlib.contextmanager
def under_its_name(name, build):
    """The model by a name of the zoo, and one device, for which XLA compiles faster than for eight."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS._rows, name, build)
        patch.setattr(jax, "devices", lambda *a: jax.local_devices()[:1])
        yield


def make(tmp_path, model, **changes):
    config = default_config()
    config.update(
        {
            **{"model": model, "weights": "", "batch_size": 12, "validation": 0.25, "flip": False},
            **{"learning_rate": 0.01, "steps": 4, "evaluate_every": 1000.0, "weight_decay": 0.1, "layer_decay": 0.5},
            **{"features_dir": str(tmp_path / "features"), "cache_features": True, **changes},
        }
    )
    return config


def final(workdir):
    restored = restore(workdir, make_parallel("jit")).variables
    return tree.flatten(jax.tree.map(np.asarray, restored))


def check(tmp_path, model, **changes):
    """Cached features and live ones teach the same, a resumed run ends with the same bits, and its export agrees."""
    images = small_chain.images(60)
    for cached in (True, False):
        config = make(tmp_path, model, cache_features=cached, checkpoint_every=2, **changes)
        train(config, tmp_path / f"{cached}", images)
    found, live = final(tmp_path / "True"), final(tmp_path / "False")
    assert found.keys() == live.keys()
    for name, leaf in live.items():
        np.testing.assert_allclose(found[name], leaf, rtol=1e-4, atol=1e-4, err_msg=name)

    for path in (tmp_path / "False").rglob("4"):
        shutil.rmtree(path)
    train(config, tmp_path / "False", images)
    for name, leaf in final(tmp_path / "False").items():
        np.testing.assert_array_equal(leaf, live[name], err_msg=name)

    model = load(tmp_path / "False")
    predict = stablehlo.make_predict(model.model, model.variables, model.spec, model.objective, model.fit)
    side = model.preprocess.size
    exported = jax_export.deserialize(bytearray(stablehlo.serialize(predict, side)))
    pixels = np.random.default_rng(0).integers(0, 256, (5, side, side, 3), dtype=np.uint8)
    for batch in (1, 5):
        np.testing.assert_allclose(exported.call(pixels[:batch]), predict(pixels[:batch]), rtol=1e-5, atol=1e-6)
