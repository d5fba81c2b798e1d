"""A transformer trains as any network: frozen by block, on cached tokens or pooled ones, resumed, and exported."""

import functools

import pytest
import small_chain
import tiny_run

from jft.data.transforms import Preprocess
from jft.models.vit import ViT
from jft.training import feature_cache, linear_probe
from jft.training.run import create_run

# Four patches of 4 pixels, a class token and a register.
TINY = functools.partial(ViT, width=8, depth=2, heads=2, patch=4, grid=3, default_size=8, registers=1, drop_path=0.3)
pytestmark = pytest.mark.xdist_group("transformer")


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with tiny_run.under_its_name("vit_small", TINY):
        yield


def run_of(tmp_path, **changes):
    config = tiny_run.make(tmp_path, "vit_small", **{"freeze": "block1", **changes})
    return create_run(config, tmp_path / "run", small_chain.images(60))


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
    run = run_of(tmp_path, **BOTH, **config, solver="ridge", batch_size=32, evaluate_every=1.0)
    linear_probe.check_head(run, run.phases[0])


@pytest.mark.slow
def test_cached_tokens_and_live_ones_teach_the_same_and_a_resumed_run_goes_on(tmp_path):
    tiny_run.check(tmp_path, "vit_small", freeze="block1")


def test_an_image_size_that_is_no_multiple_of_the_patch_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"images are 10 x 10, .* such as 8 or 12 \(image_size\)"):
        run_of(tmp_path, image_size=10)
    assert run_of(tmp_path, image_size=12).spec == Preprocess().at(12)
