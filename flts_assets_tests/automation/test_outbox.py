from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from flts_assets.assets.stage import NOT_IN_RECIPE
from flts_assets.automation.outbox import dead_letter, messages_of, still_open
from flts_assets.automation.relay import owed
from flts_assets.errors import MalformedEventError, MessageRefusedError
from flts_assets.stores.events import Message
from flts_assets.stores.pointer import Promotion
from flts_assets_tests.automation.reported import (
    HASH,
    processed,
    promoted,
    promotion,
    trained,
    training,
)


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def recorded(instance: dg.DagsterInstance, event: Any) -> dg.EventLogRecord:
    """The event as it comes back from Dagster's storage."""
    instance.report_runless_asset_event(event)
    return owed(instance, 0, 1000)[-1]


def told(instance: dg.DagsterInstance, event: Any) -> list[Message]:
    return messages_of(recorded(instance, event))


def payload(message: Message) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(message.value)
    return parsed


def test_processed_data_is_told_as_claim_checks_of_train_and_test_rows(
    instance: dg.DagsterInstance,
) -> None:
    train, test = told(instance, processed())
    place = f"{HASH}/processed_data/ffff/a1"
    assert (train.topic, test.topic) == ("training-data", "inference-data")
    assert train.key == test.key == HASH
    assert payload(train) == {
        "v": 1,
        "bucket": "processed-data",
        "object": f"{place}/train.parquet",
        "size": 1200,
        "config_hash": HASH,
        "identifier": "global",
    }
    assert payload(test) == {**payload(train), "object": f"{place}/test.parquet", "size": 800}


def test_training_is_told_when_it_begins_and_when_it_ends(instance: dg.DagsterInstance) -> None:
    (begun,) = told(instance, training("RUNNING"))
    (ended,) = told(instance, trained())
    (failed,) = told(instance, training("FAILED", error="TrainingError: no rows"))
    assert {one.topic for one in (begun, ended, failed)} == {"model-training"}
    assert {one.key for one in (begun, ended, failed)} == {HASH}
    assert payload(begun) == {
        "v": 1,
        "operation": "training",
        "status": "RUNNING",
        "experiment": "Default",
        "run_name": "GRU",
        "config_hash": HASH,
        "run_id": "mlflow-a1",
        "identifier": "global",
        "dagster_run_id": None,
    }
    manifest = f"models/{HASH}/gru_model/ffff/a1/manifest.json"
    assert payload(ended) == {**payload(begun), "status": "SUCCESS", "manifest": manifest}
    error = "TrainingError: no rows"
    assert payload(failed) == {**payload(begun), "status": "FAILED", "error": error}
    assert len({one.idempotency_key for one in (begun, ended, failed)}) == 3


@pytest.mark.parametrize(
    ("asset", "name", "experiment"),
    [("prophet_model", "PROPHET", "NonML"), ("ensemble_model", "ENSEMBLE", "Default")],
)
def test_every_kind_of_model_is_told_under_its_name_and_experiment(
    instance: dg.DagsterInstance, asset: str, name: str, experiment: str
) -> None:
    (message,) = told(instance, trained(asset=asset))
    assert payload(message)["run_name"] == name
    assert payload(message)["experiment"] == experiment


def test_training_without_an_mlflow_run_is_told_too(instance: dg.DagsterInstance) -> None:
    metadata = {"training": "RUNNING", "attempt": "a1"}
    (message,) = told(instance, dg.AssetObservation("gru_model", partition=HASH, metadata=metadata))
    assert payload(message)["run_id"] is None
    assert payload(message)["identifier"] == "global"


def test_promotion_is_told_whole_under_identifier_and_hash(instance: dg.DagsterInstance) -> None:
    record = promotion(identifier="team-a", previous="team-a/x/history/y.json")
    (message,) = told(instance, promoted(identifier="team-a", previous=record.previous))
    assert (message.topic, message.key) == ("model-selected", f"team-a/{HASH}")
    content = payload(message)
    assert content.pop("v") == 1
    assert Promotion.model_validate(content) == record


