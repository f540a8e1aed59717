"""Rows in files: CSV or parquet in, forecasts out in the same format."""

from __future__ import annotations

import io
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from flts_assets.errors import RawDataError
from flts_assets.forecasting.limits import LARGEST
from flts_assets.forecasting.parquet import to_parquet
from flts_assets.forecasting.raw_frame import parse_raw
from flts_assets.forecasting.time_grid import check_times
from flts_assets.recipe import RAW_COLUMNS
from flts_assets.recipe.columns import TIME_COLUMN
from flts_assets.serving.request_error import RequestError
from flts_assets.serving.series import EARLIEST, LATEST, Series
from flts_assets.serving.uploads import Upload

__all__ = ["MEDIA_TYPES", "Format", "forecast_file", "format_of", "series_in"]

Format = Literal["csv", "parquet"]

MEDIA_TYPES: Final[dict[Format, str]] = {
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
}
MAX_ROWS: Final = 1_000_000
"""Parquet packs well: a small body can hold more rows than there is memory for."""

_MEANT: Final[dict[str, Format]] = {
    "text/csv": "csv",
    "application/csv": "csv",
    "application/vnd.ms-excel": "csv",
    "application/vnd.apache.parquet": "parquet",
    "application/x-parquet": "parquet",
    "application/parquet": "parquet",
}


def format_of(upload: Upload) -> Format:
    """By the file's name, else by its content type. Raises RequestError for any other file."""
    suffix = upload.name.rpartition(".")[2].lower()
    if suffix in MEDIA_TYPES:
        return suffix
    if upload.media_type not in _MEANT:
        raise RequestError(
            "Content-Type",
            "is neither CSV nor parquet",
            received=upload.name or upload.media_type,
            allowed=f"a file .csv or .parquet, or {', '.join(MEDIA_TYPES.values())}",
        )
    return _MEANT[upload.media_type]


def series_in(content: bytes, file: str, kind: Format) -> Series:
    """The rows of a file. Raises RawDataError with file, column and row (counted from 1).

    Checked as requests are: a regular grid of times, and in every cell a number.
    """
    frame = parse_raw(content, file) if kind == "csv" else _parquet_frame(content, file)
    values = frame.to_numpy(dtype=np.float64)
    first, last = frame.index[[0, -1]].to_numpy()
    if not EARLIEST <= first <= last < LATEST:
        raise RawDataError(
            file,
            "the times are not of our days",
            column=TIME_COLUMN,
            received=f"{first} to {last}",
            allowed="1900 to 2200",
        )
    faulty = ~((values >= 0) & (values <= LARGEST))
    if faulty.any():
        row, place = np.argwhere(faulty)[0]
        value = float(values[row, place])
        raise RawDataError(
            file,
            "the cell is empty" if np.isnan(value) else "is no number that is measured",
            column=RAW_COLUMNS[place],
            row=int(row) + 1,
            received=None if np.isnan(value) else value,
            allowed=f"0 to {LARGEST:g}",
            remedy="a forecast needs every cell: fill it, or leave out the rows up to it",
        )
    return Series(values, frame.index.to_numpy())


def forecast_file(predictions: list[dict[str, Any]], kind: Format) -> bytes:
    """Columns ts, targets, and lo and hi of each level; one row a step."""
    frame = pd.DataFrame(predictions)
    if kind == "csv":
        text: str = frame.to_csv(index=False, lineterminator="\n")
        return text.encode()
    return to_parquet(frame.assign(ts=pd.to_datetime(frame["ts"])))


def _parquet_frame(content: bytes, file: str) -> pd.DataFrame:
    """float64 [N, 11], NaN for null, indexed by time. Only columns of fixed width are read."""
    try:
        source = pq.ParquetFile(io.BytesIO(content))
        _check_schema(source.schema_arrow, source.metadata.num_rows, file)
        table = source.read(columns=[TIME_COLUMN, *RAW_COLUMNS], use_threads=False)
        times = table[TIME_COLUMN].cast(pa.timestamp("ns"))
        columns = {
            name: table[name].cast(pa.float64(), safe=False).to_numpy() for name in RAW_COLUMNS
        }
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise RawDataError(
            file,
            "cannot be read as parquet",
            received=str(error)[:200],
            allowed=f"{TIME_COLUMN} as timestamps without a zone, and numbers",
            remedy="write the file again",
        ) from error
    if times.null_count:
        row = int(np.argmax(times.is_null().to_numpy())) + 1
        raise RawDataError(
            file, "the time is missing", column=TIME_COLUMN, row=row, remedy="fill it"
        )
    index = pd.DatetimeIndex(times.to_numpy(), name=TIME_COLUMN)
    check_times(index, file)
    return pd.DataFrame(columns, index=index)


def _check_schema(schema: pa.Schema, rows: int, file: str) -> None:
    if not 1 <= rows <= MAX_ROWS:
        raise RawDataError(
            file,
            "holds too many rows, or none",
            received=rows,
            allowed=f"1 to {MAX_ROWS}",
            remedy="send the last rows",
        )
    wanted = (TIME_COLUMN, *RAW_COLUMNS)
    for name in dict.fromkeys((*wanted, *schema.names)):
        places = schema.get_all_field_indices(name)
        if name not in wanted or len(places) != 1:
            raise RawDataError(
                file,
                "the column is unknown" if places else "the column is missing",
                column=name[:200],
                allowed=f"each once: {', '.join(wanted)}",
                remedy="name the columns as raw files do",
            )
        kind = schema.field(places[0]).type
        fits = (
            pa.types.is_timestamp(kind) and kind.tz is None
            if name == TIME_COLUMN
            else pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)
        )
        if not fits:
            raise RawDataError(
                file,
                "the column has another type",
                column=name,
                received=str(kind)[:200],
                allowed="timestamp without a zone" if name == TIME_COLUMN else "a number",
                remedy="convert the column",
            )
