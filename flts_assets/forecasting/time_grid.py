"""The regular grid that a station's timestamps stand on, and the refusal of any other order.

    23:40  23:42  23:44         23:48        the step is 2 min: the most common difference
      1      2      3             4          row 4 is refused, 23:46 must be inserted before it

Rows are counted from 1.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import pandas as pd

from flts_assets.errors import RawDataError

__all__ = ["check_times", "most_common_step"]


def most_common_step(index: pd.DatetimeIndex) -> pd.Timedelta | None:
    """The most common difference of neighbours; None below two timestamps.

    Of equally common ones the smallest: a gap is longer than the steps it leaves out.
    """
    steps, counts = np.unique(_steps_ns(index), return_counts=True)
    return pd.Timedelta(int(steps[np.argmax(counts)]), unit="ns") if len(steps) else None


def check_times(index: pd.DatetimeIndex, file: str) -> None:
    """Raises RawDataError unless `index` [N] is strictly increasing on a regular grid.

    `index.name` is the column that the error names. One timestamp alone is a grid.
    """
    steps = _steps_ns(index)
    if not (steps > 0).all():
        _raise_disorder(index, steps, file)
    step = most_common_step(index)
    if step is not None and (steps != step.value).any():
        _raise_gap(index, int(np.argmax(steps != step.value)), step, file)


def _steps_ns(index: pd.DatetimeIndex) -> np.ndarray[Any, np.dtype[np.int64]]:
    """int64 [N - 1], nanoseconds, whatever the unit of the index."""
    return np.asarray(np.diff(index.as_unit("ns").asi8), dtype=np.int64)


def _raise_disorder(
    index: pd.DatetimeIndex, steps: np.ndarray[Any, np.dtype[np.int64]], file: str
) -> NoReturn:
    repeats = index.duplicated()
    if repeats.any():
        at = int(np.argmax(repeats))
        what = f"the timestamp stands in row {int(np.argmax(index == index[at])) + 1} already"
        remedy = "keep one of the two rows; write UTC if a clock was set back"
    else:
        at = int(np.argmax(steps < 0)) + 1
        what = f"the timestamp lies before {index[at - 1]} in row {at}"
        remedy = "sort the rows by time"
    raise RawDataError(
        file,
        what,
        column=index.name,
        row=at + 1,
        received=str(index[at]),
        allowed="each timestamp once, in increasing order",
        remedy=remedy,
    )


def _raise_gap(index: pd.DatetimeIndex, before: int, step: pd.Timedelta, file: str) -> NoReturn:
    """Refuses the row after `before` (counted from 0), whose distance is not `step`."""
    gap = index[before + 1] - index[before]
    raise RawDataError(
        file,
        f"the grid is irregular: {gap} lie between row {before + 1} and this one, the grid's step "
        f"is {step}",
        column=index.name,
        row=before + 2,
        received=str(index[before + 1]),
        allowed=str(index[before] + step),
        remedy=_remedy_of_gap(index[before], index[before + 1], step),
    )


def _remedy_of_gap(start: pd.Timestamp, end: pd.Timestamp, step: pd.Timedelta) -> str:
    missing, rest = divmod(end - start, step)
    if rest:
        return f"put all rows on one grid of {step}, with empty cells where nothing was measured"
    first, last = start + step, end - step
    span = f"timestamp {first}" if missing == 2 else f"timestamps {first} to {last}"
    return f"insert the missing {span} with empty cells"
