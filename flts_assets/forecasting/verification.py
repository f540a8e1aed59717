"""What stored files show by themselves, computed again from their bytes.

Checks and the verification report ask here whether rows, forecasts and scores still say what was
recorded.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from flts_assets.errors import RawDataError
from flts_assets.forecasting.dataset import Dataset
from flts_assets.forecasting.empty_cells import without_empty_cells
from flts_assets.forecasting.forecaster import Forecaster
from flts_assets.forecasting.intervals import Band
from flts_assets.forecasting.leaderboard import Entry
from flts_assets.forecasting.metrics import Scores, score
from flts_assets.forecasting.parquet import CONFIG_KEY, HASH_KEY, StoredFrame
from flts_assets.forecasting.preprocessing import fit_preprocessing, transformed
from flts_assets.forecasting.rows import FrameRows, Rows, as_rows
from flts_assets.forecasting.sampling import Sampled
from flts_assets.forecasting.split import validation_windows
from flts_assets.recipe.model import CandidateType, Recipe

__all__ = [
    "COVERAGE_SLACK",
    "Rescored",
    "agrees",
    "coverage_slack",
    "fault_of_parquet",
    "fault_of_rows",
    "leakage",
    "rescored",
    "same_score",
    "same_scores",
    "scores_on_test",
    "validation_scores",
    "weights_were_validated",
]

Floats = npt.NDArray[np.float64]

COVERAGE_SLACK: Final = 0.05
SCORE_TOLERANCE: Final = 1e-5
"""in units of the train range, relative to scores above 1: what another library version may change"""


class AnySplit(Protocol):
    """One split as preprocessing left it, in files or in memory."""

    @property
    def measured(self) -> Rows | pd.DataFrame:
        """raw units, NaN where a cell was empty [N, 11]"""
        ...

    @property
    def processed(self) -> StoredFrame | pd.DataFrame:
        """scaled, float32 [N - rows lost to lags, F]"""
        ...


def fault_of_rows(role: str, rows: AnySplit, raw_rows: int, recipe: Recipe) -> str | None:
    """What is wrong with the number of stored rows, given the rows of the raw file; None if nothing."""
    data = recipe.data
    asked = {"train": data.sample_train_rows, "test": data.sample_test_rows}[role] or raw_rows
    lost = recipe.lags.rows_lost
    measured, processed = len(rows.measured), len(rows.processed)
    fewer_allowed = recipe.handle_nans.enabled and recipe.handle_nans.drop_rows
    if measured != asked and not (fewer_allowed and measured < asked):
        return f"{role}: {measured:,} rows stand there, the recipe asks for {asked:,}"
    if processed != measured - lost:
        return f"{role}: {processed:,} scaled rows of {measured:,} measured ones, lags take {lost}"
    return None


def fault_of_parquet(content: bytes | BinaryIO, recipe: Recipe) -> str | None:
    """What the file's own metadata says otherwise than the recipe; None if nothing."""
    source = io.BytesIO(content) if isinstance(content, bytes) else content
    found = pq.read_schema(source).metadata or {}
    expected = {HASH_KEY: recipe.config_hash, CONFIG_KEY: recipe.canonical_json}
    for key, value in expected.items():
        stands = found.get(key.encode())
        if stands is None:
            return f"its metadata lacks {key}"
        if stands.decode() != value:
            return f"its metadata says {key} = {stands.decode()[:80]}, the recipe {value[:80]}"
    return None


def leakage(rows: Mapping[str, AnySplit], recipe: Recipe) -> str | None:
    """What the stored rows know of the test rows that they must not; None if nothing.

    Test rows must follow the train rows, and both splits must be scaled by numbers that are fitted
    again here on the stored train rows alone.
    """
    train, test = as_rows(rows["train"].measured), as_rows(rows["test"].measured)
    if not train.index[-1] < test.index[0]:
        return f"test rows begin at {test.index[0]}, train rows end at {train.index[-1]}"
    try:
        full = without_empty_cells(
            Sampled.all_of(train), Sampled.all_of(test), recipe.handle_nans, recipe.data
        )
    except RawDataError as error:
        return str(error)
    fitted = fit_preprocessing(full[0], recipe)
    for role, one in zip(("train", "test"), full, strict=True):
        stored = rows[role].processed
        expected = (len(one) - fitted.rows_lost, len(fitted.columns))
        shape = (len(stored), len(stored.columns))
        if shape != expected:
            return f"{role}: scaled rows of shape {shape}, fitted again {expected}"
        span_of = (stored if isinstance(stored, StoredFrame) else FrameRows(stored)).span
        start = 0
        for again in transformed(one, fitted):
            stands = span_of(start, start + len(again)).to_numpy(np.float32)
            start += len(again)
            near = np.abs(again - stands) <= 1e-5 + 1e-4 * np.abs(again)
            if not near.all():
                column = fitted.columns[int(np.argwhere(~near)[0, 1])]
                return f"{role}, column {column}: not scaled by numbers fitted on the train rows"
    return None


