"""Training any kind of model to one and the same outcome: files that forecast, and how it went."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from flts_assets.forecasting.dataset import Dataset
from flts_assets.forecasting.forecaster import (
    EXAMPLE_FILE,
    MODEL_FILE,
    ONNX_FILE,
    PREPROCESSING_FILE,
    PROPHET_FILE,
    ModelCard,
    example_of,
    load_forecaster,
)
from flts_assets.forecasting.metrics import Scores, score
from flts_assets.forecasting.plots import forecast_picture, loss_picture
from flts_assets.forecasting.progress import Epoch, Report
from flts_assets.forecasting.split import FitAndValidation
from flts_assets.recipe.model import ModelType, Recipe

__all__ = ["LOSS_PICTURE", "VALIDATION_PICTURE", "TrainedModel", "train_model"]

Floats = npt.NDArray[np.float64]

WEIGHTS_FILE = "weights.safetensors"
TRAINING_FILE = "training.json"
LOSS_PICTURE = "loss.png"
VALIDATION_PICTURE = "validation.png"


@dataclass(frozen=True)
class TrainedModel:
    """What training leaves."""

    model: Mapping[str, bytes]
    """files that forecast; equal training gives equal bytes"""
    descriptions: Mapping[str, bytes]
    """files that tell how it went: losses, times, pictures"""
    validation: Scores
    """of the kept weights, on the last part of the train windows"""
    epochs: tuple[Epoch, ...]
    """empty for models without epochs"""
    best_epoch: int | None
    fit_s: float

    @property
    def files(self) -> dict[str, bytes]:
        return {**self.model, **self.descriptions}


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
    the training stands at least at the end of each epoch. Raises TrainingError.
    """
    train: Callable[..., _Fitted] = _train_prophet if model_type == "PROPHET" else _train_net
    fitted = train(model_type, data, recipe, threads, report)
    split = data.train
    first = FitAndValidation.of(split.windows, recipe.window, recipe.recurrent).validation_start
    model = dict(fitted.files)
    forecasts = fitted.validation_forecasts
    if forecasts is None:
        # What is scored is what was saved, through the code that will serve it.
        forecasts = load_forecaster(model, threads).forecast(split)[first:]
    actuals = split.actuals()[first:]
    fit = data.preprocessing
    validation = score(
        actuals, forecasts, fit.targets, fit.target_ranges, recipe.evaluation.targets
    )
    model[EXAMPLE_FILE] = example_of(load_forecaster(model, threads), measured, fit.target_ranges)
    descriptions = {}
    descriptions[TRAINING_FILE] = json.dumps(
        {
            "epochs": [asdict(epoch) for epoch in fitted.epochs],
            "best_epoch": fitted.best_epoch,
            "validation": validation.model_dump(),
            "threads": threads,
        },
        indent=1,
    ).encode()
    descriptions[VALIDATION_PICTURE] = forecast_picture(
        split.target_times()[first:, 0],
        actuals[:, 0, 0],
        {model_type: forecasts[:, 0, 0]},
        fit.targets[0],
        f"{model_type} on validation rows, one step ahead",
    )
    if fitted.best_epoch is not None:
        descriptions[LOSS_PICTURE] = loss_picture(fitted.epochs, fitted.best_epoch)
    return TrainedModel(
        model, descriptions, validation, fitted.epochs, fitted.best_epoch, fitted.fit_s
    )


@dataclass(frozen=True)
class _Fitted:
    files: Mapping[str, bytes]
    fit_s: float
    epochs: tuple[Epoch, ...] = ()
    best_epoch: int | None = None
    validation_forecasts: Floats | None = None
    """where the kept model may not be asked, because it saw the validation rows"""


def _train_net(
    model_type: ModelType, data: Dataset, recipe: Recipe, threads: int, report: Report
) -> _Fitted:
    from flts_assets.forecasting.recurrent import train_recurrent

    net = train_recurrent(
        model_type, data.train, data.preprocessing.target_places, recipe, threads, report
    )
    files = {
        **_described(model_type, data, recipe, recipe.recurrent.model_dump()),
        ONNX_FILE: net.onnx,
        WEIGHTS_FILE: net.weights,
    }
    return _Fitted(files, net.fit_s, net.epochs, net.best_epoch)


def _train_prophet(
    model_type: ModelType, data: Dataset, recipe: Recipe, threads: int, report: Report
) -> _Fitted:
    from flts_assets.forecasting.prophet_model import train_prophet

    prophet = train_prophet(data.train, recipe, report)
    files = {
        **_described(model_type, data, recipe, recipe.prophet.model_dump()),
        PROPHET_FILE: prophet.models,
    }
    return _Fitted(files, prophet.fit_s, validation_forecasts=prophet.validation_forecasts)


def _described(
    model_type: ModelType, data: Dataset, recipe: Recipe, settings: dict[str, Any]
) -> dict[str, bytes]:
    card = ModelCard(
        model_type=model_type,
        window=recipe.window,
        predict=recipe.recurrent.predict,
        settings=settings,
    )
    return {
        MODEL_FILE: card.model_dump_json(indent=1).encode(),
        PREPROCESSING_FILE: data.preprocessing.model_dump_json(indent=1).encode(),
    }
