"""Prophet, one model a target (Taylor & Letham 2018, "Forecasting at scale").

Prophet sees time alone, so its forecast for a moment is the same from every cutoff before it.
"""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from flts_assets.errors import TrainingError
from flts_assets.forecasting.progress import FitCounter, Report
from flts_assets.forecasting.prophet_curve import ProphetCurve, Season
from flts_assets.forecasting.split import FitAndValidation, Split
from flts_assets.recipe.model import Recipe

if TYPE_CHECKING:
    from prophet import Prophet

__all__ = ["TrainedProphet", "train_prophet"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TrainedProphet:
    """One fitted Prophet a target."""

    models: bytes
    """JSON object: target -> ProphetCurve"""
    validated: bytes
    """the same, fitted on the rows before the validation windows' targets alone"""
    fit_s: float
    """of the models that are kept"""


def train_prophet(train: Split, recipe: Recipe, report: Report) -> TrainedProphet:
    """Fit once on the rows before validation to be scored there, once on all rows to be kept.

    Raises TrainingError if a target has fewer than two measured rows.
    """
    first = FitAndValidation.of(train.windows, recipe.window, recipe.recurrent).validation_start
    counter = FitCounter(2 * len(recipe.window.targets), report)
    validated = _fitted_to(train, first + recipe.window.size, recipe, counter)
    started = time.monotonic()
    kept = _fitted_to(train, len(train), recipe, counter)
    return TrainedProphet(kept, validated, fit_s=time.monotonic() - started)


def _fitted_to(train: Split, rows: int, recipe: Recipe, counter: FitCounter) -> bytes:
    """JSON of each target's curve, fitted on the first so many rows."""
    curves = {}
    for place, target in enumerate(recipe.window.targets):
        counter.start()
        curves[target] = _fit(train, place, target, rows, recipe).model_dump()
        counter.finish()
    return json.dumps(curves, sort_keys=True).encode()


def _fit(train: Split, place: int, target: str, rows: int, recipe: Recipe) -> ProphetCurve:
    from prophet import Prophet

    _quiet()
    settings = recipe.prophet
    span = math.ceil(rows / settings.max_rows)
    history = _span_means(train.times[:rows], train.measured[:rows, place], span)
    if len(history) < 2:
        raise TrainingError(
            f"Prophet needs two measured rows of target {target!r}",
            received=len(history),
            remedy="sample more rows",
        )
    model = Prophet(
        # Prophet places changepoints in the first 80 % of the history, one a row at most.
        n_changepoints=min(settings.n_changepoints, max(0, int(len(history) * 0.8) - 1)),
        changepoint_prior_scale=settings.changepoint_prior_scale,
        seasonality_prior_scale=settings.seasonality_prior_scale,
        uncertainty_samples=0,
    )
    model.fit(history, seed=recipe.seed)
    return _curve(model)


def _span_means(times: pd.DatetimeIndex, values: Floats, rows: int) -> pd.DataFrame:
    """ds and y of each span of so many rows that has a measurement: its middle and its mean."""
    history = pd.DataFrame({"ds": times, "y": values}).dropna()
    if rows == 1:
        return history
    return history.groupby(np.arange(len(history)) // rows).mean()


def _curve(model: Prophet) -> ProphetCurve:
    weights = model.params["beta"].mean(axis=0).tolist()
    seasons = []
    for name, season in model.seasonalities.items():
        count = 2 * season["fourier_order"]
        seasons.append(
            Season(name=name, period_days=season["period"], weights=tuple(weights[:count]))
        )
        weights = weights[count:]
    return ProphetCurve(
        start=model.start.isoformat(),
        span_s=model.t_scale.total_seconds(),
        y_scale=float(model.y_scale),
        rate=float(model.params["k"].mean()),
        offset=float(model.params["m"].mean()),
        changepoints=tuple(np.asarray(model.changepoints_t).tolist()),
        rate_changes=tuple(model.params["delta"].mean(axis=0).tolist()),
        seasons=tuple(seasons),
    )


def _quiet() -> None:
    """cmdstanpy announces every start and end of a chain; its logger resets itself on first use."""
    from cmdstanpy.utils import get_logger

    get_logger()
    for name in ("cmdstanpy", "prophet"):
        logging.getLogger(name).setLevel(logging.WARNING)
