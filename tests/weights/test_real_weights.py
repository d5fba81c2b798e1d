"""Real weights on real pictures: SqueezeNet 1.1 from its Caffe file classifies 100 pictures of ImageNet."""

import hashlib
import json

import jax
import numpy as np
from PIL import Image

from jft import tree
from jft.data import preprocess
from jft.models import abstract_variables, create_model
from jft.weights import catalog, convert, readers


def load_picture(path, spec):
    """Shorter side resized by PIL, which antialiases, and the centre cut out: uint8 [size, size, 3], RGB."""
    with Image.open(path) as file:
        picture = file.convert("RGB")
    height, width = preprocess.scaled_size(picture.height, picture.width, spec.resize)
    picture = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    top, left = (preprocess.crop_offset(length, spec.size) for length in (height, width))
    return picture[top : top + spec.size, left : left + spec.size]


def test_squeezenet_classifies_imagenet(real_data):
    row = catalog.find_row("squeezenet1_1", "caffe")
    path = real_data / "weights" / row.filename
    assert hashlib.sha256(path.read_bytes()).hexdigest() == row.sha256
    model = create_model(row.model, **row.options)
    conversion = convert.convert(
        readers.read_tensors(path), row, tree.flatten(abstract_variables(model, row.preprocess.size))
    )
    conversion.check(path)

    folder = real_data / "imagenet_samples"
    index = json.loads((folder / "imagenet_class_index.json").read_text())
    numbers = {wnid: int(number) for number, (wnid, _) in index.items()}
    paths = sorted(folder.glob("*.jpg"))
    labels = np.array([numbers[path.name.split("_")[0]] for path in paths])
    assert len(labels) == 100
    images = np.stack([load_picture(path, row.preprocess) for path in paths])

    @jax.jit
    def classify(variables, images):
        return model.apply(variables, preprocess.normalise(images, row.preprocess), train=False)

    ranked = np.argsort(-classify(tree.unflatten(conversion.leaves), images), axis=1)
    # 65 and 83 with an independent implementation; one picture may tip over by rounding.
    assert abs(np.sum(ranked[:, 0] == labels) - 65) <= 1
    assert abs(np.sum(ranked[:, :5] == labels[:, None]) - 83) <= 1
