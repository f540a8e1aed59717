"""Promotions as the broker tells them: a thread that waits for `model-selected` and wakes the service.

What is in a message is not believed: the service looks at the pointers itself, as it does anyway every
FLTS_SERVING_POLL_S. So a lost message costs no more than that time, and one too many costs a look.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Final

from flts_assets.logs import EventLog
from flts_assets.serving.metrics import Metrics
from flts_assets.settings import KafkaSettings
from flts_assets.stores.events import MODEL_SELECTED, new_client

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError

__all__ = ["SelectedListener"]

POLL_S: Final = 0.5
CLOSE_S: Final = 5.0
"""how long a closing service waits; the thread is a daemon and holds nothing back"""


class SelectedListener:
    """Calls `wake` after each message, and when it begins to listen, also after an interruption."""

    def __init__(
        self, kafka: KafkaSettings, metrics: Metrics, log: EventLog, wake: Callable[[], object]
    ) -> None:
        """Raises EnvironmentValueError where the client library or its properties cannot be used."""
        self._topic = kafka.topic(MODEL_SELECTED)
        self._metrics = metrics
        self._log = log
        self._wake = wake
        self._closing = Event()
        self._down = False
        self._consumer: Consumer = new_client(
            "Consumer",
            kafka,
            {
                # Kept small: the service reads a short message now and then.
                "queued.max.messages.kbytes": 1024,
                "queued.min.messages": 10,
                "topic.metadata.refresh.interval.ms": 30_000,
                # A group of its own: every worker hears every message, and leaves nothing behind.
                "group.id": f"flts-serving-{uuid.uuid4().hex}",
                "auto.offset.reset": "latest",
                "enable.auto.commit": False,
                "error_cb": self._troubled,
            },
        )
        self._thread = Thread(target=self._run, name="model-selected", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._closing.set()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        self._consumer.subscribe([self._topic], on_assign=self._listening)
        while not self._closing.is_set():
            try:
                message = self._consumer.poll(POLL_S)
                if message is None:
                    continue
                error = message.error()
                if error is not None:
                    self._troubled(error)
                    continue
            except (
                Exception
            ) as error:  # polling the pointers goes on; here only the next message counts
                self._metrics.broker_errors.inc()
                self._log.error("broker_failed", message=str(error))
                self._closing.wait(POLL_S)
                continue
            self._metrics.selections.inc()
            self._up()
            self._wake()
        self._consumer.close()

    def _listening(self, _consumer: Any, _partitions: Any) -> None:
        # What was promoted before, or while nobody listened, is not told again.
        self._up()
        self._log.info("listening", topic=self._topic)
        self._wake()

    def _troubled(self, error: KafkaError) -> None:
        """Told once until it works again: the client repeats itself every second."""
        self._metrics.broker_errors.inc()
        if not self._down:
            self._down = True
            self._log.warning("broker_unavailable", message=error.str())

    def _up(self) -> None:
        if self._down:
            self._down = False
            self._log.info("broker_available")
