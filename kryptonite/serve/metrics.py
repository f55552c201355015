"""Figures for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """Counts what one service answers.

    Args:
        waiting: Gives the number of requests that wait for their batch.
    """

    def __init__(self, waiting: Callable[[], int]):
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "kryptonite_requests",
            "Requests by the code of their answer: of the decision, of the error, or ok.",
            ["endpoint", "code"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "kryptonite_request_seconds",
            "Time from a request's headers to its answer.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._batches = Histogram(
            "kryptonite_batch_requests",
            "Requests computed together.",
            buckets=_SIZES,
            registry=self._registry,
        )
        queue = Gauge(
            "kryptonite_queue_requests",
            "Requests that wait for their batch.",
            registry=self._registry,
        )
        queue.set_function(waiting)

    def count_request(self, endpoint: str, code: str, seconds: float) -> None:
        """Counts an answered request."""
        self._requests.labels(endpoint, code).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def count_batch(self, size: int) -> None:
        """Counts a batch."""
        self._batches.observe(size)

    def exposition(self) -> bytes:
        """Gives all figures in Prometheus's text format."""
        return generate_latest(self._registry)
