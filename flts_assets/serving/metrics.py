"""What Prometheus is told; every worker process has its own."""

from __future__ import annotations

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

__all__ = ["Metrics"]

_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Metrics:
    """One registry an application: two in one process do not meet."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.champions = Gauge(
            "flts_champions", "Champions that are served", registry=self._registry
        )
        self.refused = Gauge(
            "flts_champions_refused", "Pointers that are refused", registry=self._registry
        )
        self.polls_failed = Counter(
            "flts_polls_failed", "Looks at the pointers that failed", registry=self._registry
        )
        self.predict_s = Histogram(
            "flts_predict_seconds",
            "From a read body to its forecasts",
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self.predictions_written = Counter(
            "flts_predictions_written", "Forecasts in the prediction log", registry=self._registry
        )
        self.predictions_dropped = Counter(
            "flts_predictions_dropped",
            "Forecasts that the prediction log had no room for",
            registry=self._registry,
        )

    def text(self) -> bytes:
        return generate_latest(self._registry)
