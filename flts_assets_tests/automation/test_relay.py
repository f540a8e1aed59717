from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

import dagster as dg
import pytest

from flts_assets.automation import relay as relay_module
from flts_assets.automation.relay import Relayed, owed, relay
from flts_assets.automation.relay_sensor import relay_sensors
from flts_assets.errors import BrokerUnavailableError, EnvironmentValueError, MessageRefusedError
from flts_assets.logs import event_log
from flts_assets.settings import KafkaSettings, Settings
from flts_assets.stores.events import Broker, KafkaBroker, Message
from flts_assets_tests.automation.reported import (
    HASH,
    OTHER,
    processed,
    promoted,
    report_in_run,
    trained,
    training,
)
from flts_assets_tests.servers.kafka import Reader, free_port

TOPICS = (
    "training-data",
    "inference-data",
    "model-training",
    "model-selected",
    "flts-dead-letters",
)
LOG = event_log(logging.getLogger("flts.tests"))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """In memory: all events in one table, as on Postgres."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """On SQLite: each run's events in a file of its own, as in the default deployment."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


class Recorder:
    """A broker that takes what its rules let through; `down_at`: the n-th message is not answered."""

    def __init__(self, down_at: int | None = None, refused: tuple[str, ...] = ()) -> None:
        self.taken: list[Message] = []
        self._down_at = down_at
        self._refused = refused

    def publish(self, message: Message) -> None:
        if len(self.taken) == self._down_at:
            raise BrokerUnavailableError("down")
        if message.topic in self._refused:
            raise MessageRefusedError("too large")
        self.taken.append(message)

    def __enter__(self) -> Broker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    @property
    def statuses(self) -> list[tuple[str, str]]:
        """Of the trainings told: model and status."""
        told = [json.loads(one.value) for one in self.taken if one.topic == "model-training"]
        return [(one["run_name"], one["status"]) for one in told]


def tick(
    instance: dg.DagsterInstance,
    broker: AbstractContextManager[Broker],
    cursor: int = 0,
    tick_s: float = 60,
) -> Relayed:
    return relay(instance, lambda: broker, cursor, LOG, tick_s=tick_s)


def new_run(instance: dg.DagsterInstance) -> dg.DagsterRun:
    @dg.job
    def pipeline() -> None: ...

    return instance.create_run_for_job(pipeline)


@pytest.fixture
def run(instance: dg.DagsterInstance) -> dg.DagsterRun:
    return new_run(instance)


def test_every_event_arrives_once_in_the_order_of_the_log(
    instance: dg.DagsterInstance, kafka: KafkaSettings
) -> None:
    for number in range(10):
        for config_hash in (HASH, OTHER):
            instance.report_runless_asset_event(promoted(number, config_hash))
    instance.report_runless_asset_event(processed())
    first = tick(instance, KafkaBroker(kafka, send_s=60))
    assert (first.events, first.messages, first.dead_letters, first.waiting) == (21, 22, 0, None)
    instance.report_runless_asset_event(promoted(10))
    second = tick(instance, KafkaBroker(kafka, send_s=60), first.cursor)
    assert (second.events, second.messages) == (1, 1)
    assert tick(instance, KafkaBroker(kafka, send_s=60), second.cursor) == Relayed(second.cursor)
    topics = [kafka.topic(name) for name in TOPICS[:4]]
    with Reader(kafka.bootstrap_servers, *topics) as reader:
        arrived = reader.wait_for(23)
    assert len({one.name for one in arrived}) == 23
    times = [one.payload["timestamp"] for one in arrived if one.key == f"global/{HASH}"]
    assert len(times) == 11
    assert times == sorted(times)


def test_cursor_stays_before_the_event_that_was_not_acknowledged(
    instance: dg.DagsterInstance,
) -> None:
    for number in range(5):
        instance.report_runless_asset_event(promoted(number))
    broker = Recorder(down_at=3)
    done = tick(instance, broker)
    records = owed(instance, 0, 100)
    assert done.cursor == records[2].storage_id
    assert done.waiting is not None
    after = Recorder()
    assert tick(instance, after, done.cursor).cursor == records[-1].storage_id
    hours = [json.loads(one.value)["run_id"] for one in broker.taken + after.taken]
    assert hours == [f"mlflow{number}" for number in range(5)]


