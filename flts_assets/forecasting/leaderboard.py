"""The leaderboard: models and baselines scored on the same forecasts, ranked on one scale."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Literal, TypeVar

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from flts_assets.forecasting import baselines
from flts_assets.forecasting.baselines import BASELINES, PERSISTENCE, Forecast
from flts_assets.forecasting.comparison import Difference, Errors, drawn
from flts_assets.forecasting.dataset import Dataset
from flts_assets.forecasting.forecaster import Forecaster
from flts_assets.forecasting.intervals import Band
from flts_assets.forecasting.metrics import Scores, score
from flts_assets.recipe.model import CandidateType, Recipe

__all__ = ["Candidate", "Entry", "Leaderboard", "Result", "Training", "evaluate", "forecast_frame"]

T = TypeVar("T")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Training(_Frozen):
    """One training of a model."""

    fingerprint: str
    attempt: str
    started_at: datetime
    """when the run began that trained it"""


class Entry(_Frozen):
    """One row: who, how good, how dear."""

    rank: int
    name: str
    kind: Literal["model", "baseline"]
    scores: Scores
    """on the test windows"""
    skill: float
    """1 - score / persistence's score: above 0 beats it, 1 is perfect"""
    backtest: Scores | None = None
    """on the backtest's windows"""
    before_persistence: Difference | None = None
    """how much lower its measure is than persistence's, on the windows that rank"""
    behind_best: Difference | None = None
    """how much higher a model's measure is than the best model's; None for itself, for baselines and
    where it is not defined"""
    coverage: dict[str, float] = {}
    """level of an interval -> share of the test values that its band covered"""
    fit_s: float
    """nets: validation and refit included; Prophet, trees: of what is kept; ensemble: of its weights"""
    predict_s: float
    run_id: str | None = None
    """the model's MLflow run"""
    trained: Training | None = None
    """which training of the model was scored"""

    def ranked_by(self, board: Leaderboard) -> Scores:
        """The scores that gave the rank."""
        return self.backtest if board.rank_on == "backtest" and self.backtest else self.scores


class Leaderboard(_Frozen):
    """Best first."""

    config_hash: str
    rank_by: str
    rank_on: str = "test"
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

    model_type: CandidateType
    forecaster: Forecaster
    fit_s: float
    run_id: str
    trained: Training


@dataclass(frozen=True)
class Result:
    """What one candidate or baseline forecast, and how well."""

    name: str
    errors: Errors
    """on the test windows"""
    scores: Scores
    fit_s: float
    predict_s: float
    candidate: Candidate | None = None
    bands: Mapping[float, Band] = field(default_factory=dict)


def evaluate(
    data: Dataset,
    candidates: Sequence[Candidate],
    recipe: Recipe,
    backtested: Mapping[str, Errors] | None = None,
) -> tuple[Leaderboard, list[Result]]:
    """Score all candidates and baselines on the test split: this is where it is looked at.

    `backtested`: name -> errors of the recipe's backtest, by which it may rank instead. Returns the
    leaderboard, and the results in its order.
    """
    fitted = data.preprocessing
    actuals = data.test.actuals()

    def scored(errors: Errors) -> Scores:
        return score(
            errors.actuals,
            errors.forecasts,
            fitted.targets,
            fitted.target_ranges,
            recipe.evaluation.targets,
        )

    def result(
        name: str, forecast: Forecast, fit_s: float, candidate: Candidate | None = None
    ) -> Result:
        forecasts, predict_s = _timed(lambda: forecast(data.test))
        errors = Errors(actuals, forecasts)
        bands = candidate.forecaster.bands(data.test, forecasts) if candidate else {}
        return Result(name, errors, scored(errors), fit_s, predict_s, candidate, bands)

    results = [
        result(name, *_timed(partial(baselines.fitted, name, data, recipe))) for name in BASELINES
    ]
    results += [
        result(one.model_type, one.forecaster.forecast, one.fit_s, one) for one in candidates
    ]
    on_backtest = {name: scored(errors) for name, errors in (backtested or {}).items()}
    if recipe.evaluation.rank_on == "backtest":
        ranking, ranked = on_backtest, backtested or {}
    else:
        ranking = {one.name: one.scores for one in results}
        ranked = {one.name: one.errors for one in results}
    draws = {
        one.name: drawn(ranked[one.name], fitted.targets, fitted.target_ranges, recipe)
        for one in results
    }
    results.sort(
        key=lambda one: (
            ranking[one.name].by(recipe.evaluation.rank_by),
            ranking[one.name].score,
            one.name,
        )
    )

    def apart(worse: str, better: str) -> Difference | None:
        return draws[worse].minus(draws[better], recipe.promotion.confidence)

    reference = next(one for one in results if one.name == PERSISTENCE).scores.score
    best = next((one.name for one in results if one.candidate), None)
    entries = []
    for rank, one in enumerate(results, start=1):
        candidate = one.candidate
        entries.append(
            Entry(
                rank=rank,
                name=one.name,
                kind="model" if candidate else "baseline",
                scores=one.scores,
                skill=1 - one.scores.score / reference if reference else 0.0,
                backtest=on_backtest.get(one.name),
                before_persistence=None
                if one.name == PERSISTENCE
                else apart(PERSISTENCE, one.name),
                behind_best=apart(one.name, best)
                if candidate and best and one.name != best
                else None,
                coverage={
                    f"{level:g}": band.coverage(actuals) for level, band in one.bands.items()
                },
                fit_s=one.fit_s,
                predict_s=one.predict_s,
                run_id=candidate.run_id if candidate else None,
                trained=candidate.trained if candidate else None,
            )
        )
    board = Leaderboard(
        config_hash=recipe.config_hash,
        rank_by=recipe.evaluation.rank_by,
        rank_on=recipe.evaluation.rank_on,
        targets=fitted.targets,
        forecasts=data.test.windows,
        entries=tuple(entries),
    )
    return board, results


def forecast_frame(data: Dataset, results: Sequence[Result]) -> pd.DataFrame:
    """One row a forecast value: time, step (1..H), target, actual, then columns for each result.

    GRU is a forecast, GRU-lo-90 and GRU-hi-90 are its 90 % band.
    """
    times = data.test.target_times()
    actuals = data.test.actuals()
    windows, horizon, targets = actuals.shape
    columns = {}
    for one in results:
        columns[one.name] = one.errors.forecasts.ravel()
        for level, band in one.bands.items():
            columns[f"{one.name}-lo-{100 * level:g}"] = band.lower.ravel()
            columns[f"{one.name}-hi-{100 * level:g}"] = band.upper.ravel()
    return pd.DataFrame(
        {
            "time": times.repeat(targets),
            "step": np.tile(np.arange(1, horizon + 1).repeat(targets), windows),
            "target": np.tile(data.preprocessing.targets, windows * horizon),
            "actual": actuals.ravel(),
            **columns,
        }
    )


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    outcome = work()
    return outcome, time.perf_counter() - started
