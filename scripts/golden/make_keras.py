"""Writes jft/weights/proven/<model>.keras.npz: what keras.applications computes from seeded weights.

    PYTHONPATH=. python scripts/golden/make_keras.py [MODEL ...] [--weights FOLDER]

FOLDER holds published files, of which proofs tell too; without it, what they tell stays.

Made with keras 3.15 and tensorflow 2.21, which jft's test environment has.
"""

import argparse
import hashlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import families
import numpy as np
import proof_file

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

from jft.weights import seeded

# model: keras.applications' name, and sizes. Its VGG classifies images of 224 pixels only; of others it has blocks.
MODELS = {
    "vgg16": ("VGG16", (224, 160)),
    "vgg19": ("VGG19", (224, 160)),
    "resnet50": ("ResNet50", (224, 96)),
    "resnet101": ("ResNet101", (224, 96)),
    "resnet152": ("ResNet152", (224, 96)),
    "inception_v3": ("InceptionV3", (299, 75)),
}
FAMILIES = families.find("KERAS")
MODELS |= {model: (reference.name, reference.sizes) for model, (reference, _) in FAMILIES.items()}


def stages(name: str, model: keras.Model) -> dict[str, str]:
    """jft's name of each stage -> the layer that ends it."""
    if name in FAMILIES:
        return FAMILIES[name][1].keras_stages(model)
    layers = [layer.name for layer in model.layers]
    if name.startswith("vgg"):
        names = {f"block{i}": f"block{i}_pool" for i in range(1, 6)}
        return {**names, "fc6": "fc1", "fc7": "fc2", "head": "predictions"} if "fc1" in layers else names
    if name.startswith("resnet"):
        # 'conv3_block4_out' is the last of its name to come.
        blocks = {f"layer{int(layer[4]) - 1}": layer for layer in layers if layer.endswith("_out")}
        return {"stem": "pool1_pool", **blocks, "head": "predictions"}
    pools = [layer.name for layer in model.layers if isinstance(layer, keras.layers.MaxPooling2D)]
    mixed = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")
    return {"stem": pools[1], **{f"mixed_{block}": f"mixed{i}" for i, block in enumerate(mixed)}, "head": "predictions"}


def canonical_names(name: str, model: keras.Model) -> dict[str, str]:
    """Layer -> the name that jft's rules have for it, of the layers with weights.

    InceptionV3's are numbered as the process made them; the rules number them as the model and its files list them.
    """
    layers = [layer for layer in model.layers if layer.weights and not isinstance(layer, keras.layers.Normalization)]
    if name != "inception_v3":
        return {layer.name: layer.name for layer in layers}
    kinds = {keras.layers.Conv2D: "conv", keras.layers.BatchNormalization: "bn"}
    canonical = {}
    for kind, stem in kinds.items():
        those = [layer.name for layer in layers if isinstance(layer, kind)]
        canonical.update({layer: f"{stem}{k}" for k, layer in enumerate(those, 1)})
    return {**canonical, "predictions": "predictions"}


def build(name: str, size: int) -> keras.Model:
    """The model for images of one size, with seeded weights; logits, where it has its top."""
    top = size == 224 or not name.startswith("vgg")
    constructor = getattr(keras.applications, MODELS[name][0])
    options = FAMILIES[name][0].options if name in FAMILIES else {}
    model = constructor(
        weights=None, include_top=top, classifier_activation=None, input_shape=(size, size, 3), **options
    )
    names = {
        layer: {f"{canonical}/{i}": tuple(w.shape) for i, w in enumerate(model.get_layer(layer).weights)}
        for layer, canonical in canonical_names(name, model).items()
    }
    # At once: what a tensor is drawn from may depend on how many blocks there are.
    tensors = seeded.seeded_keras({key: shape for shapes in names.values() for key, shape in shapes.items()})
    for layer, shapes in names.items():
        model.get_layer(layer).set_weights([tensors[key] for key in shapes])
    return model


def tensor(model: keras.Model, name: str) -> keras.KerasTensor:
    """The output of a layer, or of 'layer:input' what it reads."""
    layer, _, side = name.partition(":")
    return model.get_layer(layer).input if side else model.get_layer(layer).output


def outputs(name: str, model: keras.Model, images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """What the stages of a model make of images."""
    ends = stages(name, model)
    outputs = keras.Model(model.input, [tensor(model, layer) for layer in ends.values()])
    scale = FAMILIES[name][0].scale if name in FAMILIES else 1.0
    for stage, x in zip(ends, outputs(scale * images, training=False), strict=True):
        yield stage, keras.ops.convert_to_numpy(x)


def real_proof(name: str, folder: pathlib.Path) -> dict[str, Any]:
    """Checksums of the leaves and digests of the stages, out of a published file without the top."""
    reference, family = FAMILIES[name]
    file, sha256 = family.REAL[name]
    path = folder / file
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise SystemExit(f"{path} is not the published file, whose SHA-256 is {sha256}.")
    size = reference.sizes[0]
    options = {"weights": None, "include_top": False, "input_shape": (size, size, 3), **reference.options}
    model = getattr(keras.applications, reference.name)(**options)
    model.load_weights(path)
    checksums = proof_file.checksums(f"{name}.keras_notop", family.keras_leaves(model))
    return checksums | proof_file.digests(lambda images: outputs(name, model, images), (size,), "real")


def main(name: str, folder: pathlib.Path | None) -> None:
    """Writes the proof of one model."""

    def network(images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        return outputs(name, build(name, images.shape[1]), images)

    real = proof_file.published(f"{name}.keras")
    if folder and name in FAMILIES and name in getattr(FAMILIES[name][1], "REAL", {}):
        real = real_proof(name, folder)
    source = f"keras {keras.__version__}, tensorflow {tf.__version__}"
    proof_file.write(f"{name}.keras", source, proof_file.digests(network, MODELS[name][1]) | real)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=main.__doc__)
    arguments.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(MODELS))
    arguments.add_argument("--weights", type=pathlib.Path, metavar="FOLDER", help="holds published files")
    flags = arguments.parse_args()
    for model_name in flags.models or MODELS:
        main(model_name, flags.weights)
