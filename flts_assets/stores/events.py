"""The message broker: one message at a time, sent until every in-sync replica has it.

Kafka keeps order inside a partition, and a key's messages share one. A message is sent only after the one
before it was acknowledged: whatever fails, none overtakes another. That costs a round trip a message.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from flts_assets.errors import (
    BrokerUnavailableError,
    EnvironmentValueError,
    EventError,
    MessageRefusedError,
)
from flts_assets.settings import KafkaSettings

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Producer

__all__ = [
    "DEAD_LETTERS",
    "INFERENCE_DATA",
    "MODEL_SELECTED",
    "MODEL_TRAINING",
    "SCHEMA_VERSION",
    "TRAINING_DATA",
    "Broker",
    "KafkaBroker",
    "Message",
    "new_client",
]

TRAINING_DATA: Final = "training-data"
INFERENCE_DATA: Final = "inference-data"
MODEL_TRAINING: Final = "model-training"
MODEL_SELECTED: Final = "model-selected"
DEAD_LETTERS: Final = "flts-dead-letters"

SCHEMA_VERSION: Final = 1
"""`v` of every payload; raised when a field changes its meaning or goes away"""
SEND_S: Final = 5.0
"""how long one message may take before it counts as not sent"""

_REFUSALS: Final = (
    "MSG_SIZE_TOO_LARGE",
    "RECORD_LIST_TOO_LARGE",
    "INVALID_MSG",
    "INVALID_MSG_SIZE",
    "INVALID_RECORD",
    "INVALID_TIMESTAMP",
    "TOPIC_EXCEPTION",
    "POLICY_VIOLATION",
)
"""answers that stay the same however often the message is sent"""


@dataclass(frozen=True)
class Message:
    """What is told, under which key, and by what a reader knows it if it comes twice."""

    topic: str
    key: str
    value: bytes
    """JSON"""
    idempotency_key: str
    headers: Mapping[str, str] = field(default_factory=dict)
    """beside `idempotency-key` and `v`"""


class Broker(Protocol):
    """Takes messages; a context manager."""

    def publish(self, message: Message) -> None:
        """Returns once it is safe. Raises BrokerUnavailableError or MessageRefusedError."""
        ...

    def __enter__(self) -> Broker: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class KafkaBroker:
    """An idempotent producer (acks=all) between `__enter__` and `__exit__`."""

    def __init__(self, settings: KafkaSettings, send_s: float = SEND_S) -> None:
        self._settings = settings
        self._send_s = send_s
        self._trouble = ""

    def __enter__(self) -> KafkaBroker:
        """Raises EnvironmentValueError for properties that librdkafka does not accept."""
        self._producer: Producer = new_client(
            "Producer",
            self._settings,
            {
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 0,  # the next message waits for this one
                "message.timeout.ms": int(self._send_s * 1000),
                "error_cb": self._noted,
            },
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What was not acknowledged is sent again by the next one, in its turn; not by this one later.
        with suppress(_library().KafkaException):
            self._producer.purge()
            self._producer.flush(0.2)

    def publish(self, message: Message) -> None:
        """Send, and wait for the acknowledgement of all in-sync replicas, `send_s` at most."""
        library = _library()
        outcome: list[KafkaError | None] = []
        headers: dict[str, str | bytes | None] = {
            "idempotency-key": message.idempotency_key,
            "v": str(SCHEMA_VERSION),
            **message.headers,
        }
        try:
            self._producer.produce(
                self._settings.topic(message.topic),
                key=message.key,
                value=message.value,
                headers=headers,
                on_delivery=lambda error, _message: outcome.append(error),
            )
            # A fatal error (a broker that lost what it had acknowledged) is raised here: the next
            # producer begins anew.
            self._producer.flush(self._send_s + 1)
        except library.KafkaException as error:
            raise self._failure(message, error.args[0]) from error
        if not outcome:
            raise self._failure(message, None)
        if outcome[0] is not None:
            raise self._failure(message, outcome[0])

    def _noted(self, error: KafkaError) -> None:
        self._trouble = error.str()

    def _failure(self, message: Message, error: KafkaError | None) -> EventError:
        topic = self._settings.topic(message.topic)
        if error is not None and error.name() in _REFUSALS:
            return MessageRefusedError(
                f"the broker refuses a message for the topic {topic!r}: {error.str()}",
                received=f"{len(message.value)} bytes",
            )
        why = "no answer" if error is None else error.str()
        return BrokerUnavailableError(
            f"no acknowledgement for a message to the topic {topic!r}: {why}"
            + (f" ({self._trouble})" if self._trouble else ""),
            remedy="check FLTS_KAFKA_BOOTSTRAP_SERVERS, that its brokers run, and that the topic exists",
        )


def new_client(
    kind: Literal["Producer", "Consumer"], settings: KafkaSettings, properties: Mapping[str, Any]
) -> Any:
    """A client with these properties, those of the file below them. It connects in the background.

    Raises EnvironmentValueError, which never shows what the file holds: secrets among them.
    """
    library = _library()
    try:
        return getattr(library, kind)(
            {
                "client.id": "flts",
                "log_level": 2,  # our own log tells of brokers that come and go, once each
                **_file_properties(settings),
                **properties,
                "bootstrap.servers": settings.bootstrap_servers,
            }
        )
    except library.KafkaException as error:
        raise EnvironmentValueError(
            f"librdkafka refuses the configured properties: {error.args[0].str()}",
            remedy="correct the file that FLTS_KAFKA_CONFIG_FILE names",
        ) from None


def _library() -> ModuleType:
    """The client library. Raises EnvironmentValueError where a broker is configured without it."""
    try:
        import confluent_kafka as library
    except ImportError as error:
        raise EnvironmentValueError(
            "FLTS_KAFKA_BOOTSTRAP_SERVERS is set, but confluent-kafka is not installed",
            remedy="pip install 'flts[kafka]', or unset the variable",
        ) from error
    return library


def _file_properties(settings: KafkaSettings) -> dict[str, Any]:
    file = settings.config_file
    if file is None:
        return {}
    allowed = "a readable JSON object: librdkafka property -> text, number, true or false"
    try:
        properties = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        kind = error.strerror if isinstance(error, OSError) else "it is not JSON"
        raise EnvironmentValueError(
            f"the file that FLTS_KAFKA_CONFIG_FILE names cannot be used: {kind}",
            received=str(file),
            allowed=allowed,
        ) from None  # a JSON error quotes the text
    if not isinstance(properties, dict) or not all(
        isinstance(value, str | int | float) for value in properties.values()
    ):
        raise EnvironmentValueError(
            "the file that FLTS_KAFKA_CONFIG_FILE names holds no librdkafka properties",
            received=str(file),
            allowed=allowed,
        )
    return properties
