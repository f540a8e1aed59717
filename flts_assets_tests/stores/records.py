"""Prediction records that tests make up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from flts_assets.recipe import RAW_COLUMNS
from flts_assets.stores.prediction_records import Answerer, PredictionRecord

__all__ = ["BY", "STEP", "record"]

BY = Answerer("global", "run-1", "hash-1", "GRU", "Cell")
STEP = np.timedelta64(120, "s")


def record(
    last_time: str | np.datetime64,
    values: Sequence[Sequence[float]],
    columns: Sequence[str] = ("down",),
    asked_at: float = 1_700_000_000.0,
    last_row: Sequence[float] = tuple(range(len(RAW_COLUMNS))),
    **by: str,
) -> PredictionRecord:
    """Values [S][C] for the S steps of two minutes after `last_time`."""
    last = np.datetime64(last_time, "ns")
    return PredictionRecord(
        asked_at,
        replace(BY, **by),
        last,
        np.array(last_row, dtype=np.float64),
        last + np.arange(1, len(values) + 1) * STEP,
        tuple(columns),
        np.array(values, dtype=np.float64),
        0.001,
    )
