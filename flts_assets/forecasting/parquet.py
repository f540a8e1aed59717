"""The processed rows as parquet: what was asked for travels in the file's own metadata.

Files are written as rows come and read a column or a span at a time; a row group of SPAN rows is the
most that is held of them.
"""

from __future__ import annotations

import io
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from flts_assets.forecasting.preprocessing import FittedPreprocessing, transformed
from flts_assets.forecasting.rows import SPAN, Rows
from flts_assets.forecasting.sampling import Sampled, Sampler
from flts_assets.recipe.columns import RAW_COLUMNS, TIME_COLUMN
from flts_assets.recipe.model import Recipe

__all__ = [
    "MeasuredWriter",
    "StoredFrame",
    "StoredRows",
    "StoredSplit",
    "measured_parquet",
    "processed_parquet",
    "to_parquet",
    "write_processed",
    "write_sampled",
]

CONFIG_KEY: Final = "preprocess_config"
HASH_KEY: Final = "config_hash"

_MEASURED: Final = pa.schema(
    [(TIME_COLUMN, pa.timestamp("ns")), *((name, pa.float64()) for name in RAW_COLUMNS)]
)


class MeasuredWriter:
    """Rows as they were measured, written as they come: time first, then raw columns, null where empty.

    A context; the file is complete once it was left.
    """

    def __init__(self, target: Path | BinaryIO, recipe: Recipe) -> None:
        self._groups = _GroupWriter(target, _MEASURED, recipe)

    def __enter__(self) -> MeasuredWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._groups.close()

    def write(self, rows: pd.DataFrame) -> None:
        """The next rows, indexed by time."""
        self._groups.write(rows.reset_index())


def write_sampled(
    target: Path, frames: Iterable[pd.DataFrame], sampler: Sampler, recipe: Recipe
) -> Sampled:
    """What the sampler takes of a file's consecutive frames; its rows stand in the file `target`."""
    with MeasuredWriter(target, recipe) as writer:
        for frame in frames:
            writer.write(sampler.take(frame))
    return sampler.sampled(StoredRows(target.open("rb")))


def write_processed(
    target: Path | BinaryIO, rows: Rows, fitted: FittedPreprocessing, recipe: Recipe
) -> None:
    """The scaled columns of these rows and nothing else, one row a moment in time order."""
    frames = (
        pd.DataFrame(features, columns=list(fitted.columns))
        for features in transformed(rows, fitted)
    )
    _write(target, frames, fitted.columns, recipe)


def processed_parquet(frame: pd.DataFrame, recipe: Recipe) -> bytes:
    """What `write_processed` writes, of a frame that is scaled already."""
    buffer = io.BytesIO()
    _write(buffer, [frame], list(frame.columns), recipe)
    return buffer.getvalue()


def measured_parquet(frame: pd.DataFrame, recipe: Recipe) -> bytes:
    """What MeasuredWriter writes, of a frame in memory."""
    buffer = io.BytesIO()
    with MeasuredWriter(buffer, recipe) as writer:
        writer.write(frame)
    return buffer.getvalue()


def to_parquet(frame: pd.DataFrame) -> bytes:
    """A frame's columns, its index left out."""
    buffer = io.BytesIO()
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(table, buffer, compression="zstd", row_group_size=SPAN)
    return buffer.getvalue()


