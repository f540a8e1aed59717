"""The prediction log: answers are noted in memory and written by a thread of their own.

    request -> add -> [ oldest … newest ] -> thread: a batch every FLUSH_S, or at BATCH_BYTES -> store

A record becomes its line of JSON at once. Were it left to the thread, every batch would take the
interpreter from the requests for a quarter of a second; compressing and writing let go of it.

A batch leaves memory only once it is stored. While the store fails the same batch is tried again, under
the same key, and what comes beyond MOST_BYTES is dropped and counted; no request ever waits or fails.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Sequence
from itertools import islice, takewhile
from threading import Condition, Thread
from typing import Any, Final, NamedTuple

import numpy as np

from flts_assets.errors import ObjectExistsError
from flts_assets.logs import EventLog
from flts_assets.serving.metrics import Metrics
from flts_assets.serving.requests import Ask
from flts_assets.stores.object_store import INFERENCE_LOGS, ObjectStore
from flts_assets.stores.prediction_records import Answerer, PredictionRecord, compressed, key_of

__all__ = ["PredictionLog"]

FLUSH_S: Final = 5.0
BATCH_BYTES: Final = 4_000_000
BATCH_RECORDS: Final = 10_000
MOST_BYTES: Final = 24_000_000
DAY_S: Final = 86_400
DRAIN_S: Final = 10.0
"""how long a closing service waits for its last records"""
_LINE_BYTES: Final = 200
"""what a line takes beside its text"""


class _Line(NamedTuple):
    identifier: str
    asked_at: float
    text: bytes

    @property
    def folder(self) -> tuple[str, int]:
        """Lines of one identifier and day (UTC) may share an object."""
        return self.identifier, int(self.asked_at // DAY_S)

    @property
    def size(self) -> int:
        return _LINE_BYTES + len(self.text)


class PredictionLog:
    """Takes answers from any thread; between `start` and `close` it writes them."""

    def __init__(
        self,
        store: ObjectStore,
        metrics: Metrics,
        log: EventLog,
        flush_s: float = FLUSH_S,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._log = log
        self._flush_s = flush_s
        self._most = most_bytes
        self._worker = uuid.uuid4().hex[:8]
        self._number = 0
        self._lines: deque[_Line] = deque()
        self._size = 0
        self._tried: list[_Line] = []
        self._closing = False
        self._changed = Condition()
        self._thread = Thread(target=self._run, name="prediction-log", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Write what is left; what cannot be written within DRAIN_S is dropped and counted."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(DRAIN_S)
        with self._changed:
            left = len(self._lines)
        if left:
            self._metrics.predictions_dropped.inc(left)
            self._log.error("predictions_lost", records=left)

    def add(self, asks: Sequence[Ask], answers: Sequence[dict[str, Any]], latency_s: float) -> None:
        """Note what was asked and answered, or count it as dropped where there is no room."""
        now = time.time()
        for ask, answer in zip(asks, answers, strict=True):
            record = _record(ask, answer, now, latency_s)
            line = _Line(record.by.identifier, now, record.line())
            with self._changed:
                if self._size + line.size > self._most:
                    self._metrics.predictions_dropped.inc()
                    continue
                self._lines.append(line)
                self._size += line.size
                if self._size >= BATCH_BYTES:
                    self._changed.notify()

    def _run(self) -> None:
        failed = False
        while self._wait(failed):
            failed = not self._write_all()
        self._write_all()

    def _wait(self, failed: bool) -> bool:
        """Until there is something to do; False once the log is closing."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closing or (self._size >= BATCH_BYTES and not failed), self._flush_s
            )
            return not self._closing

    def _write_all(self) -> bool:
        """What there is by now, oldest first. False as soon as the store fails."""
        left = len(self._lines)
        while left > 0:
            batch = self._tried = self._tried or self._oldest()
            first = batch[0]
            key = key_of(first.identifier, first.asked_at, self._worker, self._number)
            try:
                self._store.create(INFERENCE_LOGS, key, compressed([one.text for one in batch]))
            except ObjectExistsError:
                pass  # the try before this one arrived, although it said it failed
            except Exception as error:  # each kind of store raises its own
                self._log.error("prediction_log_failed", key=key, message=str(error))
                return False
            self._number += 1
            self._tried = []
            left -= len(batch)
            with self._changed:
                for line in batch:
                    self._lines.popleft()
                    self._size -= line.size
            self._metrics.predictions_written.inc(len(batch))
        return True

    def _oldest(self) -> list[_Line]:
        with self._changed:
            some = list(islice(self._lines, BATCH_RECORDS))
        return list(takewhile(lambda one: one.folder == some[0].folder, some))


def _record(ask: Ask, answer: dict[str, Any], now: float, latency_s: float) -> PredictionRecord:
    steps = answer["predictions"]
    _, *columns = steps[0]
    series = ask.series
    return PredictionRecord(
        asked_at=now,
        by=Answerer(
            answer["identifier"],
            answer["run_id"],
            answer["config_hash"],
            answer["model_type"],
            answer["station"],
        ),
        last_time=series.times[-1],
        last_row=series.values[-1],
        times=ask.times,
        columns=tuple(columns),
        values=np.array([[step[name] for name in columns] for step in steps]),
        latency_s=latency_s,
    )
