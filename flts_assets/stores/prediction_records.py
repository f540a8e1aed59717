"""What was asked and answered, as objects that are written once.

    inference-logs/<identifier>/<YYYY-MM-DD>/<HHMMSS.ffffff>-<worker>-<n>.jsonl.gz

Day and time are those of the first record in the object (UTC). One line is one forecast series:

    asked_at                               when, seconds since 1970, UTC
    identifier, run_id, config_hash        who answered
    model_type, station
    last_time, down, up, …, rb_up_var      the last row of the request, raw units
    times                                  what the forecasts are for [S]
    columns                                what they are of [C]: targets, then ends of intervals
    values                                 raw units [S x C], one step's columns after another's
    latency_s                              from the checked request to its answer
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import orjson

from flts_assets.recipe import RAW_COLUMNS
from flts_assets.stores.object_store import INFERENCE_LOGS, ObjectStore

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "LOGGED_COLUMNS",
    "Answerer",
    "PredictionRecord",
    "answered_since",
    "compressed",
    "delete_old",
    "key_of",
    "read_records",
    "record_keys",
    "to_jsonl",
]

_DATED: Final = re.compile(r"[^/]+/\d{4}-\d\d-\d\d/[^/]+\.jsonl\.gz", re.ASCII)
_OF_A_SERVICE: Final = re.compile(
    r"[^/]+/\d{4}-\d\d-\d\d/\d{6}\.\d{6}-[^/]+-\d+\.jsonl\.gz", re.ASCII
)
"""as `key_of` names them: clients may add logs of their own, of any content, under other names"""
_WHO: Final = ("identifier", "run_id", "config_hash", "model_type", "station")
LOGGED_COLUMNS: Final = (
    *("asked_at", *_WHO, "last_time", *RAW_COLUMNS),
    *("times", "columns", "values", "latency_s"),
)


@dataclass(frozen=True)
class Answerer:
    """Who forecast."""

    identifier: str
    run_id: str
    config_hash: str
    model_type: str
    station: str


@dataclass(frozen=True)
class PredictionRecord:
    """One series that was asked, and the answer."""

    asked_at: float
    """seconds since 1970, UTC"""
    by: Answerer
    last_time: np.datetime64
    last_row: npt.NDArray[np.float64]
    """raw units [11], in the order of RAW_COLUMNS"""
    times: npt.NDArray[np.datetime64]
    """nanoseconds [S]"""
    columns: tuple[str, ...]
    """targets and ends of intervals [C], as the answer names them"""
    values: npt.NDArray[np.float64]
    """raw units [S, C]"""
    latency_s: float

    def key(self, worker: str, number: int) -> str:
        """Of the object that begins with this record."""
        return key_of(self.by.identifier, self.asked_at, worker, number)

    def line(self) -> bytes:
        """JSON, and the end of the line."""
        return orjson.dumps(
            {
                "asked_at": self.asked_at,
                **vars(self.by),
                "last_time": self.last_time,
                **dict(zip(RAW_COLUMNS, self.last_row.tolist(), strict=True)),
                "times": self.times,
                "columns": self.columns,
                "values": self.values.ravel(),
                "latency_s": self.latency_s,
            },
            option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE,
        )


def key_of(identifier: str, asked_at: float, worker: str, number: int) -> str:
    """Of the object that begins with a record of this moment, seconds since 1970."""
    moment = datetime.fromtimestamp(asked_at, timezone.utc)
    return f"{identifier}/{moment:%Y-%m-%d}/{moment:%H%M%S.%f}-{worker}-{number}.jsonl.gz"


def to_jsonl(records: Sequence[PredictionRecord]) -> bytes:
    """The bytes of one object: a JSON object a line, compressed. (pyarrow would double the service.)"""
    return compressed([one.line() for one in records])


def compressed(lines: Sequence[bytes]) -> bytes:
    """The bytes of one object that holds these lines."""
    return gzip.compress(b"".join(lines), compresslevel=1)


def record_keys(store: ObjectStore, identifier: str, days: int) -> list[str]:
    """Objects of the newest so many days that have any, in the order of time."""
    keys = _keys(store, identifier)
    newest = sorted({_day(key) for key in keys})[-days:]
    return [key for key in keys if _day(key) in newest]


def read_records(store: ObjectStore, keys: Sequence[str], config_hash: str) -> pd.DataFrame:
    """Rows of one config hash in these objects, columns LOGGED_COLUMNS; maybe none."""
    import pandas as pd

    lines = (
        orjson.loads(line)
        for key in keys
        for line in gzip.decompress(store.get(INFERENCE_LOGS, key)).splitlines()
    )
    rows = pd.DataFrame(
        [line for line in lines if line["config_hash"] == config_hash],
        columns=list(LOGGED_COLUMNS),
    )
    rows["asked_at"] = pd.to_datetime(rows["asked_at"].astype(float), unit="s", utc=True)
    rows["last_time"] = pd.to_datetime(rows["last_time"]).astype("datetime64[ns]")
    rows["times"] = [np.array(one, dtype="datetime64[ns]") for one in rows["times"]]
    rows["values"] = [np.array(one, dtype=np.float64) for one in rows["values"]]
    return rows


def delete_old(store: ObjectStore, days: int, today: date, *, dry_run: bool) -> list[str]:
    """Keys of all objects of days (UTC) more than so many before `today`, the oldest first.

    `dry_run`: they are only told. What is not of a day is left alone. Can be repeated after a failure.
    """
    first_kept = f"{today - timedelta(days=days):%Y-%m-%d}"
    old = sorted(
        (
            head.key
            for head in store.list(INFERENCE_LOGS)
            if _DATED.fullmatch(head.key) and _day(head.key) < first_kept
        ),
        key=_day,
    )
    if not dry_run:
        for key in old:
            store.delete(INFERENCE_LOGS, key)
    return old


def answered_since(store: ObjectStore, identifier: str, since: datetime) -> set[str]:
    """Config hashes of the champions that answered in objects begun at `since` (UTC) or later."""
    begun = f"{since:%Y-%m-%d/%H%M%S.%f}"
    return {
        orjson.loads(line)["config_hash"]
        for key in _keys(store, identifier)
        if key.removeprefix(f"{identifier}/") >= begun
        for line in gzip.decompress(store.get(INFERENCE_LOGS, key)).splitlines()
    }


def _keys(store: ObjectStore, identifier: str) -> list[str]:
    """In the order of time; what else lies there was not written by a service."""
    heads = store.list(INFERENCE_LOGS, f"{identifier}/")
    return [head.key for head in heads if _OF_A_SERVICE.fullmatch(head.key)]


def _day(key: str) -> str:
    return key.split("/")[1]
