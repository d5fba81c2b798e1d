"""Image classification datasets from TensorFlow Datasets (TFDS), by name."""

import functools
import os
import pathlib
import shutil
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jft.data.lazy_tf import import_datasets
from jft.data.names import splits_of
from jft.utils import tree

Reader = Callable[[], tuple[np.ndarray | tuple[bytes, ...], np.ndarray]]


def root(data_dir: str | None) -> pathlib.Path:
    """`data_dir` as a path; if empty, the default folder of TFDS."""
    return pathlib.Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def prepared(name: str, folder: pathlib.Path) -> bool:
    """Whether TFDS has prepared a dataset in this folder, checked without importing TFDS."""
    return next(folder.glob(f"{name}/**/dataset_info.json"), None) is not None


def find(
    name: str, data_dir: str | None, *, url: str = "", remedy: str = "", others: Sequence[str] = ()
) -> tuple[tuple[str, ...], dict[str, Reader]]:
    """Finds the classes and splits of a TFDS dataset. Prepares it first if needed, which may download it.

    Args:
      name: as in `tfds.load`, such as 'oxford_flowers102' or 'cats_vs_dogs:4.0.1'.
      data_dir: folder of TFDS; None or empty: its default.
      url: checked before downloading, because TFDS takes minutes to notice that there is no network.
      remedy: last sentence of the error if the dataset cannot be prepared.

    Returns:
      The class names, and {split: function} for those of 'train', 'validation' and 'test' that exist. Each function
      returns images, uint8 [n, h, w, 3] if all have the same size, otherwise encoded bytes; and labels. A dataset with
      'validation' but without 'test' has its validation split named 'test'.

    Raises:
      ValueError: TFDS does not know the name or is not installed, or the dataset is not image classification.
      FileNotFoundError: the dataset cannot be prepared; says why.
    """
    tfds = import_datasets(name, others, remedy)
    folder = root(data_dir)
    try:
        builder = tfds.builder(name, data_dir=str(folder))
    except tfds.core.DatasetNotFoundError:
        guess = tree.did_you_mean(name, [*others, *tfds.list_builders(with_community_datasets=False)])
        raise ValueError(
            f"unknown dataset {name!r}{guess} Known are {', '.join(others)}, the datasets of TFDS, and those prepared "
            f"in {folder}."
        ) from None
    _, label = _features(name, builder)
    if not builder.is_prepared():
        _prepare(builder, name, folder, url, remedy)
    spelled = splits_of(builder.info.splits, name)
    readers = {split: functools.partial(_read, name, spelling, folder) for split, spelling in spelled.items()}
    if "test" not in readers and "validation" in readers:
        readers["test"] = readers.pop("validation")
    return tuple(_feature(builder, label).names), readers


def _feature(builder: Any, key: str) -> Any:
    """What the dataset says of one of its features."""
    return builder.info.features[key]


def _features(name: str, builder: Any) -> tuple[str, str]:
    """Names of the image and label features: 'image' and 'label', or the only ones of their type."""
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
    """Downloads and prepares a dataset; removes the folders that it created if that fails."""
    made = [
        path for path in (folder / name.split("/")[0].split(":")[0], folder / "downloads", folder) if not path.exists()
    ]
    try:
        if url:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=20).close()
        builder.download_and_prepare()
    except Exception as e:  # TFDS, its dataset scripts and the network raise all kinds of errors
        for path in made:
            shutil.rmtree(path, ignore_errors=True)
        raise FileNotFoundError(
            f"{name} is not in {folder} and TFDS could not prepare it there ({type(e).__name__}: {e}). "
            f"{remedy or f'On a machine with a network run `tfds build {name} --data_dir DIR`, then copy DIR there.'}"
        ) from e


def _read(name: str, split: str, folder: pathlib.Path) -> tuple[np.ndarray | tuple[bytes, ...], np.ndarray]:
    """All images and labels of a split, in the order of its record files."""
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=str(folder))
    image, label = _features(name, builder)
    # Decode here only if all images have the same size and are 8-bit gray or RGB; otherwise keep bytes for PIL.
    shape, dtype = _feature(builder, image).shape, _feature(builder, image).np_dtype
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
