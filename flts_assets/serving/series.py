"""The rows of a request, given as columns or records and checked cell by cell."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from flts_assets.forecasting.limits import LARGEST
from flts_assets.recipe import RAW_COLUMNS
from flts_assets.serving.request_error import RequestError, check_known

__all__ = ["EARLIEST", "LATEST", "TIME", "Series", "series_of"]

EARLIEST: Final = np.datetime64("1900-01-01", "us")
LATEST: Final = np.datetime64("2200-01-01", "us")
_LATEST_NS: Final = int(LATEST.astype("datetime64[ns]").astype(np.int64))
TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d(?:[ T]\d\d(?::\d\d(?::\d\d(?:\.\d{1,6})?)?)?)?", re.ASCII
)
"""Stricter than numpy, which takes `now`, moves zoned times to UTC, and drops a seventh digit."""
_TIMES: Final = re.compile(rf"{TIME.pattern}(?:\n{TIME.pattern})*", re.ASCII)
_NUMBERS: Final = frozenset((float, int))


@dataclass(frozen=True)
class Series:
    """Rows in time order on a regular grid."""

    values: npt.NDArray[np.float64]
    """raw units [R, 11], in the order of RAW_COLUMNS"""
    times: npt.NDArray[np.datetime64]
    """nanoseconds [R]"""

    @cached_property
    def step_ns(self) -> int:
        """Of the grid."""
        last, end = self.times.view(np.int64)[-2:].tolist()
        return int(end - last)

    def times_ahead(self, steps: int) -> npt.NDArray[np.datetime64]:
        """When the forecasts are for: [steps]."""
        steps_ns = np.arange(1, steps + 1) * self.step_ns
        ahead: npt.NDArray[np.datetime64] = self.times[-1] + steps_ns.view("timedelta64[ns]")
        return ahead

    def most_steps(self) -> int:
        """How many steps ahead are still before the year 2200."""
        return (_LATEST_NS - int(self.times.view(np.int64)[-1])) // self.step_ns


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
    _check_columns(data, wanted, where)
    times = _times(data[index], f"{where}.{index}")
    return Series(_values([data[name] for name in RAW_COLUMNS], where), times)


def _check_columns(data: Mapping[str, Any], wanted: Sequence[str], where: str) -> None:
    for name in wanted:
        if name not in data:
            raise RequestError(f"{where}.{name}", "column is missing", allowed=", ".join(wanted))
    if len(data) != len(wanted):
        name = next(name for name in data if name not in wanted)
        raise RequestError(f"{where}.{name}", "unknown column", allowed=", ".join(wanted))
    index = wanted[0]
    for name in wanted:
        if not isinstance(data[name], list):
            raise RequestError(f"{where}.{name}", "must be a list", received=data[name])
        if len(data[name]) != len(data[index]):
            raise RequestError(
                f"{where}.{name}",
                "columns differ in length",
                received=len(data[name]),
                allowed=f"{len(data[index])}, as {index} has",
            )


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


def _values(columns: Sequence[list[Any]], where: str) -> npt.NDArray[np.float64]:
    """[R, 11] of the columns' numbers. All cells are looked at in one go; who is wrong is found after."""
    if set(map(type, chain.from_iterable(columns))) <= _NUMBERS:
        with suppress(OverflowError):
            numbers = np.array(columns, dtype=np.float64)
            # NaN compares as false.
            if numbers.min() >= 0 and numbers.max() <= LARGEST:
                rows: npt.NDArray[np.float64] = numbers.T
                return rows
    for name, column in zip(RAW_COLUMNS, columns, strict=True):
        for row, value in enumerate(column):
            if type(value) not in _NUMBERS or not 0 <= value <= LARGEST:
                raise RequestError(
                    f"{where}.{name}[{row}]",
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
    moments = times.view(np.int64)
    steps = moments[1:] - moments[:-1]
    step = int(steps[0])
    if step <= 0 or (steps != step).any():
        row = 1 if step <= 0 else int(np.argmax(steps != step)) + 1
        raise RequestError(
            f"{where}[{row}]",
            "times must rise in equal steps",
            received=f"{column[row]} after {column[row - 1]}",
            allowed=f"a step of {step / 1e6:g} s as between the first two"
            if step > 0
            else "a later time",
        )
    return times.astype("datetime64[ns]")


def _moments(column: list[Any], where: str) -> npt.NDArray[np.datetime64]:
    """Microseconds; ISO 8601 without a zone."""
    if set(map(type, column)) == {str} and _TIMES.fullmatch("\n".join(column)):
        with suppress(ValueError):
            times = np.array(column, dtype="datetime64[us]")
            if times.min() >= EARLIEST and times.max() < LATEST:
                return times
    for row, value in enumerate(column):
        if not isinstance(value, str) or not _is_moment(value):
            raise RequestError(
                f"{where}[{row}]",
                "must be a time",
                received=value,
                allowed="ISO 8601 without a zone, such as 2018-03-05T15:16:00.250000, 1900 to 2200",
            )
    raise AssertionError("unreachable")  # pragma: no cover


def _is_moment(text: str) -> bool:
    if TIME.fullmatch(text) is None:
        return False
    try:
        moment = np.array([text], dtype="datetime64[us]")[0]
    except ValueError:
        return False
    return bool(EARLIEST <= moment < LATEST)
