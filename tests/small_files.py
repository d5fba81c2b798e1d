"""Weight files of small models, in a framework's layout, to go in and out."""

import functools

import numpy as np
import safetensors.numpy

from jft.data.transforms import Preprocess
from jft.exporters import keras_h5
from jft.models import MODELS, abstract_variables, create_model
from jft.models.alexnet import AlexNet
from jft.models.convnext import ConvNeXt
from jft.models.densenet import DenseNet
from jft.models.regnet import RegNet
from jft.models.resnet import ResNet
from jft.models.vgg import VGG
from jft.models.vit import ViT
from jft.utils import tree
from jft.utils.checkpoint import Checkpoints
from jft.weights import catalog, rules, seeded

# Small enough for every test to write, read and run.
TINY = {
    "alexnet": functools.partial(AlexNet, widths=(4, 6, 8, 6, 4), hidden=8),
    "vgg11": functools.partial(VGG, convs=(1, 2), widths=(4, 6), hidden=8, grid=3, default_size=12),
    "vgg13_bn": functools.partial(VGG, convs=(2, 1), widths=(4, 6), hidden=8, grid=3, default_size=12, batch_norm=True),
    "vgg16": functools.partial(VGG, convs=(1, 2), widths=(4, 6), hidden=8, grid=3, default_size=12),
    "convnext_tiny": functools.partial(ConvNeXt, blocks=(1, 1, 2, 1), width=8),
    "vit_base_patch32": functools.partial(ViT, width=8, depth=2, heads=2, patch=8, grid=4, default_size=32),
    "vit_small_patch14_reg4_dinov2": functools.partial(
        ViT, width=8, depth=1, heads=2, patch=8, grid=6, registers=4, class_position=False, layer_scale=1e-5
    ),
    "regnet_y_400mf": functools.partial(RegNet, depths=(1, 2), widths=(16, 24)),
    "densenet121": functools.partial(DenseNet, blocks=(2, 1, 1, 1)),
    "resnet34": functools.partial(ResNet, blocks=(1, 1, 1, 1), bottleneck=False),
    "resnet50": functools.partial(ResNet, blocks=(2, 1), bottleneck=True),
    "resnext50_32x4d": functools.partial(ResNet, blocks=(1, 1), groups=4, width_per_group=2),
}


def shrink(monkeypatch):
    for name, build in TINY.items():
        monkeypatch.setitem(MODELS._rows, name, build)


def seeded_file(path, model, tag, size, classes=10):
    """A file in the layout of a weight set, of a fine-tuned model; returns its tensors."""
    row = catalog.find_row(model, tag)
    chain = create_model(model, **{**row.file_options, "num_classes": classes})
    table = rules.rules_for(row, chain)
    shapes = rules.source_shapes(table, tree.flatten(abstract_variables(chain, size)))
    tensors = seeded.SEEDED[row.dialect](shapes)
    if row.dialect == "keras":
        keras_h5.write(path, keras_h5.in_order(chain, table, tensors), {})
    else:
        means = [name for name in tensors if name.endswith("running_mean")]
        tensors |= {name.replace("running_mean", "num_batches_tracked"): np.array(12345) for name in means}
        safetensors.numpy.save_file(tensors, path)
    return tensors


def make_run(folder, model, classes, **options):
    """A run of jft's, without its training."""
    chain = create_model(model, num_classes=len(classes), **options)
    shapes = {name: leaf.shape for name, leaf in tree.flatten(abstract_variables(chain, chain.default_size)).items()}
    leaves = seeded.seeded_leaves(shapes)
    meta = {
        "model": {"name": model, "options": options},
        "objective": "softmax",
        "class_names": classes,
        "preprocess": Preprocess().at(chain.default_size).to_dict(),
        "config": {"dtype": "bfloat16"},
        "fit": "whole",
        "weights": {"weights": "vgg13_bn.torchvision", "source_sha256": f"abd245e5{'0' * 56}"},
        **{"history": [], "training_pictures": 1, "phases": [], "window": {}, "cached": {}, "pretrained": []},
        **{"jft": "0", "jax": "0", "devices": {"data": 1, "fsdp": 1}, "device_kind": "cpu"},
    }
    checkpoints = Checkpoints(folder)
    checkpoints.save(7, tree.unflatten(leaves), {"step": np.int32(7)}, meta)
    checkpoints.close()
    return leaves
