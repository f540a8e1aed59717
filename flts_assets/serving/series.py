"""The rows of a request, given as columns or records and checked cell by cell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from flts_assets.recipe import RAW_COLUMNS
from flts_assets.serving.request_error import RequestError, check_known

__all__ = ["LARGEST", "TIME", "Series", "series_of"]

LARGEST: Final = 1e15
"""Far above any measurement, far below where scaled numbers overflow."""

_EARLIEST: Final = np.datetime64("1900-01-01", "us")
_LATEST: Final = np.datetime64("2200-01-01", "us")
TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d(?:[ T]\d\d(?::\d\d(?::\d\d(?:\.\d{1,9})?)?)?)?", re.ASCII
)
"""Stricter than numpy, which takes `now`, and moves zoned times to UTC."""


@dataclass(frozen=True)
class Series:
    """Rows in time order on a regular grid."""

    values: npt.NDArray[np.float64]
    """raw units [R, 11], in the order of RAW_COLUMNS"""
    times: npt.NDArray[np.datetime64]
    """nanoseconds [R]"""

    def times_ahead(self, steps: int) -> npt.NDArray[np.datetime64]:
        """When the forecasts are for: [steps]."""
        step = self.times[-1] - self.times[-2]
        ahead: npt.NDArray[np.datetime64] = self.times[-1] + np.arange(1, steps + 1) * step
        return ahead

    def most_steps(self) -> int:
        """How many steps ahead are still before the year 2200."""
        step = self.times[-1] - self.times[-2]
        return int((_LATEST - self.times[-1]) // step)


def series_of(data: object, index: str, where: str = "data") -> Series:
    """Rows given as columns or as records. Raises RequestError."""
    if isinstance(data, list):
        data = _columns_of_records(data, index, where)
    if not isinstance(data, Mapping):
        raise RequestError(
            where,
            "must be columns or records",
            received=data,
            allowed="{name: [value, …], …} or [{…}, …]",
        )
    wanted = (index, *RAW_COLUMNS)
    for name in wanted:
        if name not in data:
            raise RequestError(f"{where}.{name}", "column is missing", allowed=", ".join(wanted))
    for name in data:
        if name not in wanted:
            raise RequestError(f"{where}.{name}", "unknown column", allowed=", ".join(wanted))
    columns = [data[name] for name in wanted]
    for name, column in zip(wanted, columns, strict=True):
        if not isinstance(column, list):
            raise RequestError(f"{where}.{name}", "must be a list", received=column)
        if len(column) != len(columns[0]):
            raise RequestError(
                f"{where}.{name}",
                "columns differ in length",
                received=len(column),
                allowed=f"{len(columns[0])}, as {index} has",
            )
    times = _times(columns[0], f"{where}.{index}")
    values = np.empty((len(times), len(RAW_COLUMNS)))
    for place, (name, column) in enumerate(zip(RAW_COLUMNS, columns[1:], strict=True)):
        values[:, place] = _numbers(column, f"{where}.{name}")
    return Series(values, times)


def _columns_of_records(records: list[Any], index: str, where: str) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {name: [] for name in (index, *RAW_COLUMNS)}
    for row, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise RequestError(f"{where}[{row}]", "must be a record", received=record)
        if record.keys() != columns.keys():
            for name in columns:
                if name not in record:
                    raise RequestError(
                        f"{where}[{row}].{name}", "is missing", allowed=", ".join(columns)
                    )
            check_known(record, f"{where}[{row}].", tuple(columns))
        for name, column in columns.items():
            column.append(record[name])
    return columns


def _numbers(column: list[Any], where: str) -> npt.NDArray[np.float64]:
    if set(map(type, column)) <= {float, int}:
        try:
            numbers = np.array(column, dtype=np.float64)
        except OverflowError:
            numbers = np.array([np.nan])
        if ((numbers >= 0) & (numbers <= LARGEST)).all():
            return numbers
    for row, value in enumerate(column):
        if type(value) not in (float, int) or not 0 <= value <= LARGEST:
            raise RequestError(
                f"{where}[{row}]",
                "must be a finite number, not negative",
                received=value,
                allowed=f"0 to {LARGEST:g}",
            )
    raise AssertionError("unreachable")  # pragma: no cover


def _times(column: list[Any], where: str) -> npt.NDArray[np.datetime64]:
    if len(column) < 2:
        raise RequestError(
            where, "two times at least tell the grid", received=len(column), allowed="2 or more"
        )
    times = _moments(column, where)
    steps = np.diff(times)
    if steps[0] <= np.timedelta64(0) or (steps != steps[0]).any():
        row = 1 if steps[0] <= np.timedelta64(0) else int(np.argmax(steps != steps[0])) + 1
        raise RequestError(
            f"{where}[{row}]",
            "times must rise in equal steps",
            received=f"{column[row]} after {column[row - 1]}",
            allowed=f"a step of {_seconds(steps[0])} as between the first two"
            if steps[0] > np.timedelta64(0)
            else "a later time",
        )
    return times.astype("datetime64[ns]")


def _moments(column: list[Any], where: str) -> npt.NDArray[np.datetime64]:
    """Microseconds; ISO 8601 without a zone."""
    if set(map(type, column)) == {str} and all(map(TIME.fullmatch, column)):
        try:
            times = np.array(column, dtype="datetime64[us]")
        except ValueError:
            pass
        else:
            if ((times > _EARLIEST) & (times < _LATEST)).all():
                return times
    for row, value in enumerate(column):
        if not isinstance(value, str) or not _is_moment(value):
            raise RequestError(
                f"{where}[{row}]",
                "must be a time",
                received=value,
                allowed="ISO 8601 without a zone, such as 2018-03-05T15:16:00, 1900 to 2200",
            )
    raise AssertionError("unreachable")  # pragma: no cover


def _is_moment(text: str) -> bool:
    if TIME.fullmatch(text) is None:
        return False
    try:
        moment = np.array([text], dtype="datetime64[us]")[0]
    except ValueError:
        return False
    return bool(_EARLIEST < moment < _LATEST)


def _seconds(step: np.timedelta64) -> str:
    return f"{step / np.timedelta64(1, 's'):g} s"
