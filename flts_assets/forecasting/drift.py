"""How a served model does: its live error, and how far its inputs have moved from the train rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from flts_assets.forecasting.intervals import Band
from flts_assets.forecasting.metrics import Scores, score

__all__ = ["Live", "covers", "forecast_rows", "input_rows", "live", "psi"]

Floats = npt.NDArray[np.float64]

LEAST_SHARE: Final = 1e-4
"""stands for an empty bin's share, whose logarithm is infinite"""


LEAST_ROWS: Final = 200
"""fewer make 0.05 of PSI by chance alone"""


@dataclass(frozen=True)
class Live:
    """Forecasts whose time has come, M of them, against what was measured."""

    times: npt.NDArray[np.datetime64]
    """[M], ascending"""
    actuals: Floats
    """raw units [M, T]"""
    forecasts: Floats
    """raw units [M, T]"""
    scores: Scores
    coverage: dict[float, float]
    """level -> share inside; only of forecasts that were asked with this interval"""


def psi(train: Floats, live: Floats) -> float:
    """The Population Stability Index of one column: [N] and [M] values, NaN left out, one each at least.

        PSI = sum over bins of (b - a) ln(b / a)        a, b: a bin's share of train and live values

    The bins lie between the deciles of the train values, the outer two are open; equal deciles are one.
    It is the symmetric divergence of Kullback & Leibler (1951) between the two binned distributions.
    Usual reading (Siddiqi, "Credit Risk Scorecards", 2006): below 0.1 stable, to 0.25 look at it, above
    0.25 moved. Without any drift it is about (bins - 1) (1/N + 1/M), from the chi-squared distribution
    (Yurdakul 2018, "Statistical properties of population stability index"): few values look like drift.
    """
    train, live = train[np.isfinite(train)], live[np.isfinite(live)]
    edges = np.unique(np.quantile(train, np.arange(1, 10) / 10))
    if len(edges) == 1:  # mostly one value: below it, it, above it
        edges = np.array([np.nextafter(edges[0], -np.inf), edges[0]])
    a, b = (_shares(values, edges) for values in (train, live))
    return float(((b - a) * np.log(b / a)).sum())


def covers(times: npt.NDArray[np.datetime64], days: int) -> bool:
    """Enough to judge by: LEAST_ROWS different times, the last so many days after the first."""
    if len(np.unique(times)) < LEAST_ROWS:
        return False
    return bool(times.max() - times.min() >= np.timedelta64(days, "D"))


def input_rows(records: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The last rows that were sent, indexed by time: each time once, however often it was asked."""
    return records.drop_duplicates("last_time").set_index("last_time")[list(columns)].sort_index()


def forecast_rows(records: pd.DataFrame, horizon: int) -> pd.DataFrame:
    """One row a forecast step: time, then columns as logged (`down`, `down-lo-90`), NaN if not asked for.

    Each step after each last row once, however often it was asked. Steps beyond the horizon are left out:
    they rest on forecasts, and no test score tells how good they should be.
    """
    parts = []
    for names, group in records.groupby(records["columns"].map(tuple)):
        lengths = group["times"].map(len).to_numpy()
        part = pd.DataFrame(
            np.concatenate(group["values"].tolist()).reshape(-1, len(names)), columns=list(names)
        )
        part.insert(0, "origin", group["last_time"].to_numpy().repeat(lengths))
        part.insert(1, "step", np.concatenate([np.arange(1, count + 1) for count in lengths]))
        part.insert(2, "time", np.concatenate(group["times"].tolist()))
        parts.append(part[part["step"] <= horizon])
    if not parts:
        return pd.DataFrame(columns=["time"])
    rows = pd.concat(parts, ignore_index=True).groupby(["time", "step", "origin"]).last()
    return rows.reset_index().drop(columns=["step", "origin"])


def live(
    forecasts: pd.DataFrame,
    actuals: pd.DataFrame,
    targets: Sequence[str],
    ranges: Sequence[float],
    averaged: Sequence[str] | None,
    levels: Sequence[float],
) -> Live | None:
    """Forecasts as `forecast_rows` gives them, joined with measured rows (raw units, indexed by time).

    Scores as on the leaderboard, see `metrics.score`. None while a target has nothing to compare with.
    """
    come = forecasts[forecasts["time"].isin(actuals.index)]
    measured = actuals.loc[come["time"], list(targets)].to_numpy(dtype=np.float64)
    if not np.isfinite(measured).any(axis=0).all():
        return None
    values = come[list(targets)].to_numpy(dtype=np.float64)
    scores = score(measured[:, None], values[:, None], tuple(targets), ranges, averaged)
    return Live(
        come["time"].to_numpy(),
        measured,
        values,
        scores,
        coverage=dict(_coverage(come, measured, targets, level) for level in levels),
    )


def _coverage(
    come: pd.DataFrame, measured: Floats, targets: Sequence[str], level: float
) -> tuple[float, float]:
    """A level and the share inside its band, NaN where nobody asked for it."""
    ends = [
        come.reindex(columns=[f"{target}-{end}-{100 * level:g}" for target in targets])
        for end in ("lo", "hi")
    ]
    band = Band(*(one.to_numpy(dtype=np.float64) for one in ends))
    return level, band.coverage(np.where(np.isfinite(band.lower), measured, np.nan))


def _shares(values: Floats, edges: Floats) -> Floats:
    counts = np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1)
    shares: Floats = np.maximum(counts / len(values), LEAST_SHARE)
    return shares
