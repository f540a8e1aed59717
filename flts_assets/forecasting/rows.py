"""Raw rows of which one column or one span is looked at at a time, wherever the rest of them is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import numpy.typing as npt

from flts_assets.recipe.columns import RAW_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SPAN", "FilledRows", "FrameRows", "Rows", "as_rows", "spans"]

Floats = npt.NDArray[np.float64]

SPAN: Final = 131_072
"""rows that are worked on at once, and rows of a parquet row group: 12 MB of raw rows"""


class Rows(Protocol):
    """N rows in time order: float64, columns RAW_COLUMNS, NaN where a cell is empty."""

    @property
    def index(self) -> pd.DatetimeIndex:
        """Their times [N]."""
        ...

    def __len__(self) -> int: ...

    def column(self, name: str) -> Floats:
        """One column [N], not to be written to."""
        ...

    def span(self, start: int, stop: int) -> pd.DataFrame:
        """Rows `start` to `stop`, less what lies beyond the last one; not to be written to."""
        ...


@dataclass(frozen=True)
class FrameRows(Rows):
    """The rows of a frame in memory."""

    frame: pd.DataFrame

    @property
    def index(self) -> pd.DatetimeIndex:
        return self.frame.index

    def __len__(self) -> int:
        return len(self.frame)

    def column(self, name: str) -> Floats:
        values: Floats = self.frame[name].to_numpy(dtype=np.float64)
        return values

    def span(self, start: int, stop: int) -> pd.DataFrame:
        return self.frame.iloc[start:stop]


@dataclass(frozen=True)
class FilledRows(Rows):
    """Other rows, some of them replaced."""

    rows: Rows
    places: npt.NDArray[np.intp]
    """of the replaced ones, ascending [L]"""
    values: Floats
    """what stands there [L, 11]"""

    @property
    def index(self) -> pd.DatetimeIndex:
        return self.rows.index

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> Floats:
        column: Floats = self.rows.column(name).copy()
        column[self.places] = self.values[:, RAW_COLUMNS.index(name)]
        return column

    def span(self, start: int, stop: int) -> pd.DataFrame:
        import pandas as pd

        frame = self.rows.span(start, stop)
        first, last = np.searchsorted(self.places, (start, stop))
        if first == last:
            return frame
        values = frame.to_numpy(copy=True)
        values[self.places[first:last] - start] = self.values[first:last]
        return pd.DataFrame(values, index=frame.index, columns=frame.columns)


def as_rows(rows: pd.DataFrame | Rows) -> Rows:
    """A frame too counts as rows."""
    import pandas as pd

    return FrameRows(rows) if isinstance(rows, pd.DataFrame) else rows


def spans(rows: int, before: int = 0) -> Iterator[tuple[int, int]]:
    """Where to cut so many rows; each span begins with the last `before` rows of the one before."""
    for start in range(0, rows - before, SPAN):
        yield start, min(start + before + SPAN, rows)
