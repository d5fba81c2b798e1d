"""Which feed reads a source: the one place that knows them all."""

import dataclasses
import sys
from collections.abc import Iterator

from jft.data import lazy_tf
from jft.data.feeds import tf_data, threads
from jft.data.feeds.feed import Feed, HostFeed
from jft.data.feeds.images import Batch, Images, Rows
from jft.utils.mesh import Parallel

_HOST = {"tf.data": tf_data.batches, "threads": threads.batches}


@dataclasses.dataclass(frozen=True)
class Choice:
    """A feed by name, and why.

    Attributes:
      feed: a value of the field `input` other than 'auto'.
      why: the reason, for people.
    """

    feed: str
    why: str

    def __str__(self) -> str:
        return f"{self.feed}, {self.why}"


def choose(images: Images) -> Choice:
    """Chooses the feed that `reading.input` asks for, where it is possible, else by the kind of images.

    All feeds yield the same batches, so that a run may go on with another.
    """
    asked, installed = images.reading.input, lazy_tf.is_installed()
    if asked == "threads" or (asked == "tf.data" and installed):
        return Choice(asked, "as asked for")
    if asked == "tf.data":
        return Choice("threads", "because tf.data needs TensorFlow, which is not installed")
    if images.resizes and installed:
        return Choice("tf.data", "because the host resizes arrays (resize_on = 'host')")
    if _of_tfds(images) and installed:
        return Choice("tf.data", "because TensorFlow Datasets has loaded TensorFlow already")
    return Choice("threads", "without TensorFlow")


def host_batches(images: Images, rows: Rows, steps: range) -> Iterator[Batch]:
    """The batches of a feed on the host, which hold `'image'`; see `Feed.batches`."""
    return _HOST[choose(images).feed](images, rows, steps)


def open_feed(images: Images, parallel: Parallel) -> Feed:
    """The feed that `choose` names."""
    return HostFeed(images, parallel, _HOST[choose(images).feed])


def _of_tfds(images: Images) -> bool:
    """Whether TensorFlow Datasets has read the images, which are files in memory then."""
    pixels = images.source.images
    return not images.source.decoded and isinstance(pixels[0], bytes) and "tensorflow_datasets" in sys.modules