class StoredFrame:
    """A parquet file, of which a column or a span is read at a time.

    `source` is closed with the last reference to this.
    """

    def __init__(self, source: BinaryIO) -> None:
        self._file = pq.ParquetFile(source)
        weakref.finalize(self, source.close)
        sizes = [self._file.metadata.row_group(i).num_rows for i in range(self._groups)]
        self._ends = np.cumsum([0, *sizes])
        """where each row group begins, and the end of the last"""
        self._held: tuple[int, pd.DataFrame] | None = None

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    @property
    def columns(self) -> list[str]:
        return [str(name) for name in self._file.schema_arrow.names]

    @property
    def _groups(self) -> int:
        return int(self._file.metadata.num_row_groups)

    def column(self, name: str) -> npt.NDArray[Any]:
        """[N]; floats are NaN where there is null."""
        dtype = self._file.schema_arrow.field(name).type.to_pandas_dtype()
        values = np.empty(len(self), dtype=dtype)
        for number in range(self._groups):
            group = self._read(number, [name]).column(0).to_numpy()
            values[self._ends[number] : self._ends[number + 1]] = group
        return values

    def span(self, start: int, stop: int) -> pd.DataFrame:
        """Rows `start` to `stop`, less what lies beyond the last one; not to be written to."""
        stop = min(stop, len(self))
        first = int(np.searchsorted(self._ends, start, side="right")) - 1
        parts = []
        for number in range(first, self._groups):
            begin, end = self._ends[number], self._ends[number + 1]
            if begin >= stop:
                break
            parts.append(self._group(number).iloc[max(start - begin, 0) : min(stop, end) - begin])
        return parts[0] if len(parts) == 1 else pd.concat(parts)

    def values(self) -> npt.NDArray[Any]:
        """All columns of a file whose columns have one type [N, K]."""
        dtype = self._file.schema_arrow.field(0).type.to_pandas_dtype()
        values = np.empty((len(self), len(self.columns)), dtype=dtype)
        for number in range(self._groups):
            group = self._read(number, self.columns)
            for place, column in enumerate(group.columns):
                values[self._ends[number] : self._ends[number + 1], place] = column.to_numpy()
        return values

    def _group(self, number: int) -> pd.DataFrame:
        """The last one is held, for the span that begins where this one ends."""
        if self._held is None or self._held[0] != number:
            self._held = None
            self._held = number, self._as_frame(self._read(number, self.columns))
        return self._held[1]

    def _as_frame(self, group: Any) -> pd.DataFrame:
        return group.to_pandas(use_threads=False)

    def _read(self, number: int, columns: list[str]) -> Any:
        return self._file.read_row_group(number, columns=columns, use_threads=False)


class StoredRows(StoredFrame, Rows):
    """Rows as MeasuredWriter wrote them."""

    @cached_property
    def index(self) -> pd.DatetimeIndex:
        return pd.DatetimeIndex(StoredFrame.column(self, TIME_COLUMN), name=TIME_COLUMN)

    def frame(self) -> pd.DataFrame:
        """All of them, in memory."""
        values = np.empty((len(RAW_COLUMNS), len(self)))
        for place, name in enumerate(RAW_COLUMNS):
            values[place] = self.column(name)
        return pd.DataFrame(values.T, index=self.index, columns=list(RAW_COLUMNS), copy=False)

    def _as_frame(self, group: Any) -> pd.DataFrame:
        return super()._as_frame(group).set_index(TIME_COLUMN)


@dataclass(frozen=True)
class StoredSplit:
    """One split as it stands in the stage's files: read when asked for, a column or a span at a time."""

    measured: StoredRows
    """raw units, NaN where a cell was empty [N, 11]"""
    processed: StoredFrame
    """scaled, float32 [N - rows lost to lags, F]: the last of the measured rows"""


class _GroupWriter:
    """Writes frames of any length as row groups of SPAN rows."""

    def __init__(self, target: Path | BinaryIO, schema: pa.Schema, recipe: Recipe) -> None:
        metadata = {CONFIG_KEY: recipe.canonical_json, HASH_KEY: recipe.config_hash}
        self._schema = schema.with_metadata(metadata)
        self._writer = pq.ParquetWriter(target, self._schema, compression="zstd")
        self._waiting: list[pd.DataFrame] = []

    def write(self, frame: pd.DataFrame) -> None:
        self._waiting.append(frame)
        if sum(map(len, self._waiting)) >= SPAN:
            rows = pd.concat(self._waiting)
            whole = len(rows) - len(rows) % SPAN
            self._put(rows.iloc[:whole])
            self._waiting = [rows.iloc[whole:].copy()]

    def close(self) -> None:
        if sum(map(len, self._waiting)):
            self._put(pd.concat(self._waiting))
        self._writer.close()

    def _put(self, rows: pd.DataFrame) -> None:
        table = pa.Table.from_pandas(rows, self._schema, preserve_index=False)
        self._writer.write_table(table, row_group_size=SPAN)


def _write(
    target: Path | BinaryIO,
    frames: Iterable[pd.DataFrame],
    columns: Iterable[str],
    recipe: Recipe,
) -> None:
    schema = pa.schema([(name, pa.float32()) for name in columns])
    groups = _GroupWriter(target, schema, recipe)
    for frame in frames:
        groups.write(frame)
    groups.close()
