"""What a server counts, in Prometheus' text format."""

from typing import Any

from prometheus_client import (  # pyright: ignore[reportMissingImports]
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Figures:
    """Counters of one server.

    Attributes:
      requests: to /predict, by status.
      seconds: from the head of such a request to its answer.
      images: answered.
      waiting: images that are being decoded or wait for the model.
    """

    def __init__(self) -> None:
        own: dict[str, Any] = {"registry": CollectorRegistry()}
        self.requests = Counter("jft_requests", "Requests to /predict, by status of HTTP.", ["status"], **own)
        self.seconds = Histogram("jft_request_seconds", "Seconds of a request to /predict.", buckets=_SECONDS, **own)
        self.images = Counter("jft_images", "Images answered.", **own)
        self.waiting = Gauge("jft_images_waiting", "Images being decoded or waiting for the model.", **own)
        self._sizes = Histogram("jft_batch_images", "Images of a batch.", buckets=[2**n for n in range(9)], **own)
        self._batch_seconds = Histogram("jft_batch_seconds", "Seconds of a batch.", buckets=_SECONDS, **own)
        self._registry = own["registry"]
        ProcessCollector(registry=self._registry)  # CPU time and memory, on Linux

    def batch(self, images: int, seconds: float) -> None:
        """Notes a batch of the model."""
        self._sizes.observe(images)
        self._batch_seconds.observe(seconds)

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self._registry)
