"""Brokers for tests, on free ports of this machine; they end with the test session.

librdkafka's mock cluster: three brokers inside this process, to which other processes connect too.
noida-db: a broker in a process of its own, which can be killed, frozen and started again. It stands in
for Apache Kafka, which test machines lack: the same wire protocol, another implementation.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer

from flts_assets.settings import KafkaSettings
from flts_assets_tests.servers.process import announce, free_port, program

START_S = 300.0
HERE = "127.0.0.1"
BEHIND = "127.0.0.2"
"""of a broker behind a cable: an address of the same length"""


@dataclass(frozen=True)
class Received:
    topic: str
    key: str
    payload: dict[str, Any]
    headers: dict[str, str]

    @property
    def name(self) -> str:
        return self.headers["idempotency-key"]


class Reader:
    """Reads topics from their beginning, in a thread, until the context ends; survives the broker."""

    def __init__(self, servers: str, *topics: str) -> None:
        self.received: list[Received] = []
        self._ready = Event()
        self._closing = Event()
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": f"reader-{uuid.uuid4().hex}",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "topic.metadata.refresh.interval.ms": 500,
                "reconnect.backoff.max.ms": 500,
                "log_level": 2,
                "error_cb": lambda _error: None,
            }
        )
        self._consumer.subscribe(list(topics), on_assign=lambda *_: self._ready.set())
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join(10)

    def wait_for(self, count: int, timeout_s: float = START_S) -> list[Received]:
        """The first `count` messages and what came with them."""
        until(lambda: len(self.received) >= count, timeout_s, f"{count} messages")
        return list(self.received)

    def wait_until_named(self, names: set[str], timeout_s: float = START_S) -> None:
        until(lambda: names <= {one.name for one in self.received}, timeout_s, "all messages")

    def _run(self) -> None:
        while not self._closing.is_set():
            message = self._consumer.poll(0.1)
            if message is None or message.error():
                continue
            self.received.append(
                Received(
                    message.topic() or "",
                    (message.key() or b"").decode(),
                    json.loads(message.value() or b""),
                    {name: value.decode() for name, value in message.headers() or []},  # type: ignore[union-attr]
                )
            )
        self._consumer.close()


def until(condition: Any, timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.02)


@dataclass
class StandInBroker:
    """noida-db in a folder; what it was told before a proper stop is there after a start."""

    folder: Path
    host: str = HERE
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def servers(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def settings(self) -> KafkaSettings:
        return KafkaSettings(self.servers)

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [program("noida-db"), "start", "--only", "kafka", "--host", self.host]
        with (self.folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--kafka-port", str(self.port)],
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until(self._answers, START_S, f"noida-db on port {self.port}")

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def freeze(self) -> None:
        """It keeps its connections and answers no more."""
        self.send(signal.SIGSTOP)
        until(self._is_frozen, START_S, "a frozen broker")

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    def _is_frozen(self) -> bool:
        assert self.process is not None
        pids = [self.process.pid, *_children(self.process.pid)]
        states = [
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in pids
        ]
        return len(pids) > 1 and set(states) == {"T"}

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process is None:
            return
        self.send(number)
        self.send(signal.SIGCONT)
        self.process.wait(START_S)
        self.process = None

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "broker.log").read_text()
        try:
            socket.create_connection((self.host, self.port), 1).close()
        except OSError:
            return False
        return True


class Cable:
    """Between clients and a stand-in broker: cut, a broker that has died; mended, one that is back.

    It then still has all that it acknowledged, as a Kafka of several replicas would. (The stand-in
    itself, killed, loses what it acknowledged in its last moments.)
    """

    def __init__(self, broker: StandInBroker) -> None:
        self.servers = f"{HERE}:{broker.port}"
        self._ends = ((HERE, broker.port), (broker.host, broker.port))
        # The broker names its own address to its clients; they shall come back to this one.
        self._names = (broker.host.encode(), HERE.encode())
        self._door: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._guard = Lock()

    @property
    def settings(self) -> KafkaSettings:
        return KafkaSettings(self.servers)

    def mend(self) -> None:
        self._door = socket.create_server(self._ends[0])
        Thread(target=self._let_in, args=(self._door,), daemon=True).start()

    def cut(self) -> None:
        """At once, for every client, whatever is on its way."""
        with self._guard:
            for end in filter(None, (self._door, *self._open)):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
            self._door = None
            self._open.clear()

    def _let_in(self, door: socket.socket) -> None:
        with suppress(OSError):  # the cable is cut
            while True:
                client, _ = door.accept()
                with self._guard:
                    if self._door is not door:  # cut since the client was let in
                        client.close()
                        return
                    self._open.add(client)
                    broker = socket.create_connection(self._ends[1])
                    self._open.add(broker)
                for source, target in ((client, broker), (broker, client)):
                    Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data.replace(*self._names))
            target.shutdown(socket.SHUT_WR)


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def mock_cluster() -> Iterator[str]:
    """Addresses of three brokers that live as long as the context."""
    owner = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 3, "log_level": 2})
    brokers = owner.list_topics(timeout=START_S).brokers.values()
    closing = Event()

    def serve() -> None:
        while not closing.is_set():
            owner.poll(0.2)

    thread = Thread(target=serve, daemon=True)
    thread.start()
    yield ",".join(f"{one.host}:{one.port}" for one in brokers)
    closing.set()
    thread.join(5)


@pytest.fixture(scope="session")
def kafka_servers(pytestconfig: pytest.Config) -> Iterator[str]:
    """Bootstrap servers of a mock cluster; topics are shared, so prefix yours."""
    with mock_cluster() as servers:
        announce(pytestconfig, f"mock Kafka cluster at {servers}")
        yield servers


@pytest.fixture
def kafka(kafka_servers: str) -> KafkaSettings:
    """The mock cluster, with topics of the test's own."""
    return KafkaSettings(kafka_servers, topic_prefix=f"t{uuid.uuid4().hex[:8]}.")


@pytest.fixture
def stand_in(tmp_path: Path, pytestconfig: pytest.Config) -> Iterator[StandInBroker]:
    """A broker of the test's own, not started yet."""
    broker = StandInBroker(tmp_path / "broker")
    announce(pytestconfig, f"noida-db (Kafka) to be started at {broker.servers}")
    yield broker
    broker.stop(signal.SIGKILL)
