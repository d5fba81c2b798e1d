"""A small ConvNeXt as any other network: frozen anywhere, cached, trained, resumed and exported."""

import functools

import pytest
import small_chain
import tiny_run

from jft.models.convnext import ConvNeXt
from jft.training import feature_cache
from jft.training.run import create_run

NAME = "convnext_atto"
TINY = functools.partial(ConvNeXt, blocks=(1, 1, 1, 1), width=4, default_size=64, drop_path=0.3, layer_scale=0.5)
pytestmark = pytest.mark.xdist_group("ConvNeXt")


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with tiny_run.under_its_name(NAME, TINY):
        yield


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
    run = create_run(tiny_run.make(tmp_path, NAME, freeze=freeze), tmp_path / "run", small_chain.images(60))
    (found,) = feature_cache.decide(run, None, {})
    assert found.cached and found.why.startswith(f"cached after {what} ")


@pytest.mark.slow
def test_cached_maps_and_live_ones_teach_the_same_and_a_resumed_run_goes_on(tmp_path):
    tiny_run.check(tmp_path, NAME, freeze="stage3")
