"""Small networks of families without tests of their own runs: frozen, cached, trained, resumed and exported."""

import functools

import pytest
import tiny_run

from jft.models.densenet import DenseNet
from jft.models.efficientnet import EfficientNet
from jft.models.mbconv import Blocks
from jft.models.resnet import ResNet

pytestmark = pytest.mark.slow
TABLE = tuple(
    (Blocks("mbconv", e, k, s, c, 1, squeeze=squeeze),)
    for e, k, s, c, squeeze in ((1, 3, 1, 8, False), (4, 5, 2, 8, True), (4, 3, 1, 8, True))
)
FAMILIES = {
    "efficientnet_b0": (
        functools.partial(EfficientNet, table=TABLE, stem_width=8, top_width=16, padding="same"),
        "stage2",
    ),
    "densenet121": (functools.partial(DenseNet, blocks=(1, 1, 1, 1), growth=4), "denseblock3"),
    "resnext50_32x4d": (functools.partial(ResNet, blocks=(1, 1, 1, 1), groups=8, width_per_group=4), "layer3"),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_cached_features_and_live_ones_teach_the_same_and_a_resumed_run_goes_on(tmp_path, name):
    build, freeze = FAMILIES[name]
    with tiny_run.under_its_name(name, functools.partial(build, default_size=32)):
        tiny_run.check(tmp_path, name, freeze=freeze, batch_norm="frozen")
