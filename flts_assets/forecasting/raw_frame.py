"""The raw measurements of one base station, as frames that every later step may trust.

    stream ── header? ── bulk parse ── time grid? ── value ranges? ── frames, a few thousand rows each
                 └───────────┴── refused: read all of it and find the place ──┘

    time                 down         up         …  rb_up_var
    2018-02-05 23:40:00  109934672.0  1166592.0  …  2.2e-08     row 1
    2018-02-05 23:42:00  243427312.0  NaN        …  1.5e-08     row 2: an empty cell is NaN

Rows are counted as a reader of the file counts them: from 1, the header not counted.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NoReturn

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from flts_assets.errors import RawDataError
from flts_assets.forecasting.raw_diagnosis import (
    LINE_END,
    check_encoding,
    check_header,
    raise_first_row_fault,
    split_cells,
)
from flts_assets.forecasting.time_grid import check_times, most_common_step
from flts_assets.recipe.columns import RAW_COLUMNS, TIME_COLUMN

if TYPE_CHECKING:
    from pandera.pandas import DataFrameSchema

__all__ = [
    "RawFile",
    "RawSummary",
    "count_empty_cells",
    "grid_step",
    "parse_raw",
    "raw_schema",
    "read_raw",
]

READ_AT_ONCE: Final = 1 << 20
_CONTENT = re.compile(rb"\S")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_HAS_VALUES, _FINITE, _NOT_NEGATIVE = "has values", "finite", "not negative"
_VALUE_FAULTS = {
    _HAS_VALUES: (
        "the column has no value at all",
        "at least one number",
        "export the column again; a station that never measured it cannot be forecast",
    ),
    _FINITE: (
        "the value is not finite",
        "finite numbers, or an empty cell",
        "correct the cell, or leave it empty if unmeasured",
    ),
    _NOT_NEGATIVE: (
        "the value is negative",
        "numbers >= 0: volumes, counts, indices, shares and variances",
        "correct the cell, or leave it empty if unmeasured",
    ),
}
"""What the schema's checks mean to whoever wrote the file: fault, allowed, remedy."""


@dataclass(frozen=True)
class RawSummary:
    """What one pass over a raw file tells of it."""

    size: int
    """bytes"""
    sha256: str
    rows: int
    first: pd.Timestamp
    last: pd.Timestamp
    step: pd.Timedelta | None
    """of the time grid; None for a single row"""
    empty_cells: dict[str, int]
    """for each column, also where none is"""

    @property
    def grid(self) -> pd.DatetimeIndex:
        """The first two and the last timestamp, as far as there are so many."""
        second = () if self.step is None else (self.first + self.step,)
        return pd.DatetimeIndex([self.first, *second, self.last][: self.rows])


class RawFile:
    """One raw CSV, read as a stream: memory does not grow with its rows.

    Args:
        source: comma separated UTF-8, the first line a header with `time` and the RAW_COLUMNS in any
            order. Can seek, and is read from its beginning.
        file: its name, for the errors.
        any_float: do not look at the values.
    """

    def __init__(self, source: BinaryIO, file: str, *, any_float: bool = False) -> None:
        self._source = source
        self._file = file
        self._any_float = any_float
        self._summary: RawSummary | None = None

    def frames(self) -> Iterator[pd.DataFrame]:
        """Consecutive rows as `read_raw` returns all of them. Sound only once the last was given.

        Raises RawDataError as `read_raw` does, at the end of the file or before.
        """
        text = _Text(self._source)
        seen = _Seen()
        try:
            _check_has_rows(text.beginning, self._file)
            for batch in _batches(text):
                frame = _frame(batch)
                seen.add(frame)
                yield frame
        except (RawDataError, UnicodeDecodeError, pa.ArrowInvalid) as error:
            self._refuse(error)
        if not (seen.is_regular and (self._any_float or (seen.in_range and seen.has_values))):
            self._refuse(None)
        self._summary = seen.summary(text)

    @property
    def summary(self) -> RawSummary:
        """Of what was read: for use after the last of `frames`."""
        if self._summary is None:
            raise RuntimeError("the file was not yet read to its end")
        return self._summary

    def scanned(self) -> RawSummary:
        """The summary after a whole pass. Raises RawDataError as `frames` does."""
        for _ in self.frames():
            pass
        return self.summary

    def _refuse(self, found: Exception | None) -> NoReturn:
        """Finds the first fault in the order that `read_raw` tells, in all of the text at once."""
        self._source.seek(0)
        data = self._source.read()
        check_encoding(data, self._file)
        text = data.removeprefix(_BYTE_ORDER_MARK)
        _check_has_rows(text, self._file)
        if found is not None:
            # A timestamp that is no number to Arrow, a row too short: the line by line reader finds it.
            raise_first_row_fault(text, TIME_COLUMN, self._file)
            raise _unplaced(self._file, str(found)) from found
        frame = pd.concat([_frame(batch) for batch in _batches(_Text(io.BytesIO(text)))])
        check_times(pd.DatetimeIndex(frame.index), self._file)
        _check_values(frame, self._file)
        raise _unplaced(self._file, "another file than a moment ago")


