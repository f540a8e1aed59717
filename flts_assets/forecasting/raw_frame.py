"""The raw measurements of one base station, as a frame that every later step may trust.

    bytes ── UTF-8? ── header? ── bulk parse ── time grid? ── value ranges? ── frame
                                      └─ refused: find the place (raw_diagnosis)

    time                 down         up         …  rb_up_var
    2018-02-05 23:40:00  109934672.0  1166592.0  …  2.2e-08     row 1
    2018-02-05 23:42:00  243427312.0  NaN        …  1.5e-08     row 2: an empty cell is NaN

Rows are counted as a reader of the file counts them: from 1, the header not counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

__all__ = ["count_empty_cells", "grid_step", "parse_raw", "raw_schema", "read_raw"]

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


def read_raw(data: bytes, file: str) -> pd.DataFrame:
    """The checked frame of one raw CSV.

    Args:
        data: the file's bytes: comma separated UTF-8, the first line a header with `time` and the
            RAW_COLUMNS in any order.
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
    frame = parse_raw(data, file)
    _check_values(frame, file)
    return frame


def parse_raw(data: bytes, file: str) -> pd.DataFrame:
    """`read_raw` without a look at the values: a cell may hold any float."""
    check_encoding(data, file)
    text = data.removeprefix(_BYTE_ORDER_MARK)
    _check_has_rows(text, file)
    frame = _parse(text, file)
    check_times(pd.DatetimeIndex(frame.index), file)
    return frame


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
    header, *rows = LINE_END.split(text, maxsplit=1)
    if not text.strip():
        raise RawDataError(
            file,
            "the file is empty",
            received=f"{len(text)} bytes",
            allowed="a header line and at least one row",
            remedy="upload the file again, complete",
        )
    expected = (TIME_COLUMN, *RAW_COLUMNS)
    check_header(split_cells(header.decode()), expected, file)
    if not b"".join(rows).strip():
        raise RawDataError(
            file,
            "the file has a header and no rows",
            received=header.decode(),
            allowed="a header line and at least one row",
            remedy="upload the file again, complete",
        )


def _parse(text: bytes, file: str) -> pd.DataFrame:
    """The text's cells as numbers and timestamps, not yet checked any further."""
    try:
        table = _read_table(text)
    except pa.ArrowInvalid as error:
        raise_first_row_fault(text, TIME_COLUMN, file)
        raise _unplaced(file, str(error)) from error
    if table[TIME_COLUMN].null_count:
        raise_first_row_fault(text, TIME_COLUMN, file)
        raise _unplaced(file, "an empty timestamp")
    columns = {name: table[name].to_numpy() for name in RAW_COLUMNS}
    index = pd.DatetimeIndex(table[TIME_COLUMN].to_numpy(), name=TIME_COLUMN)
    return pd.DataFrame(columns, index=index)


def _read_table(text: bytes) -> Any:
    """An Arrow table, because its reader is strict where pandas pads a short row with NaN."""
    types = dict.fromkeys(RAW_COLUMNS, pa.float64()) | {TIME_COLUMN: pa.timestamp("ns")}
    return pa.csv.read_csv(
        pa.BufferReader(text.rstrip(b"\r\n")),
        # One thread: stages run beside each other and must not fight for the cores.
        read_options=pa.csv.ReadOptions(use_threads=False),
        # An empty line becomes an empty timestamp, and is refused as such.
        parse_options=pa.csv.ParseOptions(ignore_empty_lines=False),
        convert_options=pa.csv.ConvertOptions(column_types=types, null_values=["", "nan", "NaN"]),
    )


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