@dataclass(frozen=True)
class Rescored:
    """Scores and coverage of one name on the leaderboard, from the forecasts in the store."""

    scores: Scores
    coverage: Mapping[str, float]
    """level -> share"""
    values: int
    """measured values that coverage is counted over"""


def rescored(
    frame: pd.DataFrame,
    names: Sequence[str],
    targets: Sequence[str],
    ranges: Sequence[float],
    recipe: Recipe,
) -> dict[str, Rescored]:
    """Scores and coverage by name, of what `leaderboard.forecast_frame` wrote.

    `ranges`: of each target's train rows. Raises KeyError for a name without forecasts.
    """
    shape = (-1, recipe.window.horizon, len(targets))

    def values(column: str) -> Floats:
        of_column: Floats = frame[column].to_numpy(np.float64).reshape(shape)
        return of_column

    actuals = values("actual")
    found = {}
    for name in names:
        begin = f"{name}-lo-"
        shares = [column[len(begin) :] for column in frame.columns if column.startswith(begin)]
        found[name] = Rescored(
            score(actuals, values(name), targets, ranges, recipe.evaluation.targets),
            {
                f"{float(share) / 100:g}": Band(
                    values(f"{name}-lo-{share}"), values(f"{name}-hi-{share}")
                ).coverage(actuals)
                for share in shares
            },
            int(np.isfinite(actuals).sum()),
        )
    return found


def agrees(found: Rescored, entry: Entry) -> bool:
    """What was computed again is what the leaderboard recorded."""
    return (
        same_scores(found.scores, entry.scores)
        and found.coverage.keys() == entry.coverage.keys()
        and all(same_score(found.coverage[level], one) for level, one in entry.coverage.items())
    )


def coverage_slack(level: float, values: int) -> float:
    """How far coverage may be from its level: 5 points, and two standard errors of so many values."""
    return COVERAGE_SLACK + 2 * math.sqrt(level * (1 - level) / max(values, 1))


def same_score(one: float, other: float | None) -> bool:
    """Equal but for what another library version changes in the last digits."""
    return other is not None and abs(one - other) <= SCORE_TOLERANCE * max(1.0, abs(other))


def same_scores(one: Scores, other: Scores) -> bool:
    """`same_score`, of every measure."""
    ours, theirs = one.measures(), other.measures()
    return ours.keys() == theirs.keys() and all(
        same_score(ours[name], theirs[name]) for name in ours
    )


def scores_on_test(forecaster: Forecaster, data: Dataset, recipe: Recipe) -> Scores:
    """Of a loaded model on the stored test windows."""
    return _scored(data.test.actuals(), forecaster.forecast(data.test), data, recipe)


def validation_scores(forecasts: Floats, data: Dataset, recipe: Recipe) -> Scores:
    """Of forecasts [M, H, T] of the validation windows."""
    held_out = validation_windows(data.train, recipe.recurrent)
    return _scored(held_out.actuals(), forecasts, data, recipe)


def weights_were_validated(model_type: CandidateType, recipe: Recipe) -> bool:
    """The weights that are kept gave the validation score themselves: nets that were not refitted."""
    return model_type in ("GRU", "LSTM") and not recipe.recurrent.refit


def _scored(actuals: Floats, forecasts: Floats, data: Dataset, recipe: Recipe) -> Scores:
    fit = data.preprocessing
    return score(actuals, forecasts, fit.targets, fit.target_ranges, recipe.evaluation.targets)