def read_raw(data: bytes, file: str) -> pd.DataFrame:
    """The checked frame of one raw CSV, all of it.

    Args:
        data: the file's bytes, see RawFile.
        file: its name, for the errors.

    Returns:
        frame: float64 [N, 11], N >= 1, columns RAW_COLUMNS in this order, NaN where a cell is empty
        (or says nan), all else finite and >= 0. Its index is named `time`: datetime64[ns] without
        zone, strictly increasing, on a regular grid.

    Raises:
        RawDataError: with file, column, row and remedy where the bytes are anything else. Faults
            of the text are told in reading order, then those of the time grid, then those of the
            values column by column.
    """
    return pd.concat(list(RawFile(io.BytesIO(data), file).frames()))


def parse_raw(data: bytes, file: str) -> pd.DataFrame:
    """`read_raw` without a look at the values: a cell may hold any float."""
    return pd.concat(list(RawFile(io.BytesIO(data), file, any_float=True).frames()))


def raw_schema() -> DataFrameSchema:
    """What `read_raw` promises of columns, dtypes and ranges, as a pandera schema.

    The order and the grid of the timestamps are not part of it: a fault there concerns two rows,
    and pandera names one.
    """
    from pandera.pandas import Check, Column, DataFrameSchema, Index

    checks = [
        Check(lambda column: bool(column.notna().any()), name=_HAS_VALUES, ignore_na=False),
        Check(np.isfinite, name=_FINITE, n_failure_cases=1),
        Check(lambda column: column >= 0, name=_NOT_NEGATIVE, n_failure_cases=1),
    ]
    return DataFrameSchema(
        {name: Column("float64", checks, nullable=True) for name in RAW_COLUMNS},
        index=Index("datetime64[ns]", name=TIME_COLUMN),
        strict=True,
        ordered=True,
    )


def grid_step(frame: pd.DataFrame) -> pd.Timedelta | None:
    """The most common step of the frame's time grid; None below two rows."""
    return most_common_step(pd.DatetimeIndex(frame.index))


def count_empty_cells(frame: pd.DataFrame) -> dict[str, int]:
    """How many cells are empty, for each column, also where none is."""
    return {str(name): int(count) for name, count in frame.isna().sum().items()}


def _check_has_rows(text: bytes, file: str) -> None:
    """Refuses a file without a header or without rows, and a header that is not the right one."""
    header_end = LINE_END.search(text)
    header = text[: header_end.start()] if header_end else text
    if not _has_content(text, 0):
        raise RawDataError(
            file,
            "the file is empty",
            received=f"{len(text)} bytes",
            allowed="a header line and at least one row",
            remedy="upload the file again, complete",
        )
    expected = (TIME_COLUMN, *RAW_COLUMNS)
    check_header(split_cells(header.decode()), expected, file)
    if header_end is None or not _has_content(text, header_end.end()):
        raise RawDataError(
            file,
            "the file has a header and no rows",
            received=header.decode(),
            allowed="a header line and at least one row",
            remedy="upload the file again, complete",
        )


def _has_content(text: bytes, start: int) -> bool:
    return _CONTENT.search(text, start) is not None


class _Text:
    """A raw file as Arrow may read it: no byte order mark, no line ends after the last row.

    All that is read is counted and digested on its way.
    """

    closed = False

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.size = 0
        self.digest = hashlib.sha256()
        self._ahead = self._header_and_more().removeprefix(_BYTE_ORDER_MARK)
        self.beginning = self._ahead
        """the header and something of the rows; all of it where there is no row"""

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end: Arrow takes it for a block of whole rows."""
        while (end := len(self._ahead.rstrip(b"\r\n"))) < size and (more := self._more()):
            self._ahead += more
        given = self._ahead[: min(size, end)]
        self._ahead = self._ahead[len(given) :]
        return given

    def close(self) -> None:
        """Arrow closes what it reads from; the file is its opener's."""

    def _header_and_more(self) -> bytes:
        text = self._more()
        while not ((end := LINE_END.search(text)) and _has_content(text, end.end())):
            more = self._more()
            if not more:
                break
            text += more
        return text

    def _more(self) -> bytes:
        data = self._source.read(READ_AT_ONCE)
        self.size += len(data)
        self.digest.update(data)
        return data


