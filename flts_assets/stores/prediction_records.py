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
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from flts_assets.recipe import RAW_COLUMNS
from flts_assets.stores.object_store import INFERENCE_LOGS, ObjectStore

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "LOGGED_COLUMNS",
    "Answerer",
    "PredictionRecord",
    "read_records",
    "record_keys",
    "to_jsonl",
]

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

    @property
    def folder(self) -> str:
        """Records of one folder may share an object."""
        return f"{self.by.identifier}/{self._moment:%Y-%m-%d}"

    def key(self, worker: str, number: int) -> str:
        """Of the object that begins with this record."""
        return f"{self.folder}/{self._moment:%H%M%S.%f}-{worker}-{number}.jsonl.gz"

    @property
    def _moment(self) -> datetime:
        return datetime.fromtimestamp(self.asked_at, timezone.utc)


def to_jsonl(records: Sequence[PredictionRecord]) -> bytes:
    """The bytes of one object: a JSON object a line, compressed. (pyarrow would double the service.)"""
    import orjson

    lines = [
        orjson.dumps(
            {
                "asked_at": one.asked_at,
                **vars(one.by),
                "last_time": one.last_time,
                **dict(zip(RAW_COLUMNS, one.last_row.tolist(), strict=True)),
                "times": one.times,
                "columns": one.columns,
                "values": one.values.ravel(),
                "latency_s": one.latency_s,
            },
            option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE,
        )
        for one in records
    ]
    return gzip.compress(b"".join(lines), compresslevel=1)


def record_keys(store: ObjectStore, identifier: str, days: int) -> list[str]:
    """Objects of the newest so many days that have any, in the order of time."""
    keys = [head.key for head in store.list(INFERENCE_LOGS, f"{identifier}/")]
    newest = sorted({_day(key) for key in keys})[-days:]
    return [key for key in keys if _day(key) in newest]


def read_records(store: ObjectStore, keys: Sequence[str], config_hash: str) -> pd.DataFrame:
    """Rows of one config hash in these objects, columns LOGGED_COLUMNS; maybe none."""
    import orjson
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


def _day(key: str) -> str:
    return key.split("/")[1]
