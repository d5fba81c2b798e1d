"""Image classification datasets by the name under which TensorFlow Datasets (TFDS) knows them."""

import functools
import os
import pathlib
import shutil
import urllib.request
from collections.abc import Callable
from typing import Any

import numpy as np

from jft.data.lazy_tf import import_tensorflow
from jft.data.names import splits_of
from jft.utils import tree

_OTHERS = ("cifar10", "digits", "folder", "csv", "gtsrb")  # names that jft answers itself

Reader = Callable[[], tuple[np.ndarray | tuple[bytes, ...], np.ndarray]]


def root(data_dir: str | None) -> pathlib.Path:
    """The folder of the data; TFDS's own where none is given."""
    return pathlib.Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def prepared(name: str, folder: pathlib.Path) -> bool:
    """Whether TFDS has prepared a dataset in this folder; found out without importing it."""
    return next(folder.glob(f"{name}/**/dataset_info.json"), None) is not None


def find(
    name: str, data_dir: str | None, *, url: str = "", remedy: str = ""
) -> tuple[tuple[str, ...], dict[str, Reader]]:
    """The classes and splits of a TFDS dataset, prepared first if need be, which may download it.

    Args:
      name: as `tfds.load` takes it, such as 'oxford_flowers102' or 'cats_vs_dogs:4.0.1'.
      data_dir: TFDS's folder; None or empty is its default.
      url: asked first, because TFDS spends minutes on finding out that there is no network.
      remedy: what else to do, for the error where it cannot be prepared.

    Returns:
      The class names, and for 'train', 'validation' and 'test', as far as there are such splits, a function giving
      images, uint8 [n, h, w, 3] where all have one size and encoded bytes where not, and labels. The only one of
      'validation' and 'test' is 'test'.

    Raises:
      ValueError: TFDS does not know the name, or it is not image classification.
      FileNotFoundError: it cannot be prepared; says why.
    """
    import_tensorflow()
    import tensorflow_datasets as tfds

    folder = root(data_dir)
    try:
        builder = tfds.builder(name, data_dir=str(folder))
    except tfds.core.registered.DatasetNotFoundError:
        guess = tree.did_you_mean(name, [*_OTHERS, *tfds.list_builders(with_community_datasets=False)])
        raise ValueError(
            f"unknown dataset {name!r}{guess} There are {', '.join(_OTHERS)}, and what TFDS knows or has in {folder}."
        ) from None
    _, label = _features(name, builder)
    if not builder.is_prepared():
        _prepare(builder, name, folder, url, remedy)
    spelled = splits_of(builder.info.splits, name)
    readers = {split: functools.partial(_read, name, spelling, folder) for split, spelling in spelled.items()}
    if "test" not in readers and "validation" in readers:
        readers["test"] = readers.pop("validation")
    return tuple(builder.info.features[label].names), readers


def _features(name: str, builder: Any) -> tuple[str, str]:
    """What the dataset calls the image and its class: 'image' and 'label', or the only ones of their kind."""
    import tensorflow_datasets as tfds

    features = dict(getattr(builder.info.features, "items", tuple)())
    found = []
    for usual, kind in (("image", tfds.features.Image), ("label", tfds.features.ClassLabel)):
        known = [key for key, feature in features.items() if isinstance(feature, kind)]
        found += [usual] if usual in known else known if len(known) == 1 else []
    if len(found) < 2:
        raise ValueError(
            f"{name!r} is not image classification: TFDS lists its features as {', '.join(features)}, "
            "and jft needs an image named 'image' and a class label named 'label', or only one of each."
        )
    return found[0], found[1]


def _prepare(builder: Any, name: str, folder: pathlib.Path, url: str, remedy: str) -> None:
    """Downloads and prepares; where that fails, removes the folders that it made."""
    made = [
        path for path in (folder / name.split("/")[0].split(":")[0], folder / "downloads", folder) if not path.exists()
    ]
    try:
        if url:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=20).close()
        builder.download_and_prepare()
    except Exception as e:  # TFDS, its dataset scripts and the network have no error in common
        for path in made:
            shutil.rmtree(path, ignore_errors=True)
        raise FileNotFoundError(
            f"{name} is not in {folder} and TFDS could not prepare it there ({type(e).__name__}: {e}). "
            f"{remedy or f'On a machine with a network, `tfds build {name} --data_dir DIR` makes what to copy there.'}"
        ) from e


def _read(name: str, split: str, folder: pathlib.Path) -> tuple[np.ndarray | tuple[bytes, ...], np.ndarray]:
    """All images and labels of a split, in the order of its files."""
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=str(folder))
    image, label = _features(name, builder)
    # Pixels where all have one size and are plain grays or colors; PIL sees to every other kind.
    shape, dtype = builder.info.features[image].shape, builder.info.features[image].np_dtype
    plain = None not in shape and shape[-1] in (1, 3) and dtype == np.uint8
    data = tfds.load(
        name,
        split=split,
        data_dir=str(folder),
        download=False,
        batch_size=-1,  # one tensor: an example at a time is 20 times slower
        shuffle_files=False,
        decoders=tfds.decode.PartialDecoding(
            {image: True, label: True}, decoders={} if plain else {image: tfds.decode.SkipDecoding()}
        ),
        read_config=tfds.ReadConfig(interleave_cycle_length=1),
    )
    data = tfds.as_numpy(data)
    images = data[image]
    if not plain:
        return tuple(images.tolist()), data[label]
    return np.repeat(images, 3, axis=-1) if shape[-1] == 1 else images, data[label]
