"""What Prometheus is told of one worker process; `workers.py` puts several together."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.registry import Collector

from flts_assets import __version__
from flts_assets.serving.champions import Served
from flts_assets.serving.limits import Gate

__all__ = ["Metrics", "memory_limit"]

_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_CHAMPION = ("station", "recipe", "model_type", "config_hash")

LIMIT_FILES: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""of a container's memory, cgroups 2 and 1"""
_NO_LIMIT: Final = 1 << 60
"""cgroups 1 says "no limit" with a number above this"""


class Metrics:
    """One registry an application: two in one process do not meet."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._add_build()
        self.responses = self._counter(
            "flts_responses",
            "Responses by route template (other: no endpoint) and status",
            ("route", "status"),
        )
        self._of_response: dict[tuple[str, int], Counter] = {}
        self.overloads = self._counter(
            "flts_overload_refusals", "Requests refused because too much was in flight"
        )
        self.in_flight = self._gauge("flts_requests_in_flight", "Requests that are worked on")
        self.most_in_flight = self._gauge(
            "flts_requests_in_flight_limit", "How many may be worked on at once"
        )
        self.champions = self._gauge("flts_champions", "Champions that are served")
        self.promoted_at = self._gauge(
            "flts_champion_promoted_timestamp_seconds",
            "When a served champion was promoted, seconds since 1970",
            _CHAMPION,
        )
        self._told: tuple[Served, set[tuple[str, ...]]] | None = None
        self.refused = self._gauge("flts_champions_refused", "Pointers that are refused")
        self.polled_at = self._gauge(
            "flts_last_poll_timestamp_seconds",
            "When the pointers were last looked at with success, seconds since 1970",
        )
        self.polls_failed = self._counter("flts_polls_failed", "Looks at the pointers that failed")
        self.selections = self._counter(
            "flts_selected_messages", "Messages of model-selected that were seen"
        )
        self.broker_errors = self._counter(
            "flts_broker_errors", "Errors of the message broker's client"
        )
        self.predict_s = Histogram(
            "flts_predict_seconds",
            "From a read body to its forecasts",
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self.predictions_written = self._counter(
            "flts_predictions_written", "Forecasts in the prediction log"
        )
        self.predictions_dropped = self._counter(
            "flts_predictions_dropped", "Forecasts that the prediction log had no room for"
        )

    def watch(self, gate: Gate, most: int) -> None:
        """Tell how many requests are in flight; the gate is asked when Prometheus asks."""
        self.in_flight.set_function(lambda: gate.in_flight)
        self.most_in_flight.set(most)

    def answered(self, route: str, status: int) -> None:
        """One more response. Every request pays for this: about a microsecond."""
        found = self._of_response.get((route, status))
        if found is None:
            found = self._of_response[route, status] = self.responses.labels(route, str(status))
        found.inc()

    def looked(self, served: Served) -> None:
        """The pointers were looked at, and this is what came of it. For one thread at a time."""
        self.polled_at.set(time.time())
        before, told = self._told or (None, set())
        if served is before:
            return
        self.champions.set(len(served.by_hash))
        self.refused.set(len(served.refused))
        now: set[tuple[str, ...]] = set()
        for config_hash, one in served.by_hash.items():
            labels = (one.station, one.recipe.name, one.promotion.model_type, config_hash)
            self.promoted_at.labels(*labels).set(one.promotion.timestamp.timestamp())
            now.add(labels)
        for gone in told - now:
            self.promoted_at.remove(*gone)
        self._told = served, now

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def text_as_worker(self) -> bytes:
        """`text` whose samples carry the label `worker`, the process id."""
        return generate_latest(_Labelled(self._registry, {"worker": str(os.getpid())}))

    def _add_build(self) -> None:
        build = self._gauge("flts_build_info", "Always 1", ("version", "python"))
        build.labels(__version__, platform.python_version()).set(1)
        limit = memory_limit()
        if limit is not None:
            self._gauge("flts_memory_limit_bytes", "Of this container").set(limit)

    def _counter(self, name: str, what: str, labels: Sequence[str] = ()) -> Counter:
        """Exposed as `<name>_total`."""
        return Counter(name, what, labels, registry=self._registry)

    def _gauge(self, name: str, what: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(name, what, labels, registry=self._registry)


class _Labelled(Collector):
    """What another collector tells, with more labels."""

    def __init__(self, told: Collector, labels: Mapping[str, str]) -> None:
        self._told = told
        self._labels = labels

    def collect(self) -> Iterator[Metric]:
        for family in self._told.collect():
            family.samples = [
                one._replace(labels={**one.labels, **self._labels}) for one in family.samples
            ]
            yield family


def memory_limit(files: Sequence[Path] = LIMIT_FILES) -> int | None:
    """Bytes that this container may use; None: as many as there are."""
    for file in files:
        try:
            text = file.read_text().strip()
        except OSError:  # no container, or not Linux
            continue
        return int(text) if text.isdecimal() and int(text) < _NO_LIMIT else None
    return None
