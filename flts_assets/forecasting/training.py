"""Training any kind of model to one and the same outcome: files that forecast, and how it went."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from flts_assets.forecasting.dataset import Dataset
from flts_assets.forecasting.floors import floored_targets, floors
from flts_assets.forecasting.forecaster import (
    EXAMPLE_FILE,
    INTERVALS_FILE,
    MODEL_FILE,
    NETS_FILE,
    ONNX_FILE,
    PREPROCESSING_FILE,
    PROPHET_FILE,
    Forecaster,
    ModelCard,
    example_of,
    load_forecaster,
)
from flts_assets.forecasting.intervals import Intervals, floors_of, scores
from flts_assets.forecasting.metrics import Scores, score
from flts_assets.forecasting.net_kinds import NET_KINDS, net_kinds
from flts_assets.forecasting.plots import forecast_picture, loss_picture
from flts_assets.forecasting.progress import Epoch, Report, repeated
from flts_assets.forecasting.split import Split, validation_windows
from flts_assets.recipe.columns import RAW_COLUMNS
from flts_assets.recipe.model import CandidateType, ModelType, Recipe

__all__ = [
    "LOSS_PICTURE",
    "VALIDATION_FILE",
    "VALIDATION_PICTURE",
    "TrainedModel",
    "direct_intervals",
    "finished_model",
    "train_model",
    "training_pictures",
]

Floats = npt.NDArray[np.float64]

WEIGHTS_FILE = "weights.safetensors"
TRAINING_FILE = "training.json"
VALIDATION_FILE = "validation.npy"
LOSS_PICTURE = "loss.png"
VALIDATION_PICTURE = "validation.png"

RECURSIVE_STEPS = 60
"""Intervals of recursive forecasts are calibrated so far ahead; later steps keep the last width."""
RECURSIVE_ORIGINS = 128


@dataclass(frozen=True)
class TrainedModel:
    """What training leaves."""

    model: Mapping[str, bytes]
    """files that forecast, and what they forecast of the validation windows; equal training gives equal
    bytes"""
    descriptions: Mapping[str, bytes]
    """files that tell how it went: losses, times"""
    validation: Scores
    """on the last part of the train windows, by weights that were not fitted on them"""
    epochs: tuple[Epoch, ...]
    """empty for models without epochs"""
    best_epochs: tuple[int, ...]
    """one for each averaged net"""
    net_scores: tuple[float, ...]
    """the validation score of each averaged net alone, all seeds of one kind, then of the next"""
    seeds: int
    """how many nets of each kind"""
    fit_s: float

    @property
    def files(self) -> dict[str, bytes]:
        return {**self.model, **self.descriptions}

    @property
    def seed_spread(self) -> float | None:
        """Standard deviation of a net's validation score from seed to seed, pooled over kinds of nets;
        None without several seeds."""
        if self.seeds < 2 or not self.net_scores:
            return None
        of_kinds = np.reshape(self.net_scores, (-1, self.seeds))
        return float(np.sqrt(of_kinds.var(axis=1, ddof=1).mean()))


def train_model(
    model_type: ModelType,
    data: Dataset,
    measured: pd.DataFrame,
    recipe: Recipe,
    threads: int,
    report: Report,
) -> TrainedModel:
    """Fit a model on the train split. The test split is not looked at.

    `measured`: the raw train rows, from which the recorded example is taken. `report` is told where
    the training stands at least every two seconds. Raises TrainingError.
    """
    with repeated(report) as told:
        fitted = _TRAINERS[model_type](model_type, data, recipe, threads, told)
        # What is scored is what was saved, through the code that will serve it.
        validated = load_forecaster({**fitted.files, **fitted.validated}, threads)
        forecasts = validated.forecast(validation_windows(data.train, recipe.recurrent))
        return finished_model(
            model_type,
            fitted.files,
            forecasts,
            _calibrated(validated, forecasts, data.train, measured, recipe),
            data,
            measured,
            recipe,
            threads,
            epochs=fitted.epochs,
            best_epochs=fitted.best_epochs,
            net_forecasts=fitted.net_forecasts,
            fit_s=fitted.fit_s,
        )


def finished_model(
    model_type: CandidateType,
    files: Mapping[str, bytes],
    forecasts: Floats,
    intervals: Intervals,
    data: Dataset,
    measured: pd.DataFrame,
    recipe: Recipe,
    threads: int,
    *,
    fit_s: float,
    epochs: tuple[Epoch, ...] = (),
    best_epochs: tuple[int, ...] = (),
    net_forecasts: tuple[Floats, ...] = (),
) -> TrainedModel:
    """Fitted files with their score and example; `forecasts` are of the validation windows."""
    fit = data.preprocessing
    actuals = validation_windows(data.train, recipe.recurrent).actuals()

    def scored(of: Floats) -> Scores:
        return score(actuals, of, fit.targets, fit.target_ranges, recipe.evaluation.targets)

    validation = scored(forecasts)
    least = floors(fit.targets, floored_targets(data.train, recipe))
    net_scores = tuple(scored(np.maximum(one, least)).score for one in net_forecasts)
    model = {
        **files,
        INTERVALS_FILE: intervals.model_dump_json(indent=1).encode(),
        VALIDATION_FILE: _npy(forecasts),
    }
    model[EXAMPLE_FILE] = example_of(load_forecaster(model, threads), measured, fit.target_ranges)
    descriptions = {
        TRAINING_FILE: json.dumps(
            {
                "epochs": [asdict(epoch) for epoch in epochs],
                "best_epochs": best_epochs,
                "validation": validation.model_dump(),
                "net_scores": net_scores,
                "threads": threads,
            },
            indent=1,
        ).encode(),
    }
    seeds = recipe.recurrent.members if net_scores else 0
    return TrainedModel(
        model, descriptions, validation, epochs, best_epochs, net_scores, seeds, fit_s
    )


def training_pictures(
    model_type: CandidateType, trained: TrainedModel, data: Dataset, recipe: Recipe
) -> dict[str, bytes]:
    """PNGs: forecast and actual on the validation rows and, of nets, the losses."""
    held_out = validation_windows(data.train, recipe.recurrent)
    forecasts = np.load(io.BytesIO(trained.model[VALIDATION_FILE]))
    pictures = {
        VALIDATION_PICTURE: forecast_picture(
            held_out.target_times()[:, 0],
            held_out.actuals()[:, 0],
            {model_type: forecasts[:, 0]},
            data.preprocessing.targets,
            f"{model_type} on validation rows, one step ahead",
        )
    }
    if trained.epochs:
        pictures[LOSS_PICTURE] = loss_picture(
            trained.epochs, trained.best_epochs, recipe.recurrent.loss
        )
    return pictures


def direct_intervals(forecasts: Floats, train: Split, recipe: Recipe) -> Intervals:
    """Calibrated for the first H steps on forecasts of the validation windows."""
    floors = floors_of(train.target_windows())
    held_out = validation_windows(train, recipe.recurrent)
    of_windows = scores(held_out.target_windows(), held_out.actuals(), forecasts, floors)
    return Intervals.calibrated(
        recipe.intervals.levels, floors, list(np.moveaxis(of_windows, 1, 0))
    )


def _calibrated(
    validated: Forecaster, forecasts: Floats, train: Split, measured: pd.DataFrame, recipe: Recipe
) -> Intervals:
    """For the first H steps and, by recursion from some validation windows, for later ones."""
    direct = direct_intervals(forecasts, train, recipe)
    window = recipe.window
    held_out = validation_windows(train, recipe.recurrent)
    first = len(measured) - len(held_out) + window.size - 1
    grid = np.diff(measured.index.to_numpy())
    if (grid != grid[0]).any():
        # Rows were drawn or dropped: so many rows on are not so many steps on.
        return direct
    # Half of the rows are left for origins.
    steps = min(RECURSIVE_STEPS, (len(measured) - 1 - first) // 2)
    if steps <= window.horizon:
        return direct
    last = np.linspace(first, len(measured) - 1 - steps, RECURSIVE_ORIGINS, dtype=np.intp)
    seen = np.unique(last)[:, None] + np.arange(1 - validated.rows_needed, 1)
    ahead = seen[:, -1:] + np.arange(1, steps + 1)
    known = measured.ffill().fillna(0.0).to_numpy(dtype=np.float64)
    targets = [RAW_COLUMNS.index(target) for target in window.targets]
    recursive = validated.forecast_after(known[seen], measured.index.to_numpy()[seen], steps)
    of_leads = scores(
        known[seen][:, -window.size :, targets],
        measured.to_numpy(dtype=np.float64)[ahead][..., targets],
        recursive,
        np.array(direct.floors),
    )
    return direct.with_leads(list(np.moveaxis(of_leads, 1, 0))[window.horizon :])


@dataclass(frozen=True)
class _Fitted:
    files: Mapping[str, bytes]
    fit_s: float
    validated: Mapping[str, bytes]
    """in place of those in `files` while validating: the kept model may have seen validation rows"""
    epochs: tuple[Epoch, ...] = ()
    best_epochs: tuple[int, ...] = ()
    net_forecasts: tuple[Floats, ...] = ()
    """raw units, of each averaged net on the validation windows"""


def _train_net(
    model_type: ModelType, data: Dataset, recipe: Recipe, threads: int, report: Report
) -> _Fitted:
    from flts_assets.forecasting.recurrent import train_recurrent

    kinds = net_kinds(recipe, data.train, data.preprocessing)
    net = train_recurrent(model_type, data, kinds, recipe, threads, report)
    files = {
        NETS_FILE: NET_KINDS.dump_json(kinds, indent=1),
        **_described(model_type, data, recipe, recipe.recurrent.model_dump()),
        ONNX_FILE: net.onnx,
        WEIGHTS_FILE: net.weights,
    }
    return _Fitted(
        files,
        net.fit_s,
        validated={ONNX_FILE: net.validated_onnx},
        epochs=net.epochs,
        best_epochs=net.best_epochs,
        net_forecasts=net.net_forecasts,
    )


def _train_prophet(
    model_type: ModelType, data: Dataset, recipe: Recipe, threads: int, report: Report
) -> _Fitted:
    from flts_assets.forecasting.prophet_model import train_prophet

    prophet = train_prophet(data.train, recipe, report)
    files = {
        **_described(model_type, data, recipe, recipe.prophet.model_dump()),
        PROPHET_FILE: prophet.models,
    }
    return _Fitted(files, prophet.fit_s, validated={PROPHET_FILE: prophet.validated})


def _train_trees(
    model_type: ModelType, data: Dataset, recipe: Recipe, threads: int, report: Report
) -> _Fitted:
    from flts_assets.forecasting.trees import train_trees

    trees = train_trees(data.train, data.preprocessing.target_places, recipe, threads, report)
    files = {
        **_described(model_type, data, recipe, recipe.trees.model_dump()),
        ONNX_FILE: trees.onnx,
    }
    return _Fitted(files, trees.fit_s, validated={ONNX_FILE: trees.validated_onnx})


_TRAINERS: Final[Mapping[ModelType, Callable[..., _Fitted]]] = {
    "GRU": _train_net,
    "LSTM": _train_net,
    "PROPHET": _train_prophet,
    "TREES": _train_trees,
}


def _described(
    model_type: ModelType, data: Dataset, recipe: Recipe, settings: dict[str, Any]
) -> dict[str, bytes]:
    card = ModelCard(
        model_type=model_type,
        window=recipe.window,
        settings=settings,
        floored=floored_targets(data.train, recipe),
    )
    return {
        MODEL_FILE: card.model_dump_json(indent=1).encode(),
        PREPROCESSING_FILE: data.preprocessing.model_dump_json(indent=1).encode(),
    }


def _npy(values: Floats) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()
