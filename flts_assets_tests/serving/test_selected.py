"""The service hears of promotions through the broker; its own looks are an hour apart here."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from starlette.testclient import TestClient

from flts_assets.settings import KafkaSettings
from flts_assets.stores.directory import DirectoryStore
from flts_assets.stores.events import KafkaBroker, Message
from flts_assets.stores.pointer import Promotion
from flts_assets_tests.servers.kafka import StandInBroker, free_port, until
from flts_assets_tests.serving.deployed import application, promote

HOUR = 3600.0
WAIT_S = 120.0
"""for what takes a second on an idle machine"""


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="flts.serving")
    return caplog


def tell(kafka: KafkaSettings, promotion: Promotion | None = None) -> None:
    """As the relay does; without a promotion: that the topic exists."""
    key = promotion.config_hash if promotion else "nobody"
    with KafkaBroker(kafka, send_s=WAIT_S) as broker:
        broker.publish(Message("model-selected", f"global/{key}", b"{}", key))


def listening(told: pytest.LogCaptureFixture, times: int = 1) -> None:
    until(lambda: told.text.count('"listening"') >= times, WAIT_S, "the service to listen")


def hearing(kafka: KafkaSettings, served: Promotion, *clients: TestClient) -> None:
    """Tell of what is served until they hear it: a listener asks the broker yet where to begin."""

    def heard() -> bool:
        tell(kafka, served)
        return all(metric(client, "flts_selected_messages_total") for client in clients)

    until(heard, WAIT_S, "the service to hear")


def champion(client: TestClient) -> str:
    return str(client.get("/model").json()["champion"]["run_id"])


def metric(client: TestClient, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


def test_promotion_told_by_the_broker_is_served_at_once(
    own_store: DirectoryStore, kafka: KafkaSettings, told: pytest.LogCaptureFixture
) -> None:
    tell(kafka)
    with TestClient(application(own_store, kafka, poll_s=HOUR)) as client:
        listening(told)
        promotion = promote(own_store, "TREES")
        hearing(kafka, promotion, client)
        until(lambda: champion(client) == promotion.run_id, WAIT_S, "the promoted model")
        promotion = promote(own_store, "TREES")
        before = metric(client, "flts_selected_messages_total")
        started = time.monotonic()
        tell(kafka, promotion)
        until(lambda: champion(client) == promotion.run_id, WAIT_S, "the promoted model")
        assert time.monotonic() - started < 60, "nobody waited for the next look"
        until(
            lambda: metric(client, "flts_selected_messages_total") > before, WAIT_S, "its message"
        )


def test_every_service_hears_every_promotion(
    own_store: DirectoryStore, kafka: KafkaSettings, told: pytest.LogCaptureFixture
) -> None:
    tell(kafka)
    with (
        TestClient(application(own_store, kafka, poll_s=HOUR)) as one,
        TestClient(application(own_store, kafka, poll_s=HOUR)) as other,
    ):
        listening(told, 2)
        hearing(kafka, promote(own_store, "TREES"), one, other)
        promotion = promote(own_store, "TREES")
        tell(kafka, promotion)
        for client in (one, other):
            until(lambda: champion(client) == promotion.run_id, WAIT_S, "the promoted model")  # noqa: B023


def test_what_was_promoted_before_the_service_listened_is_looked_at_then(
    own_store: DirectoryStore, stand_in: StandInBroker, told: pytest.LogCaptureFixture
) -> None:
    stand_in.start()
    tell(stand_in.settings)
    stand_in.stop()
    with TestClient(application(own_store, stand_in.settings, poll_s=HOUR)) as client:
        assert client.get("/readyz").status_code == 200
        until(
            lambda: metric(client, "flts_broker_errors_total") > 0,
            WAIT_S,
            "the broker to be missed",
        )
        promotion = promote(own_store, "TREES")
        assert champion(client) != promotion.run_id
        stand_in.start()
        until(lambda: champion(client) == promotion.run_id, WAIT_S, "the promoted model")
    assert told.text.count('"broker_unavailable"') == 1


def test_broker_that_is_killed_and_comes_back_is_heard_again(
    own_store: DirectoryStore, stand_in: StandInBroker, told: pytest.LogCaptureFixture
) -> None:
    stand_in.start()
    tell(stand_in.settings)
    with TestClient(application(own_store, stand_in.settings, poll_s=HOUR)) as client:
        listening(told)
        stand_in.stop(signal.SIGKILL)
        until(
            lambda: metric(client, "flts_broker_errors_total") > 0,
            WAIT_S,
            "the broker to be missed",
        )
        assert client.get("/readyz").status_code == 200
        stand_in.start()
        tell(stand_in.settings)
        promotion = promote(own_store, "TREES")

        def swapped() -> bool:
            tell(stand_in.settings, promotion)
            return champion(client) == promotion.run_id

        until(swapped, WAIT_S, "the promoted model")


def test_pointers_are_looked_at_although_the_broker_is_down(own_store: DirectoryStore) -> None:
    kafka = KafkaSettings(f"127.0.0.1:{free_port()}")
    with TestClient(application(own_store, kafka, poll_s=0.1)) as client:
        promotion = promote(own_store, "TREES")
        until(lambda: champion(client) == promotion.run_id, WAIT_S, "the promoted model")
    # Leaving the context closed the listener, broker or not.


@pytest.mark.slow
def test_worker_that_listens_stays_small_and_swaps_within_seconds(
    tmp_path: Path, kafka: KafkaSettings
) -> None:
    store = DirectoryStore(tmp_path)
    promote(store, "GRU")
    tell(kafka)
    port = free_port()
    environment = {
        **os.environ,
        "FLTS_HOME": str(tmp_path),
        "FLTS_SERVING_POLL_S": "3600",
        "FLTS_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "FLTS_KAFKA_TOPIC_PREFIX": kafka.topic_prefix,
    }
    command = [
        *(sys.executable, "-m", "uvicorn", "flts_assets.serving.server:app", "--factory"),
        *("--port", str(port), "--log-level", "warning"),
    ]
    log = tmp_path / "service.log"
    with log.open("wb") as out:
        service = subprocess.Popen(
            command, env=environment, stdout=out, stderr=out, start_new_session=True
        )
    try:
        until(
            lambda: '"listening"' in log.read_text() or service.poll() is not None,
            WAIT_S,
            "the service to listen",
        )
        assert service.poll() is None, log.read_text()
        promotion = promote(store, "GRU")

        def swapped() -> bool:
            tell(kafka, promotion)  # again: who has just begun to listen may miss the first
            answer = requests.get(f"http://127.0.0.1:{port}/model", timeout=60).json()
            return bool(answer["champion"]["run_id"] == promotion.run_id)

        until(swapped, WAIT_S, "the promoted model")
        status = Path(f"/proc/{service.pid}/status").read_text()
        resident = int(status.partition("VmRSS:")[2].split()[0]) / 1024
        assert resident < 200, f"{resident:.0f} MB"
        modules = Path(f"/proc/{service.pid}/maps").read_text()
        assert "librdkafka" in modules
        assert "libtorch" not in modules
    finally:
        os.killpg(service.pid, signal.SIGTERM)
        assert service.wait(WAIT_S) in (0, -signal.SIGTERM), log.read_text()
