"""The weight sets of networks of inverted bottlenecks: which there are, and what they read."""

import pytest

from jft.models import create_model
from jft.weights import catalog

HALF = (0.5, 0.5, 0.5)
IMAGENET = (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    ("model", "tags"),
    [
        ("efficientnet_b1", "torchvision torchvision_v2 ft ra4 tf_ns tf_aa keras keras_notop"),
        ("efficientnet_b7", "torchvision tf_ns tf_aa keras keras_notop"),
        ("efficientnet_lite0", "efficientnet_lite timm ra"),
        ("efficientnet_lite2", "efficientnet_lite timm"),
        ("efficientnet_lite4", "timm"),
        ("efficientnet_v2_b0", "timm keras keras_notop"),
        ("efficientnet_v2_b3", "timm in21k_ft keras keras_notop"),
        ("efficientnet_v2_s", "torchvision timm in21k_ft keras keras_notop"),
        ("mobilenet_v1", "ra4 keras keras_notop"),
        ("mobilenet_v1_025", "keras keras_notop"),
        ("mobilenet_v2", "torchvision torchvision_v2 ra keras keras_notop"),
        ("mobilenet_v2_050", "lamb keras keras_notop"),
        ("mobilenet_v3_large", "torchvision torchvision_v2 ra ra4 miil_in21k_ft tf keras keras_notop"),
        ("mobilenet_v4_conv_small", "e1200 e2400 e3600"),
        ("mobilenet_v4_conv_medium", "e500_r224 e500_r256"),
    ],
)
def test_sets(model, tags):
    assert [row.tag for row in catalog.CATALOG.values() if row.model == model] == tags.split()


@pytest.mark.parametrize(
    ("name", "size", "resize", "interpolation", "mean"),
    [
        ("efficientnet_b1.torchvision", 240, 256, "bicubic", IMAGENET),
        ("efficientnet_b1.torchvision_v2", 240, 255, "bilinear", IMAGENET),
        ("efficientnet_b0.ra4", 224, 248, "bicubic", HALF),
        ("efficientnet_b4.tf_ns", 380, 412, "bicubic", IMAGENET),
        ("efficientnet_b7.keras", 600, 632, "bicubic", IMAGENET),
        ("efficientnet_lite0.efficientnet_lite", 224, 256, "bicubic", HALF),
        ("efficientnet_lite1.timm", 240, 272, "bicubic", HALF),
        ("efficientnet_lite4.timm", 380, 413, "bilinear", HALF),
        ("efficientnet_v2_b3.timm", 300, 331, "bicubic", IMAGENET),
        ("efficientnet_v2_b3.in21k_ft", 300, 333, "bicubic", HALF),
        ("efficientnet_v2_s.torchvision", 384, 384, "bilinear", IMAGENET),
        ("efficientnet_v2_l.torchvision", 480, 480, "bicubic", HALF),
        ("efficientnet_v2_m.timm", 480, 480, "bicubic", HALF),
        ("mobilenet_v1_025.keras_notop", 224, 256, "bilinear", HALF),
        ("mobilenet_v2.torchvision_v2", 224, 232, "bilinear", IMAGENET),
        ("mobilenet_v3_large.ra4", 224, 235, "bicubic", HALF),
        ("mobilenet_v3_small.keras", 224, 256, "bilinear", HALF),
        ("mobilenet_v4_conv_small.e3600", 256, 269, "bicubic", HALF),
        ("mobilenet_v4_conv_medium.e500_r224", 224, 235, "bicubic", IMAGENET),
    ],
)
def test_preprocessing(name, size, resize, interpolation, mean):
    spec = catalog.CATALOG[name].preprocess
    assert (spec.size, spec.resize, spec.interpolation, spec.mean) == (size, resize, interpolation, mean)
    assert spec.std == (HALF if mean == HALF else (0.229, 0.224, 0.225))
    assert (spec.channels, spec.scale) == ("RGB", 1 / 255)


def test_keras_efficientnetv2_reads_gray_levels_by_128():
    spec = catalog.CATALOG["efficientnet_v2_s.keras"].preprocess
    assert (spec.size, spec.scale, spec.mean, spec.std) == (384, 1 / 128, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("name", "padding", "epsilon", "momentum"),
    [
        ("efficientnet_b0.torchvision", "torch", 1e-5, 0.9),
        ("efficientnet_b5.torchvision", "torch", 1e-3, 0.99),
        ("efficientnet_b0.ra", "torch", 1e-5, 0.9),
        ("efficientnet_b0.tf_ns", "same", 1e-3, 0.9),
        ("efficientnet_b0.keras", "same", 1e-3, 0.99),
        ("efficientnet_lite0.timm", "same", 1e-3, 0.99),
        ("efficientnet_lite0.ra", "torch", 1e-5, 0.9),
        ("efficientnet_v2_s.torchvision", "torch", 1e-3, 0.9),
        ("efficientnet_v2_s.timm", "same", 1e-3, 0.9),
        ("efficientnet_v2_b0.keras", "same", 1e-3, 0.9),
        ("mobilenet_v1.keras", "end", 1e-3, 0.99),
        ("mobilenet_v1.ra4", "torch", 1e-5, 0.9),
        ("mobilenet_v2.torchvision", "torch", 1e-5, 0.9),
        ("mobilenet_v2.keras", "same", 1e-3, 0.999),
        ("mobilenet_v3_small.torchvision", "torch", 1e-3, 0.99),
        ("mobilenet_v3_small.lamb", "torch", 1e-5, 0.9),
        ("mobilenet_v3_small.tf", "same", 1e-3, 0.99),
        ("mobilenet_v3_small.keras", "same", 1e-3, 0.999),
        ("mobilenet_v4_conv_small.e1200", "torch", 1e-5, 0.9),
    ],
)
def test_options(name, padding, epsilon, momentum):
    row = catalog.CATALOG[name]
    model = create_model(row.model, **row.options)
    assert (model.padding, model.bn_epsilon, model.bn_momentum) == (padding, epsilon, momentum)
