from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from flts_assets.errors import (
    BrokerUnavailableError,
    EnvironmentValueError,
    MessageRefusedError,
)
from flts_assets.settings import KafkaSettings
from flts_assets.stores.events import KafkaBroker, Message, new_client
from flts_assets_tests.servers.kafka import Reader, StandInBroker, free_port

SECRET = "a-password-of-the-tests"


def message(number: int = 0, key: str = "k", value: bytes = b"{}") -> Message:
    return Message("model-training", key, value, f"name-{number}", {"dagster-run-id": "r1"})


def with_properties(folder: Path, servers: str, text: str) -> KafkaSettings:
    file = folder / "kafka.json"
    file.write_text(text)
    return KafkaSettings(servers, file)


def test_message_arrives_with_its_key_payload_and_headers(kafka: KafkaSettings) -> None:
    with KafkaBroker(kafka) as broker:
        broker.publish(message(value=b'{"v": 1}'))
    with Reader(kafka.bootstrap_servers, kafka.topic("model-training")) as reader:
        (arrived,) = reader.wait_for(1)
    assert arrived.topic == f"{kafka.topic_prefix}model-training"
    assert (arrived.key, arrived.payload) == ("k", {"v": 1})
    assert arrived.headers == {"idempotency-key": "name-0", "v": "1", "dagster-run-id": "r1"}


def test_messages_of_a_key_arrive_in_the_order_in_which_they_were_sent(
    kafka: KafkaSettings,
) -> None:
    with KafkaBroker(kafka) as broker:
        for number in range(40):
            broker.publish(message(number, key=f"k{number % 3}"))
    with Reader(kafka.bootstrap_servers, kafka.topic("model-training")) as reader:
        arrived = reader.wait_for(40)
    for key in ("k0", "k1", "k2"):
        numbers = [int(one.name.removeprefix("name-")) for one in arrived if one.key == key]
        assert numbers == [number for number in range(40) if f"k{number % 3}" == key]


def test_message_larger_than_the_client_allows_is_refused_for_good(
    kafka_servers: str, tmp_path: Path
) -> None:
    settings = with_properties(tmp_path, kafka_servers, '{"message.max.bytes": 2000}')
    with (
        KafkaBroker(settings) as broker,
        pytest.raises(MessageRefusedError, match=r"too large.*3000 bytes"),
    ):
        broker.publish(message(value=b"x" * 3000))


def test_message_larger_than_the_broker_allows_is_refused_for_good_and_the_next_one_goes(
    stand_in: StandInBroker, tmp_path: Path
) -> None:
    stand_in.start()
    settings = with_properties(tmp_path, stand_in.servers, '{"message.max.bytes": 8000000}')
    with KafkaBroker(settings) as broker:
        with pytest.raises(MessageRefusedError, match="Broker: Message size too large"):
            broker.publish(message(value=b"x" * 3_000_000))
        broker.publish(message(1))
    with Reader(stand_in.servers, "model-training") as reader:
        (arrived,) = reader.wait_for(1)
    assert arrived.name == "name-1"


def test_broker_that_is_down_is_told_within_the_bound() -> None:
    settings = KafkaSettings(f"127.0.0.1:{free_port()}")
    started = time.monotonic()
    with (
        KafkaBroker(settings, send_s=1) as broker,
        pytest.raises(BrokerUnavailableError, match="Connection refused"),
    ):
        broker.publish(message())
    assert time.monotonic() - started < 10


def test_broker_that_answers_no_more_is_told_within_the_bound(stand_in: StandInBroker) -> None:
    stand_in.start()
    with KafkaBroker(stand_in.settings) as broker:
        broker.publish(message(0))
    with KafkaBroker(stand_in.settings, send_s=1) as broker:
        stand_in.freeze()
        started = time.monotonic()
        with pytest.raises(BrokerUnavailableError):
            broker.publish(message(1))
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("text", ["", "{", f'{{"sasl.password": {SECRET}}}', '["x"]', '{"a": [1]}'])
def test_properties_that_are_no_json_object_are_an_error_that_shows_no_secret(
    tmp_path: Path, text: str
) -> None:
    settings = with_properties(tmp_path, "127.0.0.1:1", text)
    with pytest.raises(EnvironmentValueError, match="FLTS_KAFKA_CONFIG_FILE") as caught:
        new_client("Producer", settings, {})
    assert SECRET not in str(caught.value)


def test_missing_file_of_properties_is_an_error_that_names_it(tmp_path: Path) -> None:
    settings = KafkaSettings("127.0.0.1:1", tmp_path / "none.json")
    with pytest.raises(EnvironmentValueError, match=r"No such file.*none\.json"):
        new_client("Producer", settings, {})


def test_property_that_librdkafka_does_not_know_is_an_error_that_shows_no_secret(
    tmp_path: Path,
) -> None:
    text = json.dumps({"sasl.pasword": SECRET})
    settings = with_properties(tmp_path, "127.0.0.1:1", text)
    with pytest.raises(EnvironmentValueError, match=r"sasl\.pasword") as caught:
        new_client("Consumer", settings, {"group.id": "g"})
    assert SECRET not in str(caught.value)


def test_file_can_add_security_and_does_not_change_the_servers(
    kafka_servers: str, tmp_path: Path
) -> None:
    properties = {"bootstrap.servers": "127.0.0.1:1", "security.protocol": "plaintext"}
    settings = with_properties(tmp_path, kafka_servers, json.dumps(properties))
    with KafkaBroker(settings) as broker:
        broker.publish(message())


def test_configured_broker_without_its_library_is_an_error_that_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with (
        pytest.raises(EnvironmentValueError, match=r"pip install 'flts\[kafka\]'"),
        KafkaBroker(KafkaSettings("127.0.0.1:1")),
    ):
        pass
