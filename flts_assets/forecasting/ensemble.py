"""A weighted mean of trained models: what their errors do not share cancels out."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from flts_assets.forecasting.dataset import Dataset
from flts_assets.forecasting.floors import floored_targets
from flts_assets.forecasting.forecaster import (
    ENSEMBLE_FILE,
    INTERVALS_FILE,
    MODEL_FILE,
    NETS_FILE,
    ONNX_FILE,
    PREPROCESSING_FILE,
    PROPHET_FILE,
    ModelCard,
    member_file,
)
from flts_assets.forecasting.intervals import Intervals, combined
from flts_assets.forecasting.split import Split, validation_windows
from flts_assets.forecasting.training import (
    VALIDATION_FILE,
    TrainedModel,
    direct_intervals,
    finished_model,
)
from flts_assets.recipe.model import ModelType, Recipe

__all__ = ["convex_weights", "train_ensemble"]

Floats = npt.NDArray[np.float64]

LOADED = {MODEL_FILE, NETS_FILE, ONNX_FILE, PROPHET_FILE, PREPROCESSING_FILE}
"""The files of a member that its forecasts need."""


def train_ensemble(
    members: Mapping[ModelType, Mapping[str, bytes]],
    data: Dataset,
    measured: pd.DataFrame,
    recipe: Recipe,
    threads: int,
) -> TrainedModel:
    """Weigh trained models by `recipe.ensemble`; `members` maps each to its `TrainedModel.files`.

    The test split is not looked at. The ensemble's files hold its members whole.
    """
    started = time.monotonic()
    names = recipe.ensemble.members
    of_member = {name: np.load(io.BytesIO(members[name][VALIDATION_FILE])) for name in names}
    held_out = validation_windows(data.train, recipe.recurrent)
    if recipe.ensemble.weights == "equal":
        weights = dict.fromkeys(names, 1 / len(names))
    else:
        weights = convex_weights(of_member, held_out, data, recipe)
    forecasts: Floats = np.sum([weights[name] * of_member[name] for name in names], axis=0)
    card = ModelCard(
        model_type="ENSEMBLE",
        window=recipe.window,
        settings=recipe.ensemble.model_dump(),
        floored=floored_targets(data.train, recipe),
    )
    files = {
        MODEL_FILE: card.model_dump_json(indent=1).encode(),
        ENSEMBLE_FILE: json.dumps(weights, indent=1).encode(),
    }
    for name in names:
        for file in sorted(LOADED & members[name].keys()):
            files[member_file(name, file)] = members[name][file]
    intervals = combined(
        direct_intervals(forecasts, data.train, recipe),
        [
            (weights[name], Intervals.model_validate_json(members[name][INTERVALS_FILE]))
            for name in names
        ],
    )
    return finished_model(
        "ENSEMBLE",
        files,
        forecasts,
        intervals,
        data,
        measured,
        recipe,
        threads,
        fit_s=time.monotonic() - started,
    )


def convex_weights(
    forecasts: Mapping[ModelType, Floats], held_out: Split, data: Dataset, recipe: Recipe
) -> dict[ModelType, float]:
    """Weights of 0 or more that sum to 1, with the least squared error on the validation windows.

    Errors are in units of each evaluated target's train range. (Breiman 1996, "Stacked regressions".)
    """
    from scipy.optimize import nnls

    evaluated = recipe.evaluation.targets or recipe.window.targets
    places = [recipe.window.targets.index(target) for target in evaluated]
    unit = np.array(data.preprocessing.target_ranges)[places]
    actuals = (held_out.actuals()[..., places] / unit).ravel()
    columns = np.stack([(of[..., places] / unit).ravel() for of in forecasts.values()], axis=1)
    measured = np.isfinite(actuals)
    # Weights sum to 1: only their errors count, and the sum is one more, heavy, equation.
    errors = columns[measured] - actuals[measured, None]
    heavy = 1e3 * max(float(np.abs(errors).max()), 1e-12) * math.sqrt(len(errors))
    found, _ = nnls(
        np.vstack([errors, np.full(errors.shape[1], heavy)]),
        np.append(np.zeros(len(errors)), heavy),
    )
    return dict(zip(forecasts, (found / found.sum()).tolist(), strict=True))
