from __future__ import annotations

from dataclasses import asdict
from datetime import date, datetime, timezone
from pathlib import Path

import numpy as np
import pytest

from flts_assets.recipe import RAW_COLUMNS
from flts_assets.stores.directory import DirectoryStore
from flts_assets.stores.object_store import INFERENCE_LOGS
from flts_assets.stores.prediction_records import (
    LOGGED_COLUMNS,
    PredictionRecord,
    answered_since,
    delete_old,
    read_records,
    record_keys,
    to_jsonl,
)
from flts_assets_tests.stores.records import record

DAY_S = 86_400.0


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


def put(store: DirectoryStore, *records: PredictionRecord) -> str:
    key = records[0].key("worker", 0)
    store.create(INFERENCE_LOGS, key, to_jsonl(records))
    return key


def test_records_of_any_length_are_read_as_they_were_written(store: DirectoryStore) -> None:
    records = [
        record("2018-03-01T10:00", [[1.5]]),
        record("2018-03-01T10:02", [[1, 2, 3], [4, 5, 6]], ("down", "down-lo-90", "down-hi-90")),
        record("2018-03-01T10:04", [[7], [8], [9]], last_row=[0.1] * len(RAW_COLUMNS)),
    ]
    read = read_records(store, [put(store, *records)], "hash-1")
    assert tuple(read.columns) == LOGGED_COLUMNS
    assert len(read) == len(records)
    for row, one in zip(read.to_dict("records"), records, strict=True):
        assert row["asked_at"].timestamp() == one.asked_at
        assert row["last_time"] == one.last_time
        assert [row[name] for name in RAW_COLUMNS] == one.last_row.tolist()
        assert {name: row[name] for name in asdict(one.by)} == asdict(one.by)
        assert row["times"].tolist() == one.times.tolist()
        assert tuple(row["columns"]) == one.columns
        assert np.array_equal(row["values"].reshape(one.values.shape), one.values)
        assert row["latency_s"] == one.latency_s


def test_key_tells_identifier_day_time_worker_and_number() -> None:
    one = record("2018-03-01", [[1]], asked_at=1_700_000_000.25, identifier="team-a")
    assert one.key("w1", 7) == "team-a/2023-11-14/221320.250000-w1-7.jsonl.gz"


def test_only_records_of_the_wanted_recipe_are_read(store: DirectoryStore) -> None:
    first = record("2018-03-01", [[1]])
    other = record("2018-03-01", [[2]], config_hash="hash-2")
    key = put(store, first, other)
    assert read_records(store, [key], "hash-2")["values"].map(list).tolist() == [[2.0]]
    nobody = read_records(store, [key], "hash-3")
    assert tuple(nobody.columns) == LOGGED_COLUMNS
    assert nobody.empty


def test_the_newest_days_that_have_records_are_listed_in_order(store: DirectoryStore) -> None:
    days = (3, 0, 9, 1)
    keys = {day: put(store, record("2018-03-01", [[1]], asked_at=DAY_S * day)) for day in days}
    put(store, record("2018-03-01", [[1]], asked_at=DAY_S * 20, identifier="somebody-else"))
    assert record_keys(store, "global", 2) == [keys[3], keys[9]]
    assert record_keys(store, "global", 7) == [keys[day] for day in sorted(days)]
    assert record_keys(store, "nobody", 7) == []


def test_whole_days_beyond_the_kept_ones_are_deleted_whoever_s_they_are(
    store: DirectoryStore,
) -> None:
    day = date(1970, 1, 31)
    keys = {
        (who, ago): put(
            store, record("2018-03-01", [[1]], asked_at=DAY_S * (30 - ago) + 86_399, identifier=who)
        )
        for who in ("global", "team-a")
        for ago in (0, 7, 8, 30)
    }
    store.put(INFERENCE_LOGS, "global/notes.txt", b"of no day")
    before = [head.key for head in store.list(INFERENCE_LOGS)]
    old = [keys[who, ago] for ago in (30, 8) for who in ("global", "team-a")]
    assert delete_old(store, 7, day, dry_run=True) == old
    assert [head.key for head in store.list(INFERENCE_LOGS)] == before
    assert delete_old(store, 7, day, dry_run=False) == old
    assert [head.key for head in store.list(INFERENCE_LOGS)] == [
        key for key in before if key not in old
    ]
    assert delete_old(store, 7, day, dry_run=False) == []


def test_what_no_service_wrote_is_not_read(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.put(INFERENCE_LOGS, "global/2026-11-25/notes.txt", b"by hand")
    store.put(INFERENCE_LOGS, "global/zzz", b"by hand")
    store.put(INFERENCE_LOGS, "global/2026-11-25/mine.jsonl.gz", b"uploaded by a client")
    assert record_keys(store, "global", 7) == []
    assert answered_since(store, "global", datetime(2020, 1, 1, tzinfo=timezone.utc)) == set()