def test_event_of_two_messages_is_told_again_whole_if_one_was_not_acknowledged(
    instance: dg.DagsterInstance,
) -> None:
    instance.report_runless_asset_event(processed())
    broker = Recorder(down_at=1)
    done = tick(instance, broker)
    assert (done.cursor, done.events) == (0, 0)
    again = Recorder()
    tick(instance, again, done.cursor)
    assert [one.topic for one in broker.taken + again.taken] == [
        *("training-data", "training-data", "inference-data")
    ]
    assert broker.taken[0] == again.taken[0]


def test_refused_message_becomes_a_dead_letter_and_those_behind_it_are_told(
    instance: dg.DagsterInstance,
) -> None:
    for event in (promoted(0), processed(), promoted(1)):
        instance.report_runless_asset_event(event)
    broker = Recorder(refused=("training-data",))
    done = tick(instance, broker)
    assert (done.events, done.messages, done.dead_letters, done.lost) == (3, 3, 1, 0)
    assert [one.topic for one in broker.taken] == [
        *("model-selected", "flts-dead-letters", "inference-data", "model-selected")
    ]
    letter = json.loads(broker.taken[1].value)
    assert letter["topic"] == "training-data"
    assert "MessageRefusedError: too large" in letter["error"]


def test_malformed_record_becomes_a_dead_letter_and_those_behind_it_are_told(
    instance: dg.DagsterInstance,
) -> None:
    instance.report_runless_asset_event(
        dg.AssetMaterialization("promoted_model", partition=HASH, metadata={"note": "by hand"})
    )
    instance.report_runless_asset_event(promoted(1))
    broker = Recorder()
    done = tick(instance, broker)
    assert (done.events, done.messages, done.dead_letters) == (2, 1, 1)
    letter = json.loads(broker.taken[0].value)
    assert letter["error"].startswith("MalformedEventError: an event of promoted_model lacks")
    assert letter["partition"] == HASH
    assert letter["event_id"] == owed(instance, 0, 1)[0].storage_id


def test_dead_letter_that_is_refused_too_is_logged_and_holds_nothing_up(
    instance: dg.DagsterInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    for event in (processed(), promoted()):
        instance.report_runless_asset_event(event)
    done = tick(instance, Recorder(refused=("training-data", "flts-dead-letters")))
    assert (done.events, done.dead_letters, done.lost) == (2, 0, 1)
    assert done.waiting is None
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (lost,) = [one for one in lines if one["event"] == "dead_letter_lost"]
    assert json.loads(lost["letter"])["topic"] == "training-data"


def test_dead_letter_that_was_not_acknowledged_is_tried_again(
    instance: dg.DagsterInstance,
) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization("promoted_model", partition=HASH))
    assert tick(instance, Recorder(down_at=0)).cursor == 0


def test_log_is_read_in_order_however_few_events_are_read_at_once(
    on_disk: dg.DagsterInstance,
) -> None:
    run = new_run(on_disk)
    for number in range(3):
        on_disk.report_runless_asset_event(promoted(number))
        report_in_run(on_disk, run, training("RUNNING", str(number)))
        on_disk.report_runless_asset_event(trained(str(number)))
    on_disk.report_run_failed(run)
    everything = [one.storage_id for one in owed(on_disk, 0, 1000)]
    assert len(everything) == 10
    for limit in (1, 2, 3, 7):
        seen: list[int] = []
        while found := owed(on_disk, seen[-1] if seen else 0, limit):
            assert len(found) <= limit
            seen += [one.storage_id for one in found]
        assert seen == everything == sorted(everything)


def test_tick_ends_in_time_and_the_next_one_goes_on(instance: dg.DagsterInstance) -> None:
    for number in range(3):
        instance.report_runless_asset_event(promoted(number))
    broker = Recorder()
    done = Relayed(0)
    for _ in range(3):
        done = tick(instance, broker, done.cursor, tick_s=0)
        assert done.events == 1
    assert len(broker.taken) == 3


def test_tick_takes_no_more_than_its_share_of_events(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "MOST_EVENTS", 2)
    for number in range(3):
        instance.report_runless_asset_event(promoted(number))
    assert tick(instance, Recorder()).events == 2


