"""What is told of an event in Dagster's log: pure functions from its records to messages.

    record of the event log                        topic
    ---------------------------------------------  -----------------------------------------------------
    processed_data materialised                    training-data, inference-data
    a model observed: its training begins, fails   model-training RUNNING, FAILED
    a model materialised                           model-training SUCCESS
    a run failed or was cancelled                  model-training FAILED, for each training it left open
    promoted_model materialised                    model-selected

The key is the config hash, that of model-selected identifier/config_hash.

The idempotency key names the work that is told, not the record that tells it: the same data, training or
promotion materialised again (a cached step) is told again under the same key.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

import dagster as dg
from pydantic import ValidationError

from flts_assets.assets.models import MODEL_STAGES
from flts_assets.assets.promotion_event import PROMOTION, PROMOTION_RECORD
from flts_assets.assets.stage import NOT_IN_RECIPE, PROCESSED
from flts_assets.assets.training_log import TRAINING_STATUS
from flts_assets.errors import MalformedEventError
from flts_assets.stores.events import (
    DEAD_LETTERS,
    INFERENCE_DATA,
    MODEL_SELECTED,
    MODEL_TRAINING,
    SCHEMA_VERSION,
    TRAINING_DATA,
    Message,
)
from flts_assets.stores.pointer import GLOBAL, Promotion
from flts_assets.stores.tracking import experiment_of

__all__ = ["dead_letter", "messages_of", "still_open"]

MODELS_BY_ASSET: Final = {stage.name: name for name, stage in MODEL_STAGES.items()}

_CLAIMS: Final = {TRAINING_DATA: "train.parquet", INFERENCE_DATA: "test.parquet"}
_MOST_ERROR: Final = 2000

T = TypeVar("T")
Event = dg.AssetMaterialization | dg.AssetObservation


def messages_of(
    record: dg.EventLogRecord, left_open: Iterable[dg.EventLogEntry] = ()
) -> list[Message]:
    """What the record makes worth telling, in the order in which it is to be told; often nothing.

    `left_open`, of a record that tells a run's failure: the observations of `still_open` trainings.
    Raises MalformedEventError if the record lacks what its message needs.
    """
    entry = record.event_log_entry
    if entry.asset_materialization is not None:
        return _materialized(entry, entry.asset_materialization)
    if entry.asset_observation is not None:
        return _observed(entry, entry.asset_observation)
    ended = entry.dagster_event
    why = (ended.message if ended else None) or "the run ended before the training did"
    return [_broken_off(one, why) for one in left_open]


def still_open(entries: Iterable[dg.EventLogEntry]) -> list[dg.EventLogEntry]:
    """The observations that tell a training's begin and have no end in the same run's log.

    `entries`: the run's materialisations and observations, oldest first.
    """
    begun: dict[str, dg.EventLogEntry] = {}
    for entry in entries:
        event = entry.asset_materialization or entry.asset_observation
        if event is None or event.asset_key.to_user_string() not in MODELS_BY_ASSET:
            continue
        status = _values(event).get(TRAINING_STATUS)
        if status == "RUNNING":
            begun[event.asset_key.to_user_string()] = entry
        elif status == "FAILED" or entry.asset_materialization is not None:
            begun.pop(event.asset_key.to_user_string(), None)
    return list(begun.values())


def dead_letter(
    record: dg.EventLogRecord, error: Exception, message: Message | None = None
) -> Message:
    """What is told instead of a message that cannot be: where the record is, and why.

    `message`: the one that the broker refused; None: none could be made.
    """
    entry = record.event_log_entry
    event = entry.asset_materialization or entry.asset_observation
    told = {
        "v": SCHEMA_VERSION,
        "error": f"{type(error).__name__}: {error}"[:_MOST_ERROR],
        "event_id": record.storage_id,
        "event_type": entry.dagster_event_type.value if entry.dagster_event_type else None,
        "dagster_run_id": entry.run_id or None,
        "asset": event.asset_key.to_user_string() if event else None,
        "partition": event.partition if event else None,
        "topic": message.topic if message else None,
        "key": message.key if message else None,
        "idempotency_key": message.idempotency_key if message else None,
        "size": len(message.value) if message else None,
    }
    name = message.idempotency_key if message else f"event/{record.storage_id}"
    return Message(
        DEAD_LETTERS,
        (message.key if message else event.partition if event else None) or str(record.storage_id),
        json.dumps(told).encode(),
        f"{DEAD_LETTERS}/{name}",
        _origin(entry),
    )


def _materialized(entry: dg.EventLogEntry, event: dg.AssetMaterialization) -> list[Message]:
    asset = event.asset_key.to_user_string()
    if (event.tags or {}).get("dagster/data_version") == NOT_IN_RECIPE:
        return []
    if asset == PROCESSED.name:
        return [_claim_check(entry, event, topic, file) for topic, file in _CLAIMS.items()]
    if asset in MODELS_BY_ASSET:
        outputs = _needed(event, "outputs", str)
        return [_training(entry, event, "SUCCESS", outputs, {"manifest": outputs})]
    if asset == PROMOTION.name:
        return [_selected(entry, event)]
    return []


def _observed(entry: dg.EventLogEntry, event: dg.AssetObservation) -> list[Message]:
    values = _values(event)
    status = values.get(TRAINING_STATUS)
    if event.asset_key.to_user_string() not in MODELS_BY_ASSET or status is None:
        return []
    error = {"error": values.get("error")} if status == "FAILED" else {}
    return [_training(entry, event, str(status), _attempt(event), error)]


def _broken_off(entry: dg.EventLogEntry, why: str) -> Message:
    event = entry.asset_observation
    assert event is not None
    return _training(entry, event, "FAILED", _attempt(event), {"error": why[:_MOST_ERROR]})


def _claim_check(entry: dg.EventLogEntry, event: Event, topic: str, file: str) -> Message:
    outputs = _needed(event, "outputs", str)
    files = {
        row.data.get("file"): row.data
        for row in _needed(event, "files", dg.TableMetadataValue).records
    }
    if file not in files:
        raise _malformed(event, f"files: {file}", sorted(map(str, files)))
    claim = {
        "bucket": outputs.partition("/")[0],
        "object": files[file]["object"],
        "size": files[file]["size"],
        "config_hash": _config_hash(event),
        "identifier": _identifier(event),
    }
    name = f"{topic}/{claim['identifier']}/{claim['bucket']}/{claim['object']}"
    return _message(entry, event, topic, _config_hash(event), name, claim)


def _training(
    entry: dg.EventLogEntry, event: Event, status: str, work: str, more: Mapping[str, Any]
) -> Message:
    """`work` names the training apart from all others."""
    asset = event.asset_key.to_user_string()
    model_type = MODELS_BY_ASSET[asset]
    told = {
        "operation": "training",
        "status": status,
        "experiment": experiment_of(model_type),
        "run_name": model_type,
        "config_hash": _config_hash(event),
        "run_id": _values(event).get("mlflow_run_id"),
        "identifier": _identifier(event),
        "dagster_run_id": entry.run_id or None,
        **more,
    }
    name = f"{MODEL_TRAINING}/{status}/{_identifier(event)}/{work}"
    return _message(entry, event, MODEL_TRAINING, _config_hash(event), name, told)


def _selected(entry: dg.EventLogEntry, event: Event) -> Message:
    record = _needed(event, PROMOTION_RECORD, dict)
    try:
        promotion = Promotion.model_validate(record)
    except ValidationError as error:
        raise _malformed(event, PROMOTION_RECORD, str(error)) from error
    key = f"{promotion.identifier}/{promotion.config_hash}"
    name = f"{MODEL_SELECTED}/{key}/{promotion.timestamp.isoformat()}/{promotion.run_id}"
    return _message(
        entry,
        event,
        MODEL_SELECTED,
        key,
        name,
        promotion.model_dump(mode="json", exclude_none=True),
    )


def _message(
    entry: dg.EventLogEntry,
    event: Event,
    topic: str,
    key: str,
    idempotency_key: str,
    told: Mapping[str, Any],
) -> Message:
    try:
        value = json.dumps({"v": SCHEMA_VERSION, **told}, allow_nan=False).encode()
    except ValueError as error:
        raise _malformed(event, "numbers that JSON can write", str(error)) from error
    return Message(topic, key, value, idempotency_key, _origin(entry))


def _origin(entry: dg.EventLogEntry) -> dict[str, str]:
    """Headers by which a message is found again in Dagster; events outside of runs have no run."""
    found = {"dagster-run-id": entry.run_id, "dagster-step": entry.step_key}
    return {name: value for name, value in found.items() if value}


def _attempt(event: Event) -> str:
    asset = event.asset_key.to_user_string()
    return f"{_config_hash(event)}/{asset}/{_needed(event, 'attempt', str)}"


def _config_hash(event: Event) -> str:
    if not event.partition:
        raise _malformed(event, "partition", event.partition)
    return event.partition


def _identifier(event: Event) -> str:
    return str(_values(event).get("identifier") or GLOBAL)


def _values(event: Event) -> dict[str, Any]:
    return {name: one.value for name, one in event.metadata.items()}


def _needed(event: Event, name: str, kind: type[T]) -> T:
    value = _values(event).get(name)
    if not isinstance(value, kind):
        raise _malformed(event, name, value)
    return value


def _malformed(event: Event, lacks: str, received: object) -> MalformedEventError:
    return MalformedEventError(
        f"an event of {event.asset_key.to_user_string()} lacks: {lacks}", received=received
    )
