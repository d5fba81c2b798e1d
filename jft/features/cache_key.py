"""The key of cached features: everything that the output of the frozen stages depends on, and a digest of each image.

Features are the same if their recipe and their image are the same. File paths, modification times, splits, seeds and
order do not count, so the features of an image are reused wherever the image occurs.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from concurrent import futures
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jft.data.augment import Augmentation
from jft.data.decode import cannot_read
from jft.data.source import Source
from jft.data.transforms import Preprocess
from jft.features import program_digest
from jft.features.feature_step import Wanted
from jft.models import Chain, between
from jft.utils import distributed, tree
from jft.utils.files import open_regular

# Version of a shard's files. `program_digest` identifies the computation.
FORMAT = 2

DIGEST_BYTES = 16

# Fields of a model without effect in inference mode, and those without effect before the head.
_OF_TRAINING = frozenset(
    (
        "parent",
        "name",
        "default_size",
        "aux_heads",
        "aux_dropout",
        "dropout",
        "head_dropout",
        "drop_path",
        "bn_momentum",
        "axis_name",
        "in_channels",  # says what `preprocess` does
    )
)
# `pool` shows in the program.
_OF_THE_HEAD = frozenset(("num_classes", "cut", "new_head", "head_hidden", "pool"))


def recipe(model: Chain, variables: Mapping[str, Any], spec: Preprocess, wanted: Wanted) -> dict[str, Any]:
    """Everything that the features of an image depend on, except the image itself.

    Args:
      model: the model; its `dtype` is that of the computation.
      variables: `{'params', 'batch_stats'}`; stages after the boundary are ignored.
      spec: preprocessing of the weights.
      wanted: which features.

    Returns:
      A dict of JSON types; 'output' is the shape of the features of one variant of an image.

    Raises:
      ValueError: an unknown stage, an augmentation with uncountable variants, or an image size that does not fit the
        variables.
    """
    augmentation = wanted.augmentation or Augmentation()
    if why := augmentation.uncountable(spec, wanted.fit):
        raise ValueError(f"features can be cached only for a countable number of variants, but {why}.")
    stages = between(tuple(model.stages()), None, wanted.boundary)
    five = wanted.variants >= 5
    known = program_digest.examine(model, variables, spec, wanted)
    return {
        "format": FORMAT,
        "model": _described(model, _OF_TRAINING if wanted.boundary == "head" else _OF_TRAINING | _OF_THE_HEAD),
        "boundary": wanted.boundary,
        **({"earlier": list(wanted.earlier)} if wanted.earlier else {}),  # absent, so that older keys stay
        "pooled": wanted.pooled,
        "weights": _digest_of_weights(variables, stages),
        "preprocess": spec.to_dict(),
        "fit": wanted.fit,
        "resize_on": wanted.resize_on,
        "variants": {"flip": augmentation.flip, "crop": "five" if five else "center"},
        "platform": jax.default_backend(),
        "program": known.digest,
        "output": list(known.output),
    }


def key(recipe: Mapping[str, Any]) -> str:
    """Digest of a recipe, independent of the order of its fields: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def image_digests(source: Source) -> np.ndarray:
    """Digests of the images of a source: of the pixels in memory, or of the file's bytes, and of the region.

    Args:
      source: n images; files are read in threads.

    Returns:
      uint8 [n, 16], BLAKE2b.

    Raises:
      ValueError: a file that cannot be read.
    """

    def digest(row: int) -> bytes:
        image = source.images[row]
        # The shape of an image in memory is not part of its bytes.
        about = getattr(image, "shape", "file"), None if regions is None else regions[row].tolist()
        hashed = hashlib.blake2b(repr(about).encode(), digest_size=DIGEST_BYTES)
        if isinstance(image, Path):
            try:
                with open_regular(image) as file:
                    hashlib.file_digest(file, lambda: hashed)
            except (OSError, ValueError) as error:
                raise cannot_read(str(image), error) from error
        else:
            hashed.update(np.ascontiguousarray(image) if source.decoded else image)
        return hashed.digest()

    regions = source.regions
    if source.decoded:  # hashing is faster than passing it to a thread
        digests = [digest(row) for row in range(len(source))]
    else:
        with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            digests = list(pool.map(digest, range(len(source))))
    return np.frombuffer(b"".join(digests), np.uint8).reshape(len(source), DIGEST_BYTES)


def _described(model: Chain, without_effect: frozenset[str]) -> dict[str, Any]:
    """The model's type and fields."""
    fields = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    known = {name: _plain(value) for name, value in fields.items() if name not in without_effect}
    return {"type": type(model).__name__, **known, "dtype": jnp.dtype(model.dtype).name}


def _plain(value: Any) -> Any:
    """A field's value in JSON types."""
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _digest_of_weights(variables: Mapping[str, Any], stages: tuple[str, ...]) -> str:
    """SHA-256 of names, dtypes, shapes and bytes of the leaves of these stages, including running statistics."""
    digest = hashlib.sha256()
    leaves = tree.flatten({kind: variables.get(kind, {}) for kind in ("params", "batch_stats")})
    for name in sorted(leaves):
        if name.split("/")[1] in stages:
            leaf = distributed.to_host(leaves[name])
            digest.update(repr((name, leaf.dtype.name, leaf.shape)).encode())
            digest.update(np.ascontiguousarray(leaf).view(np.uint8).reshape(-1))
    return digest.hexdigest()
