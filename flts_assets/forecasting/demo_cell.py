"""A generated station, for a first run without any measurement at hand.

It is called DemoCell so that nobody takes it for one. Its columns follow those of real stations in
scale, heavy tails and relation to each other:

    day, week ──┐                ┌── rnti_count ── rb_up_var
    slow drift ─┴── load ────────┼── down ──────── rb_down        log-normal around the load
                                 └── up ────────── rb_up
    rare, fading bursts ── crowding: raises down, up and rb_*, presses mcs_* down
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from flts_assets.recipe.columns import RAW_COLUMNS, TIME_COLUMN

__all__ = ["demo_cell", "to_csv"]

_START = "2024-01-01 00:00:00"  # a Monday
_STEP = pd.Timedelta(minutes=2)
_STEPS_A_DAY = 720
_STEPS_A_WEEK = 7 * _STEPS_A_DAY
_ROWS_PER_EMPTY_CELL = 600

_DECIMALS = {"rb_down": 9, "rb_up": 9, "rb_down_var": 15, "rb_up_var": 15}
"""Coarse enough to hide the last bits, in which the exp of two platforms differs. Others: 6."""

_Values = np.ndarray[Any, np.dtype[np.float64]]


def demo_cell(
    train_rows: int = 5040, test_rows: int = 1260, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The train and test frame of DemoCell, as `read_raw` would return them.

    Args:
        train_rows, test_rows: at least 1 each; the defaults are a week and a quarter of one.
        seed: the same seed gives the same frames.

    Returns:
        train: float64 [train_rows, 11] from Monday 2024-01-01 00:00 on in steps of two minutes. One
            row in 600 has no uplink at all, hence empty mcs_up and mcs_up_var, as in real files.
        test: float64 [test_rows, 11], from two minutes after the end of train; no empty cells.

    Raises:
        ValueError: a row count below 1.
    """
    if train_rows < 1 or test_rows < 1:
        raise ValueError(f"train_rows and test_rows must be >= 1, got {train_rows}, {test_rows}")
    rows = train_rows + test_rows
    index = pd.date_range(_START, periods=rows, freq=_STEP, name=TIME_COLUMN, unit="ns")
    index.freq = None  # as read from a file
    frame = pd.DataFrame(_columns(rows, np.random.default_rng(seed)), index=index)
    train, test = frame.iloc[:train_rows].copy(), frame.iloc[train_rows:].copy()
    _silence_uplink(train, train_rows // _ROWS_PER_EMPTY_CELL)
    return train, test


def to_csv(frame: pd.DataFrame) -> bytes:
    """The frame as raw CSV in UTF-8; `read_raw` reads back exactly the same values."""
    text: str = frame.to_csv(index_label=TIME_COLUMN, lineterminator="\n")
    return text.encode()


def _columns(rows: int, rng: np.random.Generator) -> dict[str, _Values]:
    """Each of RAW_COLUMNS: float64 [rows], rounded, without empty cells."""
    noise = iter(rng.standard_normal((rows, 13)).T)
    load = _calendar(rows) + _fade(0.04 * next(noise), 0.985)
    crowding = _crowding(rows, rng)
    users = 5300 * np.exp(0.8 * load + 0.1 * next(noise))
    down = 8.5e7 * np.exp(load + 0.15 * next(noise)) * (1 + 4 * crowding)
    up = 8e5 * np.exp(1.5 * load + 0.5 * next(noise)) + 6e7 * crowding * np.exp(0.4 * next(noise))
    columns = {
        "down": 8 * np.rint(down / 8),
        "up": 8 * np.rint(up / 8),
        "rnti_count": np.rint(users),
        "mcs_down": _between(15.2 - 11 * crowding + 0.15 * next(noise), 0, 31),
        "mcs_down_var": _between(87 - 50 * crowding + 1.5 * next(noise), 0, 200),
        "mcs_up": _between(15 - 1.5 * load - 7 * crowding + next(noise), 0, 31),
        "mcs_up_var": _between(45 + 18 * load + 30 * crowding + 12 * next(noise), 0, 200),
        "rb_down": _between(down / 5.5e9 * (1 + crowding) * np.exp(0.03 * next(noise)), 0, 1),
        "rb_down_var": 4.5e-8 * (1 + 2 * crowding) * np.exp(0.03 * next(noise)),
        "rb_up": _between(up / 3e9 * (1 + crowding) * np.exp(0.05 * next(noise)), 0, 1),
        "rb_up_var": 2.2e-12 * users * np.exp(0.25 * next(noise)),
    }
    return {name: np.round(columns[name], _DECIMALS.get(name, 6)) for name in RAW_COLUMNS}


def _calendar(rows: int) -> _Values:
    """Log load of the hour and the weekday: least at 5 in the morning, quieter at weekends."""
    day = 2 * np.pi * np.arange(rows) / _STEPS_A_DAY
    week = 2 * np.pi * np.arange(rows) / _STEPS_A_WEEK
    five, eight, sunday = 2 * np.pi * 5 / 24, 2 * np.pi * 8 / 24, 2 * np.pi * 6 / 7
    daily = -0.65 * np.cos(day - five) - 0.2 * np.cos(2 * (day - eight))
    return np.asarray(daily - 0.12 * np.cos(week - sunday))


def _crowding(rows: int, rng: np.random.Generator) -> _Values:
    """Share of bursty traffic, 0 to 1: one burst begins in 120 steps and halves in 8."""
    begins = rng.random(rows) < 1 / 120
    bursts = _fade(np.where(begins, rng.standard_exponential(rows), 0.0), 0.92)
    return bursts / (0.8 + bursts)


def _fade(shocks: _Values, rate: float) -> _Values:
    """AR(1): level[t] = rate * level[t - 1] + shocks[t], from level 0."""
    levels = np.empty_like(shocks)
    level = 0.0
    for step, shock in enumerate(shocks):
        level = rate * level + shock
        levels[step] = level
    return levels


def _between(values: _Values, low: float, high: float) -> _Values:
    return np.clip(values, low, high)


def _silence_uplink(frame: pd.DataFrame, rows: int) -> None:
    """Makes the `rows` of least uplink silent: without transmission there is no coding scheme."""
    quietest = np.argsort(frame["up"].to_numpy(), kind="stable")[:rows]
    for name in ("up", "rb_up", "rb_up_var"):
        frame.iloc[quietest, RAW_COLUMNS.index(name)] = 0.0
    for name in ("mcs_up", "mcs_up_var"):
        frame.iloc[quietest, RAW_COLUMNS.index(name)] = np.nan
