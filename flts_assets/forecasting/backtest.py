"""Rolling-origin backtest on the train rows: how good would these models have been, again and again?

    rows      ─────────────────────────────────────► N        3 cutoffs, `step` rows apart
    1st       fitted on ████████▏ ■■■                         ■ windows that forecast the next `step` rows
    2nd       fitted on ███████████▏ ■■■
    3rd       fitted on ██████████████▏ ■■■

Preprocessing, models and baselines see only rows before their cutoff. All windows of a model are
forecast in one batch. Without refit the models of the first cutoff forecast everything after it.
Source: Hyndman & Athanasopoulos, "Forecasting: principles and practice", 3rd ed., section 5.10.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from flts_assets.errors import RawDataError
from flts_assets.forecasting import baselines
from flts_assets.forecasting.baselines import BASELINES
from flts_assets.forecasting.comparison import Errors
from flts_assets.forecasting.dataset import Dataset, dataset_at
from flts_assets.forecasting.ensemble import train_ensemble
from flts_assets.forecasting.forecaster import load_forecaster
from flts_assets.forecasting.progress import Progress
from flts_assets.forecasting.split import Split
from flts_assets.forecasting.training import train_model
from flts_assets.recipe.model import ModelType, Recipe

__all__ = ["BacktestReport", "backtest", "backtest_errors"]

Floats = npt.NDArray[np.float64]
BacktestReport = Callable[[int, ModelType, Progress], None]
"""Told the number of the cutoff, which model is trained, and how far that is."""


def backtest(
    measured: pd.DataFrame, recipe: Recipe, threads: int, report: BacktestReport
) -> pd.DataFrame:
    """One row a forecast value: station, model, target, cutoff, time, step (1..H), y, y_hat.

    `measured`: raw train rows [N, 11], sampled, NaN where a cell was empty. `cutoff` is the time of the
    last row before the block of windows, y is NaN where nothing was measured. Rows are in the order of
    model, time, step, target. Raises RawDataError for too few rows before the first cutoff.
    """
    blocks: dict[str, list[_Block]] = {}
    for block in _blocks(measured, recipe, threads, report):
        blocks.setdefault(block.model, []).append(block)
    return pd.concat(
        [_frame(block, recipe) for of_model in blocks.values() for block in of_model],
        ignore_index=True,
    )


def backtest_errors(frame: pd.DataFrame, recipe: Recipe) -> dict[str, Errors]:
    """Model or baseline -> what it forecast [M, H, T] in raw units, from a frame of `backtest`."""
    shape = (-1, recipe.window.horizon, len(recipe.window.targets))
    return {
        str(name): Errors(
            rows["y"].to_numpy().reshape(shape), rows["y_hat"].to_numpy().reshape(shape)
        )
        for name, rows in frame.groupby("model", sort=False, observed=True)
    }


@dataclass(frozen=True)
class _Block:
    """What one model forecast between two cutoffs."""

    model: str
    cutoff: np.datetime64
    windows: Split
    forecasts: Floats


def _blocks(
    measured: pd.DataFrame, recipe: Recipe, threads: int, report: BacktestReport
) -> Iterator[_Block]:
    settings = recipe.backtest
    cutoffs = [len(measured) - settings.step * ago for ago in range(settings.cutoffs, 0, -1)]
    if cutoffs[0] <= 0:
        raise RawDataError(
            recipe.data.train_file,
            "has too few rows for the backtest",
            received=len(measured),
            allowed=f"more than backtest.cutoffs * backtest.step = {settings.cutoffs * settings.step}",
            remedy="fewer cutoffs, a smaller step, or more rows",
        )
    one_fit = [(cutoffs[0], cutoffs)]
    fits = [(cutoff, [cutoff]) for cutoff in cutoffs] if settings.refit else one_fit
    for number, (fitted_to, forecast_from) in enumerate(fits, start=1):
        rows = settings.step * len(forecast_from)
        try:
            data, known = dataset_at(measured, fitted_to, rows, recipe)
        except RawDataError as error:
            moment = measured.index[fitted_to - 1]
            raise RawDataError(
                recipe.data.train_file,
                f"the backtest cannot begin at its cutoff after {moment}: {error.what}",
                received=error.received,
                allowed=error.allowed,
                remedy="fewer cutoffs or a smaller step",
            ) from error

        def told(model: ModelType, progress: Progress, number: int = number) -> None:
            report(number, model, progress)

        for model, forecasts in _forecasts(data, known, recipe, threads, told):
            for place, cutoff in enumerate(forecast_from):
                part = slice(place * settings.step, (place + 1) * settings.step)
                yield _Block(
                    model,
                    measured.index.to_numpy()[cutoff - 1],
                    data.test.windows_in(part),
                    forecasts[part],
                )


def _forecasts(
    data: Dataset,
    known: pd.DataFrame,
    recipe: Recipe,
    threads: int,
    report: Callable[[ModelType, Progress], None],
) -> Iterator[tuple[str, Floats]]:
    for name in BASELINES:
        yield name, baselines.fitted(name, data, recipe)(data.test)
    files = {}
    for model in recipe.models:

        def told(progress: Progress, model: ModelType = model) -> None:
            report(model, progress)

        files[model] = train_model(model, data, known, recipe, threads, told).files
        yield model, load_forecaster(files[model], threads).forecast(data.test)
    if recipe.ensemble.members:
        ensemble = train_ensemble(files, data, known, recipe, threads)
        yield "ENSEMBLE", load_forecaster(ensemble.files, threads).forecast(data.test)


def _frame(block: _Block, recipe: Recipe) -> pd.DataFrame:
    actuals = block.windows.actuals()
    windows, horizon, targets = actuals.shape
    values = windows * horizon * targets
    return pd.DataFrame(
        {
            "station": pd.Categorical([recipe.station]).repeat(values),
            "model": pd.Categorical([block.model]).repeat(values),
            "target": np.tile(recipe.window.targets, windows * horizon),
            "cutoff": np.repeat(block.cutoff, values),
            "time": block.windows.target_times().repeat(targets),
            "step": np.tile(np.arange(1, horizon + 1).repeat(targets), windows),
            "y": actuals.ravel(),
            "y_hat": block.forecasts.ravel(),
        }
    )
