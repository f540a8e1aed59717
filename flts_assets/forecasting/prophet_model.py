"""Prophet, one model a target (Taylor & Letham 2018, "Forecasting at scale").

Prophet sees time alone, so its forecast for a moment is the same from every cutoff before it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from flts_assets.errors import TrainingError
from flts_assets.forecasting.progress import Progress, Report
from flts_assets.forecasting.split import FitAndValidation, Split
from flts_assets.recipe.model import Recipe

__all__ = ["TrainedProphet", "prophet_forecasts", "train_prophet"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TrainedProphet:
    """One fitted Prophet a target."""

    models: bytes
    """JSON object: target -> Prophet's own serialisation"""
    validation_forecasts: Floats
    """[V, H, T] raw units, by models that saw only the rows before the validation windows' targets"""
    fit_s: float
    """of the models that are kept"""


def train_prophet(train: Split, recipe: Recipe, report: Report) -> TrainedProphet:
    """Fit once on the rows before validation to be scored there, once on all rows to be kept.

    Raises TrainingError if a target has fewer than two measured rows.
    """
    first = FitAndValidation.of(train.windows, recipe.window, recipe.recurrent).validation_start
    cutoff = first + recipe.window.size
    targets = recipe.window.targets
    started = time.monotonic()
    before: dict[str, Any] = {}
    for place, target in enumerate(targets):
        before[target] = _fit(train, place, target, cutoff, recipe)
        report(_progress(place + 1, 2 * len(targets), started))
    kept: dict[str, Any] = {}
    fit_started = time.monotonic()
    for place, target in enumerate(targets):
        kept[target] = _fit(train, place, target, len(train), recipe)
        report(_progress(len(targets) + place + 1, 2 * len(targets), started))
    fit_s = time.monotonic() - fit_started
    return TrainedProphet(
        models=json.dumps(kept, sort_keys=True).encode(),
        validation_forecasts=prophet_forecasts(before, train.target_times()[first:]),
        fit_s=fit_s,
    )


def prophet_forecasts(models: Mapping[str, Any], times: npt.NDArray[np.datetime64]) -> Floats:
    """[M, H, T] raw units at times [M, H]; `models` maps each target to a serialised Prophet."""
    from prophet.serialize import model_from_dict

    moments, where = np.unique(times, return_inverse=True)
    future = pd.DataFrame({"ds": moments})
    columns = [
        model_from_dict(model).predict(future)["yhat"].to_numpy(dtype=np.float64)
        for model in models.values()
    ]
    return np.stack(columns, axis=1)[where.reshape(times.shape)]


def _fit(train: Split, place: int, target: str, rows: int, recipe: Recipe) -> Any:
    from prophet import Prophet
    from prophet.serialize import model_to_dict

    _quiet()
    settings = recipe.prophet
    history = pd.DataFrame({"ds": train.times[:rows], "y": train.measured[:rows, place]}).dropna()
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
    return model_to_dict(model)


def _progress(done: int, fits: int, started: float) -> Progress:
    elapsed = time.monotonic() - started
    return Progress(
        epoch=done,
        epochs=fits,
        done=done / fits,
        windows_per_s=0.0,
        remaining_s=elapsed / done * (fits - done),
    )


def _quiet() -> None:
    """cmdstanpy announces every start and end of a chain; its logger resets itself on first use."""
    from cmdstanpy.utils import get_logger

    get_logger()
    for name in ("cmdstanpy", "prophet"):
        logging.getLogger(name).setLevel(logging.WARNING)