def test_same_work_told_again_has_the_same_idempotency_key_and_payload(
    instance: dg.DagsterInstance,
) -> None:
    for event in (processed("again"), trained("again"), promoted(3)):
        first, second = told(instance, event), told(instance, event)
        assert [one.idempotency_key for one in first] == [one.idempotency_key for one in second]
        assert [one.value for one in first] == [one.value for one in second]


def test_other_work_has_another_idempotency_key(instance: dg.DagsterInstance) -> None:
    events = (
        *(processed("a1"), processed("a2")),
        *(trained("a1"), trained("a2"), trained("a1", "lstm_model")),
        *(training("RUNNING", "a1"), training("RUNNING", "a2")),
        *(promoted(1), promoted(2), promoted(1, identifier="team-a")),
    )
    names = [one.idempotency_key for event in events for one in told(instance, event)]
    assert len(names) == len(set(names)) == 12


def test_nothing_is_told_of_what_a_recipe_does_without(instance: dg.DagsterInstance) -> None:
    event = dg.AssetMaterialization(
        "trees_model", partition=HASH, tags={"dagster/data_version": NOT_IN_RECIPE}
    )
    assert told(instance, event) == []


def test_nothing_is_told_of_an_observation_that_is_no_training(
    instance: dg.DagsterInstance,
) -> None:
    event = dg.AssetObservation("gru_model", partition=HASH, metadata={"note": "seen"})
    assert told(instance, event) == []


def test_record_that_lacks_something_is_an_error_that_says_what(
    instance: dg.DagsterInstance,
) -> None:
    broken = {
        "processed_data lacks: outputs": dg.AssetMaterialization("processed_data", partition=HASH),
        "gru_model lacks: outputs": dg.AssetMaterialization("gru_model", partition=HASH),
        "promoted_model lacks: promotion": dg.AssetMaterialization(
            "promoted_model", partition=HASH
        ),
        "gru_model lacks: attempt": dg.AssetObservation(
            "gru_model", partition=HASH, metadata={"training": "RUNNING"}
        ),
        "gru_model lacks: partition": dg.AssetMaterialization(
            "gru_model", metadata={"outputs": "models/x/manifest.json"}
        ),
        "promoted_model lacks: numbers that JSON can write": promoted(score=float("nan")),
    }
    for what, event in broken.items():
        with pytest.raises(MalformedEventError, match=f"an event of {what}"):
            told(instance, event)


def test_promotion_with_an_unknown_field_is_an_error(instance: dg.DagsterInstance) -> None:
    event = dg.AssetMaterialization(
        "promoted_model", partition=HASH, metadata={"promotion": dg.MetadataValue.json({"x": 1})}
    )
    with pytest.raises(MalformedEventError, match="run_id"):
        told(instance, event)


def test_trainings_are_open_until_they_fail_or_are_materialised(
    instance: dg.DagsterInstance,
) -> None:
    log = [
        recorded(instance, event).event_log_entry
        for event in (
            *(training("RUNNING", "1", "gru_model"), training("RUNNING", "2", "lstm_model")),
            *(training("RUNNING", "3", "prophet_model"), training("FAILED", "2", "lstm_model")),
            *(trained("1", "gru_model"), training("RUNNING", "4", "lstm_model"), processed()),
        )
    ]
    left = [one.asset_observation for one in still_open(log)]
    assert [one.asset_key.to_user_string() for one in left if one] == [
        "prophet_model",
        "lstm_model",
    ]


def test_dead_letter_says_where_the_record_is_and_why(instance: dg.DagsterInstance) -> None:
    record = recorded(instance, processed())
    message = messages_of(record)[0]
    letter = dead_letter(record, MessageRefusedError("too large"), message)
    assert (letter.topic, letter.key) == ("flts-dead-letters", HASH)
    assert letter.idempotency_key == f"flts-dead-letters/{message.idempotency_key}"
    assert payload(letter) == {
        "v": 1,
        "error": "MessageRefusedError: too large",
        "event_id": record.storage_id,
        "event_type": "ASSET_MATERIALIZATION",
        "dagster_run_id": None,
        "asset": "processed_data",
        "partition": HASH,
        "topic": "training-data",
        "key": HASH,
        "idempotency_key": message.idempotency_key,
        "size": len(message.value),
    }
