"""A trained model as it is used: loaded from its files, forecasting in raw units.

Leaderboard, promotion and serving all go through here, so a model is served exactly as it was scored.
Neither torch nor a trainer is needed.

    model.json            what it is: type, window, columns
    model.onnx            GRU and LSTM (weights.safetensors holds the same weights)
    prophet.json          Prophet, one serialised model a target
    preprocessing.json    what was fitted on train rows
    example.json          rows and the forecast after them, to prove that a loaded model is the saved one
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict

from flts_assets.errors import ArtifactError, RawDataError
from flts_assets.forecasting.preprocessing import FittedPreprocessing
from flts_assets.forecasting.split import Split
from flts_assets.recipe.columns import RAW_COLUMNS, TIME_COLUMN
from flts_assets.recipe.model import ModelType, Window

__all__ = ["Forecaster", "ModelCard", "check_example", "example_of", "load_forecaster"]

Floats = npt.NDArray[np.float64]

MODEL_FILE: Final = "model.json"
ONNX_FILE: Final = "model.onnx"
PROPHET_FILE: Final = "prophet.json"
PREPROCESSING_FILE: Final = "preprocessing.json"
EXAMPLE_FILE: Final = "example.json"


class ModelCard(BaseModel):
    """What a set of model files is."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model_type: ModelType
    window: Window
    predict: Literal["level", "change"] = "level"
    """what a net's output is"""
    settings: dict[str, Any]
    """hyper-parameters, for people"""


class Forecaster(Protocol):
    """Forecasts of all targets for the rows after each cutoff."""

    @property
    def rows_needed(self) -> int:
        """How many rows `forecast_next` must see at least."""
        ...

    def forecast(self, split: Split) -> Floats:
        """Raw units [M, H, T], one for each window of the split."""
        ...

    def forecast_next(self, rows: pd.DataFrame) -> Floats:
        """Raw units [H, T] for the steps after the last of these raw rows (no empty cells).

        Raises RawDataError for fewer than `rows_needed` rows.
        """
        ...


def load_forecaster(files: Mapping[str, bytes], threads: int) -> Forecaster:
    """The model in `files` (name -> bytes), using at most so many threads."""
    card = ModelCard.model_validate_json(files[MODEL_FILE])
    if card.model_type == "PROPHET":
        return ProphetForecaster(json.loads(files[PROPHET_FILE]), card.window)
    preprocessing = FittedPreprocessing.model_validate_json(files[PREPROCESSING_FILE])
    return RecurrentForecaster(files[ONNX_FILE], preprocessing, card, threads)


class RecurrentForecaster:
    """A GRU or LSTM in ONNX Runtime."""

    chunk = 128
    """windows a call: small enough to stay in the cache, which runs faster a window"""

    def __init__(
        self, onnx: bytes, preprocessing: FittedPreprocessing, card: ModelCard, threads: int
    ) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            onnx, options, providers=["CPUExecutionProvider"]
        )
        self._preprocessing = preprocessing
        self._card = card

    @property
    def rows_needed(self) -> int:
        return self._card.window.size + self._preprocessing.rows_lost

    def forecast(self, split: Split) -> Floats:
        return self.forecast_windows(split.inputs())

    def forecast_next(self, rows: pd.DataFrame) -> Floats:
        _check_rows(rows, self.rows_needed)
        features = self._preprocessing.transform(rows.iloc[-self.rows_needed :])
        only: Floats = self.forecast_windows(features[None])[0]
        return only

    def forecast_windows(self, windows: npt.NDArray[np.float32]) -> Floats:
        """Raw units [M, H, T] of scaled windows [M, W, F]."""
        parts = [
            self._session.run(
                None, {"windows": np.ascontiguousarray(windows[start : start + self.chunk])}
            )[0]
            for start in range(0, len(windows), self.chunk)
        ]
        scaled = np.concatenate(parts)
        if self._card.predict == "change":
            scaled = scaled + windows[:, -1:, self._preprocessing.target_places]
        return self._preprocessing.inverse_targets(scaled)


class ProphetForecaster:
    """One Prophet a target."""

    def __init__(self, models: Mapping[str, Any], window: Window) -> None:
        self._models = models
        self._window = window

    @property
    def rows_needed(self) -> int:
        """Two rows tell the step of the grid."""
        return 2

    def forecast(self, split: Split) -> Floats:
        return self._at(split.target_times())

    def forecast_next(self, rows: pd.DataFrame) -> Floats:
        _check_rows(rows, self.rows_needed)
        times = rows.index.to_numpy()
        steps = np.arange(1, self._window.horizon + 1) * (times[-1] - times[-2])
        only: Floats = self._at((times[-1] + steps)[None])[0]
        return only

    def _at(self, times: npt.NDArray[np.datetime64]) -> Floats:
        from flts_assets.forecasting.prophet_model import prophet_forecasts

        targets = self._window.targets
        return prophet_forecasts({target: self._models[target] for target in targets}, times)


def example_of(forecaster: Forecaster, rows: pd.DataFrame, ranges: Sequence[float]) -> bytes:
    """A recorded forecast: the last rows the model needs, and what it says comes after them.

    `ranges`: each target's train range, the unit in which a later forecast may differ.
    """
    known = rows.ffill().fillna(0.0).iloc[-forecaster.rows_needed :]
    columns = {name: known[name].tolist() for name in RAW_COLUMNS}
    times = [moment.isoformat() for moment in known.index]
    forecast = forecaster.forecast_next(known).tolist()
    example = {
        "rows": {TIME_COLUMN: times, **columns},
        "forecast": forecast,
        "ranges": list(ranges),
    }
    return json.dumps(example).encode()


def check_example(forecaster: Forecaster, example: bytes, tolerance: float = 1e-5) -> None:
    """Raises ArtifactError if the model no longer says what it said when it was saved.

    `tolerance` is in units of each target's train range, as scores are.
    """
    recorded = json.loads(example)
    columns = dict(recorded["rows"])
    index = pd.DatetimeIndex(columns.pop(TIME_COLUMN), name=TIME_COLUMN)
    expected = np.array(recorded["forecast"])
    received = forecaster.forecast_next(pd.DataFrame(columns, index=index))
    difference = np.abs(received - expected) / np.array(recorded["ranges"])
    if not (difference <= tolerance).all():
        raise ArtifactError(
            "a loaded model does not reproduce its recorded forecast",
            received=received.tolist(),
            allowed=f"{expected.tolist()}, each within {tolerance} of its target's train range",
            remedy="compare the library versions in its manifest with the installed ones, or retrain",
        )


def _check_rows(rows: pd.DataFrame, needed: int) -> None:
    if len(rows) < needed:
        raise RawDataError(
            "the given rows",
            "are fewer than the model needs",
            received=len(rows),
            allowed=f"at least {needed}",
            remedy="send more history",
        )
