"""Choosing rows: the first step of preprocessing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from flts_assets.errors import RawDataError
from flts_assets.forecasting.rows import FrameRows, Rows, spans
from flts_assets.recipe.columns import RAW_COLUMNS
from flts_assets.recipe.model import Data

__all__ = ["Sampled", "Sampler", "sampled_places"]

Places = range | npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sampled:
    """What a recipe takes of one file."""

    rows: Rows
    """those that are kept"""
    taken: int
    """rows after sampling, before any were dropped"""
    empty_cells: dict[str, int]
    """of the rows taken, for each column"""
    first_empty: tuple[int, str] | None
    """in reading order: its row in the file, counted from 1, and its column"""

    @classmethod
    def all_of(cls, rows: Rows) -> Sampled:
        """Rows that were sampled before."""
        sampler = Sampler(range(len(rows)))
        for start, stop in spans(len(rows)):
            sampler.take(rows.span(start, stop))
        return sampler.sampled(rows)

    @classmethod
    def of_frame(cls, frame: pd.DataFrame, places: Places, *, drop_empty: bool) -> Sampled:
        """The rows of a file in memory that stand at `places`."""
        sampler = Sampler(places, drop_empty=drop_empty)
        return sampler.sampled(FrameRows(sampler.take(frame)))


class Sampler:
    """Takes the rows at `places` out of a file's consecutive frames, and counts their empty cells.

    With `drop_empty` rows that have one are counted, but not given.
    """

    def __init__(self, places: Places, *, drop_empty: bool = False) -> None:
        self._places = places
        self._drop_empty = drop_empty
        self._passed = 0
        self._taken = 0
        self._empty = np.zeros(len(RAW_COLUMNS), dtype=np.int64)
        self._first_empty: tuple[int, str] | None = None

    def take(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The sampled ones of the file's next rows."""
        places = self._places_in(len(frame))
        begin = self._passed
        self._passed += len(frame)
        if isinstance(places, range):
            taken = frame.iloc[places.start - begin : places.stop - begin]
        else:
            taken = frame.iloc[places - begin]
        self._taken += len(taken)
        empty = taken.isna().to_numpy()
        if not empty.any():
            return taken
        self._empty += empty.sum(axis=0)
        if self._first_empty is None:
            row, column = np.argwhere(empty)[0]
            self._first_empty = (int(places[row]) + 1, str(taken.columns[column]))
        return taken[~empty.any(axis=1)] if self._drop_empty else taken

    def sampled(self, rows: Rows) -> Sampled:
        """What was taken, of which `rows` were kept."""
        empty_cells = dict(zip(RAW_COLUMNS, self._empty.tolist(), strict=True))
        return Sampled(rows, self._taken, empty_cells, self._first_empty)

    def _places_in(self, rows: int) -> Places:
        first, end = self._passed, self._passed + rows
        if isinstance(self._places, range):
            start = min(max(self._places.start, first), end)
            return range(start, max(start, min(self._places.stop, end)))
        return self._places[slice(*np.searchsorted(self._places, (first, end)))]


def sampled_places(total: int, rows: int, data: Data, file: str) -> Places:
    """Which `rows` of a file's `total` rows the recipe's strategy takes, ascending; 0 keeps all.

        head    ■■■■······    tail    ······■■■■    random  ■·■··■··■·

    `random` breaks the regular grid: windows then run over the rows that were kept.
    Raises RawDataError if the file has fewer rows than asked for.
    """
    if rows == 0:
        return range(total)
    if rows > total:
        raise RawDataError(
            file,
            f"has {total} rows, fewer than the recipe samples",
            received=rows,
            allowed=f"0 (all rows) to {total}",
            remedy="lower sample_train_rows / sample_test_rows, or give more data",
        )
    if data.sample_strategy == "head":
        return range(rows)
    if data.sample_strategy == "tail":
        return range(total - rows, total)
    drawn = np.random.default_rng(data.sample_seed).choice(total, size=rows, replace=False)
    return np.sort(drawn)