class _Seen:
    """What is known of the rows so far, in a few numbers."""

    def __init__(self) -> None:
        self.rows = 0
        self.times: list[pd.Timestamp] = []
        """the first and the last"""
        self.step_ns: int | None = None
        self.is_regular = True
        self.in_range = True
        self.empty = np.zeros(len(RAW_COLUMNS), dtype=np.int64)

    @property
    def has_values(self) -> bool:
        return bool((self.empty < self.rows).all())

    def add(self, frame: pd.DataFrame) -> None:
        values = frame.to_numpy()
        empty = np.isnan(values)
        self.empty += empty.sum(axis=0)
        self.in_range &= bool((empty | ((values >= 0) & (values < np.inf))).all())
        index = pd.DatetimeIndex(frame.index)
        before = np.array([time.value for time in self.times[-1:]], dtype=np.int64)
        steps = np.diff(index.asi8, prepend=before)
        if len(steps):
            self.step_ns = int(steps[0]) if self.step_ns is None else self.step_ns
            self.is_regular &= self.step_ns > 0 and bool((steps == self.step_ns).all())
        self.times = [*self.times[:1], index[0], index[-1]][:: 2 if self.times else 1]
        self.rows += len(frame)

    def summary(self, text: _Text) -> RawSummary:
        return RawSummary(
            size=text.size,
            sha256=text.digest.hexdigest(),
            rows=self.rows,
            first=self.times[0],
            last=self.times[-1],
            step=None if self.step_ns is None else pd.Timedelta(self.step_ns, unit="ns"),
            empty_cells=dict(zip(RAW_COLUMNS, self.empty.tolist(), strict=True)),
        )


def _batches(text: _Text) -> Iterator[Any]:
    """Arrow's batches, because its reader is strict where pandas pads a short row with NaN."""
    types = dict.fromkeys(RAW_COLUMNS, pa.float64()) | {TIME_COLUMN: pa.timestamp("ns")}
    with pa.csv.open_csv(
        pa.PythonFile(text, mode="r"),
        # One thread: stages run beside each other and must not fight for the cores.
        read_options=pa.csv.ReadOptions(use_threads=False),
        # An empty line becomes an empty timestamp, and is refused as such.
        parse_options=pa.csv.ParseOptions(ignore_empty_lines=False),
        convert_options=pa.csv.ConvertOptions(column_types=types, null_values=["", "nan", "NaN"]),
    ) as reader:
        yield from (batch for batch in reader if batch.num_rows)


def _frame(batch: Any) -> pd.DataFrame:
    """A batch's cells as numbers and timestamps, not yet checked any further."""
    times = batch.column(TIME_COLUMN)
    if times.null_count:
        raise pa.ArrowInvalid("an empty timestamp")
    columns = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in RAW_COLUMNS}
    return pd.DataFrame(columns, index=pd.DatetimeIndex(times.to_numpy(), name=TIME_COLUMN))


def _unplaced(file: str, received: str) -> RawDataError:
    """For what the bulk reader refuses and the diagnosis finds no fault with."""
    return RawDataError(
        file,
        "the file cannot be read as CSV",
        received=received[:160],
        allowed="comma separated UTF-8 text, one line a row",
        remedy="export the file again as plain CSV",
    )


def _check_values(frame: pd.DataFrame, file: str) -> None:
    """Refuses what `raw_schema` refuses, in the words of whoever wrote the file."""
    from pandera.errors import SchemaError

    try:
        raw_schema().validate(frame)
    except SchemaError as error:
        raise _describe_value_fault(frame, error, file) from None


def _describe_value_fault(frame: pd.DataFrame, error: Any, file: str) -> RawDataError:
    what, allowed, remedy = _VALUE_FAULTS[error.check.name]
    column = str(error.schema.name)
    row: int | None = None
    received: float | str = f"{len(frame)} empty cells"
    if error.check.name != _HAS_VALUES:
        first = error.failure_cases.iloc[0]
        row = int(frame.index.get_loc(first["index"])) + 1
        received = float(first["failure_case"])
    return RawDataError(
        file, what, column=column, row=row, received=received, allowed=allowed, remedy=remedy
    )
