"""The training batches of a run, of images or of cached features, and its evaluator."""

from collections.abc import Iterator

from jft.data import loader
from jft.data.feeds.choose import Choice, choose, host_batches, open_feed
from jft.data.feeds.feed import Feed
from jft.data.feeds.images import Batch, Images, Reading, Rows
from jft.data.source import Source
from jft.evaluation.evaluator import Evaluator
from jft.features.extract import FeatureFeed
from jft.features.store import Features
from jft.training.feature_cache import Cached
from jft.training.phases import Phase
from jft.training.run import Run
from jft.training.stretches import StretchFeed
from jft.training.taught import TaughtFeed


def make_evaluator(run: Run, phase: Phase | None = None) -> Evaluator:
    """The evaluator of a run's config; with a phase, it evaluates cached features of the phase's boundary."""
    return Evaluator(
        run.model,
        run.spec,
        run.parallel,
        objective=run.objective,
        fit=run.config.fit,
        batch_size=run.config.eval_batch_size,
        resize_on=run.config.resize_on,
        cache_bytes=run.config.cache_bytes,
        input=run.config.input,
        boundary=phase.plan.boundary if phase else None,
        metrics=run.metrics,
    )


def images_of(run: Run, source: Source) -> Images:
    """The images of a source as the run reads them: training files larger than the network by `stored_scale`."""
    config, spec = run.config, run.spec
    if source is run.train_source and config.stored_scale > 1:
        spec = spec.at(round(spec.size * config.stored_scale))
    return Images(source, Reading(spec, config.fit, config.resize_on, config.cache_bytes, config.input))


def input_choice(run: Run) -> Choice:
    """Which feed reads the training images, and why."""
    return choose(images_of(run, run.train_source), run.parallel)


def open_images(run: Run) -> None:
    """Places the images of training and validation that live on the devices, whose memory is taken from now on."""
    for source in (run.train_source, run.validation_source):
        if len(source):
            open_feed(images_of(run, source), run.parallel)


def train_feed(run: Run, cached: Cached | None, stretch: int = 1, taught: Features | None = None) -> Feed:
    """The feed of the training images, or of their cached features, in stretches of as many steps at most.

    With `taught`, the cached logits of a teacher, batches hold these, too.
    """
    feed = _untaught_feed(run, cached, stretch)
    return feed if taught is None else TaughtFeed(feed, taught, run.parallel)


def _untaught_feed(run: Run, cached: Cached | None, stretch: int) -> Feed:
    if cached is None:
        return open_feed(images_of(run, run.train_source), run.parallel)
    if stretch > 1:
        return StretchFeed(run, run.train_source, cached.train, stretch)
    return FeatureFeed(run.train_source, cached.train, run.parallel)


def train_rows(run: Run) -> Rows:
    """The order of the training images: a function from a step, from 0, to this process' rows and mask."""
    return loader.train_rows(
        run.train_source,
        batch_size=run.config.batch_size,
        seed=run.config.seed,
        shard=run.parallel.shard,
        balanced=run.config.balance == "sampling",
    )


def image_batches(run: Run, start: int, stop: int) -> Iterator[Batch]:
    """This process' share of the training images from step `start` to `stop`, on the host; see `Feed.batches`."""
    return host_batches(images_of(run, run.train_source), train_rows(run), range(start, stop))