@pytest.mark.parametrize("ending", ["failed", "canceled"])
@pytest.mark.parametrize("storage", ["instance", "on_disk"])
def test_run_that_ended_early_fails_the_trainings_that_it_left_open(
    request: pytest.FixtureRequest, storage: str, ending: str
) -> None:
    instance: dg.DagsterInstance = request.getfixturevalue(storage)
    run = new_run(instance)
    report_in_run(instance, run, training("RUNNING", "1", "gru_model"))
    report_in_run(instance, run, training("RUNNING", "2", "lstm_model"))
    report_in_run(instance, run, trained("1", "gru_model"))
    report = {"failed": instance.report_run_failed, "canceled": instance.report_run_canceled}
    report[ending](run, "The process that ran it is gone.")
    broker = Recorder()
    tick(instance, broker)
    assert broker.statuses == [
        *(("GRU", "RUNNING"), ("LSTM", "RUNNING"), ("GRU", "SUCCESS"), ("LSTM", "FAILED"))
    ]
    failed = json.loads(broker.taken[-1].value)
    assert failed["run_id"] == "mlflow-2"
    assert failed["dagster_run_id"] == run.run_id
    assert "The process that ran it is gone." in failed["error"]


def test_training_that_failed_and_then_its_run_is_told_under_one_idempotency_key(
    instance: dg.DagsterInstance, run: dg.DagsterRun
) -> None:
    report_in_run(instance, run, training("RUNNING", "1"))
    instance.report_run_failed(run)
    broker = Recorder()
    done = tick(instance, broker)
    report_in_run(instance, run, training("FAILED", "1", error="late"))
    tick(instance, broker, done.cursor)
    assert broker.statuses == [("GRU", "RUNNING"), ("GRU", "FAILED"), ("GRU", "FAILED")]
    assert broker.taken[1].idempotency_key == broker.taken[2].idempotency_key


def test_run_that_failed_before_any_training_tells_nothing(
    instance: dg.DagsterInstance, run: dg.DagsterRun
) -> None:
    instance.report_run_failed(run)
    broker = Recorder()
    assert tick(instance, broker).events == 1
    assert broker.taken == []


def test_no_broker_is_asked_for_where_nothing_is_owed(instance: dg.DagsterInstance) -> None:
    def refuse() -> AbstractContextManager[Broker]:
        raise AssertionError("nobody is needed")

    assert relay(instance, refuse, 0, LOG) == Relayed(0)


# --- the sensor ----------------------------------------------------------------------------------


def sensor_tick(
    instance: dg.DagsterInstance, kafka: KafkaSettings, cursor: str | None = None
) -> dg.SensorResult:
    (sensor,) = relay_sensors(settings(kafka))
    with dg.build_sensor_context(instance=instance, cursor=cursor) as context:
        result = sensor(context)
    assert isinstance(result, dg.SensorResult)
    return result


def settings(kafka: KafkaSettings | None) -> Settings:
    environ = {"FLTS_HOME": "/tmp"}
    if kafka is not None:
        environ["FLTS_KAFKA_BOOTSTRAP_SERVERS"] = kafka.bootstrap_servers
        environ["FLTS_KAFKA_TOPIC_PREFIX"] = kafka.topic_prefix or "t."
    return Settings.from_environment(environ)


def test_there_is_no_sensor_where_no_broker_is_configured(kafka: KafkaSettings) -> None:
    assert relay_sensors(settings(None)) == []
    (sensor,) = relay_sensors(settings(kafka))
    assert sensor.name == "relay_events"
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING


def test_sensor_relays_and_keeps_the_id_of_the_last_event_as_its_cursor(
    instance: dg.DagsterInstance, kafka: KafkaSettings
) -> None:
    instance.report_runless_asset_event(promoted())
    result = sensor_tick(instance, kafka)
    (record,) = owed(instance, 0, 10)
    assert result.cursor == str(record.storage_id)
    assert result.skip_reason == dg.SkipReason("1 messages of 1 events")
    assert sensor_tick(instance, kafka, result.cursor).cursor == result.cursor
    with Reader(kafka.bootstrap_servers, kafka.topic("model-selected")) as reader:
        assert reader.wait_for(1)[0].payload["run_id"] == "mlflow0"


def test_broker_that_is_down_makes_the_sensor_wait_and_not_fail(
    instance: dg.DagsterInstance,
) -> None:
    instance.report_runless_asset_event(promoted())
    result = sensor_tick(instance, KafkaSettings(f"127.0.0.1:{free_port()}"))
    assert result.cursor == "0"
    assert "the next one waits: no acknowledgement" in str(result.skip_reason)


def test_sensor_without_the_client_library_fails_with_what_to_install(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    instance.report_runless_asset_event(promoted())
    with pytest.raises(EnvironmentValueError, match=r"pip install 'flts\[kafka\]'"):
        sensor_tick(instance, KafkaSettings("127.0.0.1:1"))
