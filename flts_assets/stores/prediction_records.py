"""What was asked and answered, as objects that are written once.

    inference-logs/<identifier>/<YYYY-MM-DD>/<HHMMSS.ffffff>-<worker>-<n>.parquet

Day and time are those of the first record in the object (UTC). One row is one forecast series:

    asked_at                               when, UTC
    identifier, run_id, config_hash        who answered
    model_type, station
    last_time, down, up, …, rb_up_var      the last row of the request, raw units
    times                                  what the forecasts are for [S]
    columns                                what they are of [C]: targets, then ends of intervals
    values                                 raw units [S x C], one step's columns after another's
    latency_s                              from the checked request to its answer
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from flts_assets.recipe import RAW_COLUMNS
from flts_assets.stores.object_store import INFERENCE_LOGS, ObjectStore

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LOGGED_COLUMNS", "Answerer", "PredictionRecord", "read_records", "record_keys"]

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
        return f"{self.folder}/{self._moment:%H%M%S.%f}-{worker}-{number}.parquet"

    @property
    def _moment(self) -> datetime:
        return datetime.fromtimestamp(self.asked_at, timezone.utc)


def to_parquet(records: Sequence[PredictionRecord]) -> bytes:
    """The bytes of one object."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    last_rows = np.stack([one.last_row for one in records])
    moments = np.array([one.asked_at for one in records])
    columns: dict[str, Any] = {
        "asked_at": pa.array((moments * 1e6).astype(np.int64), pa.timestamp("us", tz="UTC")),
        **{name: pa.array([getattr(one.by, name) for one in records]) for name in _WHO},
        "last_time": np.array([one.last_time for one in records], dtype="datetime64[ns]"),
        **{name: last_rows[:, place] for place, name in enumerate(RAW_COLUMNS)},
        "times": _lists([one.times for one in records]),
        "columns": pa.array([one.columns for one in records], pa.list_(pa.string())),
        "values": _lists([one.values.ravel() for one in records]),
        "latency_s": np.array([one.latency_s for one in records]),
    }
    buffer = io.BytesIO()
    table = pa.table({name: columns[name] for name in LOGGED_COLUMNS})
    pq.write_table(table, buffer, compression="zstd", use_dictionary=[*_WHO, "columns"])
    del table, columns
    pa.default_memory_pool().release_unused()  # else the service grows by what one object took
    return buffer.getvalue()


def record_keys(store: ObjectStore, identifier: str, days: int) -> list[str]:
    """Objects of the newest so many days that have any, in the order of time."""
    keys = [head.key for head in store.list(INFERENCE_LOGS, f"{identifier}/")]
    newest = sorted({_day(key) for key in keys})[-days:]
    return [key for key in keys if _day(key) in newest]


def read_records(store: ObjectStore, keys: Sequence[str], config_hash: str) -> pd.DataFrame:
    """Rows of one config hash in these objects, columns LOGGED_COLUMNS; maybe none."""
    import pandas as pd
    import pyarrow.parquet as pq

    wanted = [("config_hash", "==", config_hash)]
    parts = [
        pq.read_table(io.BytesIO(store.get(INFERENCE_LOGS, key)), filters=wanted).to_pandas()
        for key in keys
    ]
    filled = [part for part in parts if len(part)]
    if not filled:
        return pd.DataFrame(columns=list(LOGGED_COLUMNS))
    return pd.concat(filled, ignore_index=True)


def _day(key: str) -> str:
    return key.split("/")[1]


def _lists(parts: Sequence[npt.NDArray[Any]]) -> Any:
    """One list a record."""
    import pyarrow as pa

    offsets = np.cumsum([0, *map(len, parts)], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(parts)))
