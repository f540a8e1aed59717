"""The leaderboard: models and baselines scored on the same forecasts, ranked on one scale."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict

from flts_assets.forecasting.baselines import BASELINES, PERSISTENCE, Forecast
from flts_assets.forecasting.dataset import Dataset
from flts_assets.forecasting.forecaster import Forecaster
from flts_assets.forecasting.metrics import Scores, score
from flts_assets.recipe.model import ModelType, Recipe

__all__ = ["Candidate", "Entry", "Leaderboard", "Result", "Training", "evaluate", "forecast_frame"]

Floats = npt.NDArray[np.float64]
T = TypeVar("T")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Training(_Frozen):
    """One training of a model."""

    fingerprint: str
    attempt: str


class Entry(_Frozen):
    """One row: who, how good, how dear."""

    rank: int
    name: str
    kind: Literal["model", "baseline"]
    scores: Scores
    skill: float
    """1 - score / persistence's score: above 0 beats it, 1 is perfect"""
    fit_s: float
    predict_s: float
    run_id: str | None = None
    """the model's MLflow run"""
    trained: Training | None = None
    """which training of the model was scored"""


class Leaderboard(_Frozen):
    """Best first."""

    config_hash: str
    rank_by: str
    targets: tuple[str, ...]
    forecasts: int
    """windows compared"""
    entries: tuple[Entry, ...]

    def entry(self, name: str) -> Entry:
        return next(entry for entry in self.entries if entry.name == name)

    @property
    def models(self) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.kind == "model")


@dataclass(frozen=True)
class Candidate:
    """A trained model that asks to be ranked."""

    model_type: ModelType
    forecaster: Forecaster
    fit_s: float
    run_id: str
    trained: Training


@dataclass(frozen=True)
class Result:
    """What one candidate or baseline forecast, and how well."""

    name: str
    forecasts: Floats
    """raw units [M, H, T]"""
    scores: Scores
    fit_s: float
    predict_s: float
    candidate: Candidate | None = None


def evaluate(
    data: Dataset, candidates: Sequence[Candidate], recipe: Recipe
) -> tuple[Leaderboard, list[Result]]:
    """Score all candidates and baselines on the test split: this is where it is looked at.

    Returns the leaderboard, and the results in its order.
    """

    def result(
        name: str, forecast: Forecast, fit_s: float, candidate: Candidate | None = None
    ) -> Result:
        forecasts, predict_s = _timed(lambda: forecast(data.test))
        fitted = data.preprocessing
        scores = score(
            data.test.actuals(),
            forecasts,
            fitted.targets,
            fitted.target_ranges,
            recipe.evaluation.targets,
        )
        return Result(name, forecasts, scores, fit_s, predict_s, candidate)

    results = [result(name, *_timed(partial(fit, data))) for name, fit in BASELINES.items()]
    results += [
        result(one.model_type, one.forecaster.forecast, one.fit_s, one) for one in candidates
    ]
    reference = next(one for one in results if one.name == PERSISTENCE).scores.score
    results.sort(
        key=lambda one: (one.scores.by(recipe.evaluation.rank_by), one.scores.score, one.name)
    )
    board = Leaderboard(
        config_hash=recipe.config_hash,
        rank_by=recipe.evaluation.rank_by,
        targets=data.preprocessing.targets,
        forecasts=data.test.windows,
        entries=tuple(_entry(rank, one, reference) for rank, one in enumerate(results, start=1)),
    )
    return board, results


def forecast_frame(data: Dataset, results: Sequence[Result]) -> pd.DataFrame:
    """One row a forecast value: time, step (1..H), target, actual, then a column for each result."""
    times = data.test.target_times()
    actuals = data.test.actuals()
    windows, horizon, targets = actuals.shape
    return pd.DataFrame(
        {
            "time": times.repeat(targets),
            "step": np.tile(np.arange(1, horizon + 1).repeat(targets), windows),
            "target": np.tile(data.preprocessing.targets, windows * horizon),
            "actual": actuals.ravel(),
            **{one.name: one.forecasts.ravel() for one in results},
        }
    )


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    outcome = work()
    return outcome, time.perf_counter() - started


def _entry(rank: int, result: Result, reference: float) -> Entry:
    candidate = result.candidate
    return Entry(
        rank=rank,
        name=result.name,
        kind="baseline" if candidate is None else "model",
        scores=result.scores,
        skill=1 - result.scores.score / reference if reference else 0.0,
        fit_s=result.fit_s,
        predict_s=result.predict_s,
        run_id=None if candidate is None else candidate.run_id,
        trained=None if candidate is None else candidate.trained,
    )
