"""Which feed reads a source: the one place that knows them all."""

import dataclasses
import sys
import weakref
from collections.abc import Hashable, Iterator

from jft.data import lazy_tf
from jft.data.feeds import resident, tf_data, threads
from jft.data.feeds.feed import Feed, HostFeed
from jft.data.feeds.images import Batch, Images, Rows
from jft.data.source import Source
from jft.utils import memory
from jft.utils.mesh import Parallel
from jft.utils.text import human_bytes

_HOST = {"tf.data": tf_data.batches, "threads": threads.batches}
_SHARE = 0.25  # of a device's free memory that the images of one source may take; steps take the most

# What was chosen for a source: memory that is free now may be taken later, and what is said at the start should hold.
_chosen: weakref.WeakKeyDictionary[Source, dict[Hashable, "Choice"]] = weakref.WeakKeyDictionary()


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


def choose(images: Images, parallel: Parallel, *, once: bool = False) -> Choice:
    """Chooses the feed that `reading.input` asks for, where it is possible, else by images and memory.

    All feeds yield the same batches, so that a run may go on with another. All processes must call it.

    Args:
      images: the images, and how to read them.
      parallel: the devices.
      once: each image is read only once, so that 'auto' does not place it for good.
    """
    known, key = _chosen.setdefault(images.source, {}), (images.reading, parallel, once)
    if key not in known:
        known[key] = _choose(images, parallel, once)
    return known[key]


def open_feed(images: Images, parallel: Parallel, *, once: bool = False) -> Feed:
    """The feed that `choose` names. If its images live on the devices, they are decoded and placed now."""
    choice = choose(images, parallel, once=once)
    if choice.feed == "resident":
        return resident.ResidentFeed(images, parallel)
    return HostFeed(images, parallel, _HOST[choice.feed])


def host_batches(images: Images, rows: Rows, steps: range) -> Iterator[Batch]:
    """Batches on the host, which hold `'image'`, by 'tf.data' or 'threads'; see `Feed.batches`."""
    return _HOST[_on_host(images).feed](images, rows, steps)


def _choose(images: Images, parallel: Parallel, once: bool) -> Choice:
    asked = images.reading.input
    if asked in _HOST:
        return _on_host(images)
    obstacle = _obstacle(images, parallel)
    if asked == "auto":
        obstacle = obstacle or _loss(parallel, once)
    if obstacle is None:
        size, count = human_bytes(resident.nbytes_of(images, parallel)), parallel.mesh.size
        return Choice("resident", f"{size} of images on {'the device' if count == 1 else f'each of {count} devices'}")
    chosen = _on_host(images)
    return Choice(chosen.feed, f"and not resident: {obstacle}" if asked == "resident" else f"because {obstacle}")


def _on_host(images: Images) -> Choice:
    asked, installed = images.reading.input, lazy_tf.is_installed()
    if asked == "tf.data" and not installed:
        return Choice("threads", "because tf.data needs TensorFlow, which is not installed")
    if asked in _HOST:
        return Choice(asked, "as asked for")
    return Choice("tf.data" if installed and (images.resizes or _of_tfds(images)) else "threads", "")


def _of_tfds(images: Images) -> bool:
    """Whether TensorFlow Datasets has read the images, which are files in memory then."""
    pixels = images.source.images
    return not images.source.decoded and isinstance(pixels[0], bytes) and "tensorflow_datasets" in sys.modules


def _obstacle(images: Images, parallel: Parallel) -> str | None:
    """Why images cannot live on the devices, or None."""
    if parallel.mode == "pmap":
        return "parallel = 'pmap' gives each device a batch of its own"
    if images.resizes:
        return "the host resizes arrays (resize_on = 'host')"
    size = resident.nbytes_of(images, parallel)
    if not images.fit_in_cache():
        whole, most = human_bytes(size * parallel.mesh.size), human_bytes(images.reading.cache_bytes)
        return f"{len(images.source):,} decoded images of {whole} do not fit in cache_bytes = {most}"
    free = memory.free(parallel)
    if free is not None and size > _SHARE * free:
        return f"{human_bytes(size)} of images are more than {_SHARE:.0%} of a device's free {human_bytes(free)}"
    return None


def _loss(parallel: Parallel, once: bool) -> str | None:
    """Why images had better not live on the devices, or None."""
    if once:
        return "each image is read once"
    if parallel.mesh.devices.flat[0].platform == "cpu" and parallel.mesh.size > 1:
        return "CPU devices would pass each image on"
    return "the device does not report its memory" if memory.free(parallel) is None else None
