"""Training images in the page: small copies, and the features by which it finds the nearest."""

import base64
import io
from typing import Any

import jax.numpy as jnp
import numpy as np
from PIL import Image

from jft.data.source import Source
from jft.evaluation import gallery
from jft.evaluation.predictor import Predictor
from jft.utils.text import html

_SIDE = 112  # longest side of a copy, in pixels
_QUALITY = 80  # of its JPEG; about 4 kB each


def chosen(labels: np.ndarray, most: int) -> np.ndarray:
    """Rows of at most `most` images, in turn from each class: int64 [n], ascending.

    Args:
      labels: int [n], or 0 and 1 [n, labels] where images have several; of those the first counts.
      most: number of rows, at least 1.
    """
    classes = labels.argmax(axis=1) if labels.ndim == 2 else labels
    turn = np.zeros(len(classes), np.int64)  # how many images of its class come before an image
    for label in np.unique(classes):
        rows = np.flatnonzero(classes == label)
        turn[rows] = np.arange(len(rows))
    return np.sort(np.argsort(turn, kind="stable")[:most])


def collect(predictor: Predictor, train: Source, most: int) -> dict[str, Any]:
    """What the page knows of training images.

    Args:
      predictor: the run's model.
      train: the images that it was trained on.
      most: how many of them to embed.

    Returns:
      Of JSON types. 'images': JPEGs in base64. 'labels': a name each, escaped. 'of': number of training images.
      'features': base64 of bfloat16 [n, d], little-endian, each row of length 1.
    """
    rows = chosen(train.labels, most)
    features = gallery.features(predictor, train)[rows]
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = np.asarray(features / np.where(lengths > 0, lengths, 1), jnp.bfloat16)
    return {
        "images": [_jpeg(gallery.shown(predictor, train.pixels(row, predictor.spec))) for row in rows.tolist()],
        "labels": [html(train.label(row) or "none") for row in rows.tolist()],
        "of": len(train),
        "features": base64.b64encode(unit.view(np.uint16).astype("<u2").tobytes()).decode(),
    }


def _jpeg(pixels: np.ndarray) -> str:
    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE))
    held = io.BytesIO()
    image.save(held, "JPEG", quality=_QUALITY)
    return base64.b64encode(held.getvalue()).decode()
