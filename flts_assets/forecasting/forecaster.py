"""A trained model as it is used: loaded from its files, forecasting in raw units.

Leaderboard, promotion and serving all go through here, so a model is served exactly as it was scored.
Neither torch nor a trainer is needed.

    model.json            what it is: type, window, columns
    model.onnx            GRU, LSTM and TREES (weights.safetensors holds the same weights of nets)
    nets.json             GRU and LSTM: the kinds of nets they are averaged from
    prophet.json          Prophet, one curve a target
    ensemble.json         an ensemble's weights; its members' files stand beside it as GRU.model.onnx, …
    preprocessing.json    what was fitted on train rows
    intervals.json        how wide the prediction intervals are
    example.json          rows and the forecast after them, to prove that a loaded model is the saved one

A forecast is direct for the horizon H of the recipe. For more steps it is recursive: forecast targets
count as measured, the other columns keep their last value, and calendar columns are those of the time
that is forecast. Prophet needs no recursion; it knows time alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from flts_assets.errors import ArtifactError, RawDataError
from flts_assets.forecasting.cores import (
    ENSEMBLE_FILE,
    MODEL_FILE,
    NETS_FILE,
    ONNX_FILE,
    PREPROCESSING_FILE,
    PROPHET_FILE,
    Core,
    ModelCard,
    core_of,
    member_file,
)
from flts_assets.forecasting.example import check_example, example_of
from flts_assets.forecasting.intervals import RECENT, Band, Intervals, known_scores
from flts_assets.forecasting.split import Split
from flts_assets.recipe.columns import RAW_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ENSEMBLE_FILE",
    "EXAMPLE_FILE",
    "INTERVALS_FILE",
    "MODEL_FILE",
    "NETS_FILE",
    "ONNX_FILE",
    "PREPROCESSING_FILE",
    "PROPHET_FILE",
    "Forecaster",
    "ModelCard",
    "check_example",
    "example_of",
    "load_forecaster",
    "member_file",
]

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.datetime64]

INTERVALS_FILE: Final = "intervals.json"
EXAMPLE_FILE: Final = "example.json"

SCORES_AT_ONCE: Final = 4_000_000
"""Known errors of forecasts that are laid out and sorted together (32 MB)."""


class Forecaster:
    """A loaded model: forecasts of all its targets, and how sure they are."""

    def __init__(self, card: ModelCard, core: Core, intervals: Intervals | None) -> None:
        self.card = card
        self._core = core
        self._intervals = intervals
        self._target_places = [RAW_COLUMNS.index(target) for target in card.window.targets]

    @property
    def rows_needed(self) -> int:
        """How many rows `forecast_next` must see at least. Two tell the step of the grid."""
        return max(2, self._core.rows_needed, self.card.window.size)

    @property
    def levels(self) -> tuple[float, ...]:
        """Of the prediction intervals there are."""
        return () if self._intervals is None else self._intervals.levels

    def forecast(self, split: Split) -> Floats:
        """Raw units [M, H, T], one for each window of the split."""
        return self._core.of_split(split)

    def forecast_next(self, rows: pd.DataFrame, steps: int | None = None) -> Floats:
        """Raw units [steps, T] after the last of these raw rows (no empty cells); None: H steps.

        Raises RawDataError for fewer than `rows_needed` rows.
        """
        raw, times = self._last_rows(rows)
        only: Floats = self.forecast_after(
            raw[None], times[None], steps or self.card.window.horizon
        )[0]
        return only

    def forecast_after(self, raw: Floats, times: Times, steps: int) -> Floats:
        """Raw units [B, steps, T] after raw rows [B, R, 11] at regular times [B, R]; R >= rows_needed."""
        horizon = self.card.window.horizon
        ahead = np.arange(1, -(-steps // horizon) * horizon + 1) * (times[0, -1] - times[0, -2])
        times = np.concatenate([times, times[:, -1:] + ahead], axis=1)
        rows = raw.shape[1]
        parts = []
        for start in range(0, steps, horizon):
            part = self._core.after(raw, times[:, start : start + rows + horizon])
            parts.append(part)
            following = np.repeat(raw[:, -1:], horizon, axis=1)
            following[..., self._target_places] = part
            raw = np.concatenate([raw[:, horizon:], following], axis=1)[:, -rows:]
        return np.concatenate(parts, axis=1)[:, :steps]

    def bands(self, split: Split, forecasts: Floats) -> dict[float, Band]:
        """Level -> band around forecasts [M, H, T] of the split's windows, by what was known then."""
        if self._intervals is None:
            return {}
        windows = split.target_windows()
        scores = self._intervals.scores(windows, split.actuals(), forecasts)
        parts = []
        at_once = max(1, SCORES_AT_ONCE // (RECENT * scores[0].size))
        for first in range(0, len(windows), at_once):
            last = min(first + at_once, len(windows))
            known = known_scores(scores, first, last)
            parts.append(self._intervals.bands(windows[first:last], forecasts[first:last], known))
        return {
            level: Band(
                np.concatenate([part[level].lower for part in parts]),
                np.concatenate([part[level].upper for part in parts]),
            )
            for level in parts[0]
        }

    def bands_next(self, rows: pd.DataFrame, forecasts: Floats) -> dict[float, Band]:
        """Level -> band around forecasts [steps, T] after the last of these raw rows.

        Rows before the last window serve to look back on the model's recent errors: 100 of them suffice.
        """
        return self.bands_after(*self._values(rows), forecasts)

    def bands_after(self, raw: Floats, times: Times, forecasts: Floats) -> dict[float, Band]:
        """`bands_next` of raw rows [R, 11] at times [R]; R >= rows_needed."""
        if self._intervals is None:
            return {}
        looked_at = self.rows_needed + RECENT + self.card.window.horizon
        raw, times = raw[-looked_at:], times[-looked_at:]
        targets = raw[:, self._target_places]
        size = self.card.window.size
        before = np.lib.stride_tricks.sliding_window_view(targets, size, axis=0).transpose(0, 2, 1)
        recent = self._recent_scores(raw, times, before)
        bands = self._intervals.bands(before[-1:], forecasts[None], recent[:, : len(forecasts)])
        return {level: Band(band.lower[0], band.upper[0]) for level, band in bands.items()}

    def _recent_scores(self, raw: Floats, times: Times, before: Floats) -> Floats:
        """What `bands_after` can look back on: [1, H, RECENT, T]."""
        horizon, needed = self.card.window.horizon, self.rows_needed
        recent = np.full((1, horizon, RECENT, len(self._target_places)), np.nan)
        origins = len(raw) - needed
        if origins < 1:
            return recent
        windows = np.lib.stride_tricks.sliding_window_view(raw, needed, axis=0)[:origins]
        ends = np.lib.stride_tricks.sliding_window_view(times, needed)[:origins]
        forecasts = self.forecast_after(windows.transpose(0, 2, 1), ends, horizon)
        # What follows each window, NaN where that has not come yet.
        ahead = np.full((horizon, raw.shape[1]), np.nan)
        following = np.lib.stride_tricks.sliding_window_view(
            np.concatenate([raw[needed:], ahead]), horizon, axis=0
        )[:origins]
        actuals = following.transpose(0, 2, 1)[..., self._target_places]
        assert self._intervals is not None
        first = len(before) - 1 - origins
        scores = self._intervals.scores(before[first:-1], actuals, forecasts)
        for lead in range(horizon):
            known = scores[: max(0, origins - lead), lead][-RECENT:]
            recent[0, lead, RECENT - len(known) :] = known
        return recent

    def _last_rows(self, rows: pd.DataFrame) -> tuple[Floats, Times]:
        if len(rows) < self.rows_needed:
            raise RawDataError(
                "the given rows",
                "are fewer than the model needs",
                received=len(rows),
                allowed=f"at least {self.rows_needed}",
                remedy="send more history",
            )
        return self._values(rows.iloc[-self.rows_needed :])

    def _values(self, rows: pd.DataFrame) -> tuple[Floats, Times]:
        return rows[list(RAW_COLUMNS)].to_numpy(dtype=np.float64), rows.index.to_numpy()


def load_forecaster(files: Mapping[str, bytes], threads: int) -> Forecaster:
    """The model in `files` (name -> bytes), using at most so many threads.

    Raises ArtifactError for files that are no model, or one of another version's format.
    """
    try:
        card = ModelCard.model_validate_json(files[MODEL_FILE])
        intervals = files.get(INTERVALS_FILE)
        return Forecaster(
            card,
            core_of(card, files, threads),
            None if intervals is None else Intervals.model_validate_json(intervals),
        )
    except Exception as error:  # JSON, pydantic and ONNX Runtime each raise their own
        raise ArtifactError(
            "a model's files cannot be loaded",
            received=f"{type(error).__name__}: {error}",
            remedy="train the model again with this version: flts run RECIPE --force",
        ) from error
