from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient

from flts_assets.errors import EnvironmentValueError, ObjectExistsError, ObjectStoreError
from flts_assets.recipe import RAW_COLUMNS
from flts_assets.serving import prediction_log
from flts_assets.serving.metrics import Metrics
from flts_assets.serving.prediction_log import PredictionLog
from flts_assets.serving.requests import Ask, Series
from flts_assets.serving.settings import ServingSettings
from flts_assets.stores.directory import DirectoryStore
from flts_assets.stores.object_store import INFERENCE_LOGS, ObjectHead
from flts_assets.stores.prediction_records import read_records, record_keys
from flts_assets_tests.serving.deployed import application, columns_of, promote, recipe_of

KEY = re.compile(r"global/\d{4}-\d\d-\d\d/\d{6}\.\d{6}-[0-9a-f]{8}-\d+\.jsonl\.gz")
SOON_S = 120.0


class Events:
    """An event log that tests read."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def info(self, event: str, **fields: object) -> None:
        self.names.append(event)

    warning = error = info


class FailingStore(DirectoryStore):
    """Refuses to log while `failing`; `late`: says so after it has written."""

    def __init__(self, root: Path, late: bool = False) -> None:
        super().__init__(root)
        object.__setattr__(self, "late", late)
        object.__setattr__(self, "failing", threading.Event())
        self.failing.set()

    failing: threading.Event
    late: bool

    def create(self, bucket: str, key: str, data: bytes) -> ObjectHead:
        if bucket == INFERENCE_LOGS and self.failing.is_set():
            if self.late:
                with suppress(ObjectExistsError):
                    super().create(bucket, key, data)
            raise ObjectStoreError("the store is down")
        return super().create(bucket, key, data)


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_S
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        threading.Event().wait(0.01)


def ask(place: int, steps: int = 1) -> Ask:
    """A request whose last row is at minute 2 * place and holds `place` everywhere."""
    minutes = np.array([2 * place - 2, 2 * place], dtype="timedelta64[m]")
    times = (np.datetime64("2018-03-01") + minutes).astype("datetime64[ns]")
    return Ask(Series(np.full((2, len(RAW_COLUMNS)), float(place)), times), steps, (), None, None)


def answer(place: int, steps: int = 1) -> dict[str, Any]:
    who = {"run_id": "r", "config_hash": "hash", "model_type": "GRU", "station": "Cell"}
    predictions = [{"ts": "…", "down": place + step / 100} for step in range(1, steps + 1)]
    return {"status": "SUCCESS", "identifier": "global", **who, "predictions": predictions}


def note(log: PredictionLog, *places: int, steps: int = 1) -> None:
    log.add([ask(one, steps) for one in places], [answer(one, steps) for one in places], 0.5)


def logged(store: DirectoryStore, config_hash: str = "hash") -> pd.DataFrame:
    return read_records(store, record_keys(store, "global", 9), config_hash)


def places(store: DirectoryStore) -> list[float]:
    return logged(store)["down"].tolist()


def count(metrics: Metrics, which: str) -> float:
    (line,) = re.findall(rf"^flts_predictions_{which}_total (\S+)$", metrics.text().decode(), re.M)
    return float(line)


@pytest.fixture
def empty(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


# --- the log alone --------------------------------------------------------------------------------


def test_answers_are_written_soon_without_being_asked_to(empty: DirectoryStore) -> None:
    metrics = Metrics()
    log = PredictionLog(empty, metrics, Events(), flush_s=0.01)
    log.start()
    note(log, 1, 2)
    until(lambda: count(metrics, "written") == 2)
    assert places(empty) == [1, 2]
    log.close()


def test_a_full_batch_does_not_wait_for_its_time(
    empty: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_log, "DRAIN_S", SOON_S)  # megabytes are left at the end
    metrics = Metrics()
    log = PredictionLog(empty, metrics, Events(), flush_s=3600)
    log.start()
    note(log, 1, steps=10_000)
    for place in range(2, 40):
        note(log, place, steps=10_000)
    until(lambda: count(metrics, "written") > 0)
    log.close()
    assert places(empty) == list(range(1, 40))


def test_objects_are_created_once_and_never_written_again(empty: DirectoryStore) -> None:
    metrics = Metrics()
    log = PredictionLog(empty, metrics, Events(), flush_s=0.01)
    log.start()
    versions: dict[str, str] = {}
    for place in range(1, 6):
        note(log, place)
        until(lambda place=place: count(metrics, "written") == place)  # type: ignore[misc]
        heads = list(empty.list(INFERENCE_LOGS))
        assert len(heads) == place
        assert all(KEY.fullmatch(head.key) for head in heads)
        assert versions.items() <= {head.key: head.version for head in heads}.items()
        versions = {head.key: head.version for head in heads}
    log.close()


def test_closing_writes_what_is_left(empty: DirectoryStore) -> None:
    metrics = Metrics()
    log = PredictionLog(empty, metrics, Events(), flush_s=3600)
    log.start()
    note(log, 1, 2, 3)
    log.close()
    assert places(empty) == [1, 2, 3]
    assert count(metrics, "written") == 3


@pytest.mark.parametrize("late", [False, True])
def test_a_store_that_failed_gets_every_record_exactly_once(tmp_path: Path, late: bool) -> None:
    store, metrics, events = FailingStore(tmp_path, late), Metrics(), Events()
    log = PredictionLog(store, metrics, events, flush_s=0.01)
    log.start()
    note(log, 1, 2)
    until(lambda: "prediction_log_failed" in events.names)
    note(log, 3)
    store.failing.clear()
    until(lambda: count(metrics, "written") == 3)
    log.close()
    assert places(store) == [1, 2, 3]
    assert count(metrics, "dropped") == 0


def test_what_memory_has_no_room_for_is_dropped_and_counted(tmp_path: Path) -> None:
    store, metrics, events = FailingStore(tmp_path), Metrics(), Events()
    log = PredictionLog(store, metrics, events, flush_s=0.01, most_bytes=100_000)
    log.start()
    note(log, *range(500))
    note(log, 1, steps=10_000)
    kept = 501 - count(metrics, "dropped")
    assert 50 < kept < 250
    store.failing.clear()
    until(lambda: count(metrics, "written") == kept)
    note(log, 900)
    log.close()
    assert places(store) == [*range(int(kept)), 900]


def test_closing_beside_a_dead_store_ends_and_counts_the_loss(tmp_path: Path) -> None:
    metrics, events = Metrics(), Events()
    log = PredictionLog(FailingStore(tmp_path), metrics, events, flush_s=3600)
    log.start()
    note(log, 1, 2)
    log.close()
    assert count(metrics, "dropped") == 2
    assert events.names[-1] == "predictions_lost"


def test_a_day_s_records_stand_under_that_day(
    empty: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = PredictionLog(empty, Metrics(), Events(), flush_s=3600)
    for place, day in enumerate((14, 14, 15)):
        moment = datetime(2023, 11, day, 23, tzinfo=timezone.utc).timestamp()
        monkeypatch.setattr(prediction_log.time, "time", lambda moment=moment: moment)
        note(log, place)
    log.start()
    log.close()
    first, second = record_keys(empty, "global", 9)
    assert first.startswith("global/2023-11-14/230000.000000-")
    assert second.startswith("global/2023-11-15/230000.000000-")
    assert read_records(empty, [first], "hash")["down"].tolist() == [0, 1]


# --- the service ----------------------------------------------------------------------------------


def body(rows: pd.DataFrame, last: int, steps: int, **more: Any) -> dict[str, Any]:
    data = columns_of(rows.iloc[last - 30 : last])
    return {"data": data, "inference_length": steps, **more}


def test_service_logs_every_answer_as_it_was_given(
    own_store: DirectoryStore, rows: pd.DataFrame
) -> None:
    asked = [
        *(body(rows, 40, 1), body(rows, 41, 4, levels=[0.9, 0.5]), body(rows, 42, 250)),
        *(body(rows, 43, 2), body(rows, 44, 3)),
    ]
    with TestClient(application(own_store)) as client:
        answers = [client.post("/predict", json=one).json() for one in asked[:3]]
        answers += client.post("/predict", json={"batch": asked[3:]}).json()["results"]
        assert client.post("/predict", json=body(rows, 40, 0)).status_code == 422
        wrong = [body(rows, 45, 1), body(rows, 45, 1, levels=[0.77])]
        assert client.post("/predict", json={"batch": wrong}).status_code == 422
    records = logged(own_store, recipe_of("TREES").config_hash).to_dict("records")
    assert len(records) == len(asked)
    for sent, told, kept in zip(asked, answers, records, strict=True):
        for name in ("identifier", "run_id", "config_hash", "model_type", "station"):
            assert kept[name] == told[name]
        assert kept["last_time"].isoformat() == sent["data"]["time"][-1]
        for name in RAW_COLUMNS:
            assert kept[name] == sent["data"][name][-1]
        steps = kept["values"].reshape(len(kept["times"]), -1)
        assert [{**one, "ts": pd.Timestamp(one["ts"])} for one in told["predictions"]] == [
            {"ts": pd.Timestamp(moment), **dict(zip(kept["columns"], values, strict=True))}
            for moment, values in zip(kept["times"], steps, strict=True)
        ]
        assert 0 < kept["latency_s"] < 20


def test_service_answers_while_the_log_cannot_be_written(
    tmp_path: Path, rows: pd.DataFrame
) -> None:
    store = FailingStore(tmp_path)
    promote(store, "TREES")
    with TestClient(application(store)) as client:
        for last in (40, 50, 60):
            assert client.post("/predict", json=body(rows, last, 1)).status_code == 200


def test_a_log_that_is_off_writes_nothing(own_store: DirectoryStore, rows: pd.DataFrame) -> None:
    off = ServingSettings.from_environment({"FLTS_SERVING_LOG": "off"})
    with TestClient(application(own_store, log_predictions=off.log_predictions)) as client:
        assert client.post("/predict", json=body(rows, 40, 1)).status_code == 200
    assert list(own_store.list(INFERENCE_LOGS)) == []


def test_log_is_on_unless_it_is_turned_off() -> None:
    assert ServingSettings.from_environment({}).log_predictions
    assert ServingSettings.from_environment({"FLTS_SERVING_LOG": "on"}).log_predictions


@pytest.mark.parametrize("value", ["", " ", "no", "0"])
def test_a_switch_is_on_or_off(value: str) -> None:
    with pytest.raises(EnvironmentValueError, match="FLTS_SERVING_LOG"):
        ServingSettings.from_environment({"FLTS_SERVING_LOG": value})
