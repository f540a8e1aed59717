"""Choosing rows: the first step of preprocessing."""

from __future__ import annotations

import numpy as np
import pandas as pd

from flts_assets.errors import RawDataError
from flts_assets.recipe.model import Data

__all__ = ["sample"]


def sample(frame: pd.DataFrame, rows: int, data: Data, file: str) -> pd.DataFrame:
    """`rows` rows of the frame by the recipe's strategy, in time order; 0 keeps all.

        head    ■■■■······    tail    ······■■■■    random  ■·■··■··■·

    `random` breaks the regular grid: windows then run over the rows that were kept.
    Raises RawDataError if the file has fewer rows than asked for.
    """
    if rows == 0:
        return frame
    if rows > len(frame):
        raise RawDataError(
            file,
            f"has {len(frame)} rows, fewer than the recipe samples",
            received=rows,
            allowed=f"0 (all rows) to {len(frame)}",
            remedy="lower sample_train_rows / sample_test_rows, or give more data",
        )
    if data.sample_strategy == "head":
        return frame.iloc[:rows]
    if data.sample_strategy == "tail":
        return frame.iloc[-rows:]
    drawn = np.random.default_rng(data.sample_seed).choice(len(frame), size=rows, replace=False)
    return frame.iloc[np.sort(drawn)]
