"""A trained model as it is used: loaded from its files, forecasting in raw units.

Leaderboard, promotion and serving all go through here, so a model is served exactly as it was scored.
Neither torch nor a trainer is needed.

    model.json            what it is: type, window, columns
    model.onnx            GRU, LSTM and TREES (weights.safetensors holds the same weights of nets)
    nets.json             GRU and LSTM: the kinds of nets they are averaged from
    prophet.json          Prophet, one curve a target
    ensemble.json         an ensemble's weights; its members' files stand beside it as GRU.model.onnx, …
    preprocessing.json    what was fitted on train rows
    intervals.json        how wide the prediction intervals are
    example.json          rows and the forecast after them, to prove that a loaded model is the saved one

A forecast is direct for the horizon H of the recipe. For more steps it is recursive: forecast targets
count as measured, the other columns keep their last value, and calendar columns are those of the time
that is forecast. Prophet needs no recursion; it knows time alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from flts_assets.errors import ArtifactError, RawDataError
from flts_assets.forecasting.intervals import RECENT, Band, Intervals, known_scores
from flts_assets.forecasting.net_kinds import NET_KINDS, NetKind
from flts_assets.forecasting.preprocessing import FittedPreprocessing
from flts_assets.forecasting.prophet_curve import ProphetCurve
from flts_assets.forecasting.split import Split
from flts_assets.forecasting.tree_features import tree_features
from flts_assets.recipe.columns import RAW_COLUMNS, TIME_COLUMN
from flts_assets.recipe.model import CandidateType, ModelType, Window

if TYPE_CHECKING:
    import pandas as pd
    from onnxruntime import InferenceSession

__all__ = [
    "Forecaster",
    "ModelCard",
    "check_example",
    "example_of",
    "load_forecaster",
    "member_file",
]

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.datetime64]

MODEL_FILE: Final = "model.json"
ONNX_FILE: Final = "model.onnx"
PROPHET_FILE: Final = "prophet.json"
NETS_FILE: Final = "nets.json"
ENSEMBLE_FILE: Final = "ensemble.json"
PREPROCESSING_FILE: Final = "preprocessing.json"
INTERVALS_FILE: Final = "intervals.json"
EXAMPLE_FILE: Final = "example.json"

SCORES_AT_ONCE: Final = 4_000_000
"""Known errors of forecasts that are laid out and sorted together (32 MB)."""


class ModelCard(BaseModel):
    """What a set of model files is."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model_type: CandidateType
    window: Window
    settings: dict[str, Any]
    """hyper-parameters, for people"""


class _Core(Protocol):
    """What each kind of model does in its own way: the direct forecast of H steps."""

    rows_needed: int

    def of_split(self, split: Split) -> Floats:
        """Raw units [M, H, T], one for each window of the split."""
        ...

    def after(self, raw: Floats, times: Times) -> Floats:
        """Raw units [B, H, T] after raw rows [B, R, 11] at times [B, R + H]; R >= rows_needed."""
        ...


class Forecaster:
    """A loaded model: forecasts of all its targets, and how sure they are."""

    def __init__(self, card: ModelCard, core: _Core, intervals: Intervals | None) -> None:
        self.card = card
        self._core = core
        self._intervals = intervals
        self._target_places = [RAW_COLUMNS.index(target) for target in card.window.targets]

    @property
    def rows_needed(self) -> int:
        """How many rows `forecast_next` must see at least. Two tell the step of the grid."""
        return max(2, self._core.rows_needed, self.card.window.size)

    @property
    def levels(self) -> tuple[float, ...]:
        """Of the prediction intervals there are."""
        return () if self._intervals is None else self._intervals.levels

    def forecast(self, split: Split) -> Floats:
        """Raw units [M, H, T], one for each window of the split."""
        return self._core.of_split(split)

    def forecast_next(self, rows: pd.DataFrame, steps: int | None = None) -> Floats:
        """Raw units [steps, T] after the last of these raw rows (no empty cells); None: H steps.

        Raises RawDataError for fewer than `rows_needed` rows.
        """
        raw, times = self._last_rows(rows)
        only: Floats = self.forecast_after(
            raw[None], times[None], steps or self.card.window.horizon
        )[0]
        return only

    def forecast_after(self, raw: Floats, times: Times, steps: int) -> Floats:
        """Raw units [B, steps, T] after raw rows [B, R, 11] at regular times [B, R]; R >= rows_needed."""
        horizon = self.card.window.horizon
        ahead = np.arange(1, -(-steps // horizon) * horizon + 1) * (times[0, -1] - times[0, -2])
        times = np.concatenate([times, times[:, -1:] + ahead], axis=1)
        rows = raw.shape[1]
        parts = []
        for start in range(0, steps, horizon):
            part = self._core.after(raw, times[:, start : start + rows + horizon])
            parts.append(part)
            following = np.repeat(raw[:, -1:], horizon, axis=1)
            following[..., self._target_places] = part
            raw = np.concatenate([raw[:, horizon:], following], axis=1)[:, -rows:]
        return np.concatenate(parts, axis=1)[:, :steps]

    def bands(self, split: Split, forecasts: Floats) -> dict[float, Band]:
        """Level -> band around forecasts [M, H, T] of the split's windows, by what was known then."""
        if self._intervals is None:
            return {}
        windows = split.target_windows()
        scores = self._intervals.scores(windows, split.actuals(), forecasts)
        parts = []
        at_once = max(1, SCORES_AT_ONCE // (RECENT * scores[0].size))
        for first in range(0, len(windows), at_once):
            last = min(first + at_once, len(windows))
            known = known_scores(scores, first, last)
            parts.append(self._intervals.bands(windows[first:last], forecasts[first:last], known))
        return {
            level: Band(
                np.concatenate([part[level].lower for part in parts]),
                np.concatenate([part[level].upper for part in parts]),
            )
            for level in parts[0]
        }

    def bands_next(self, rows: pd.DataFrame, forecasts: Floats) -> dict[float, Band]:
        """Level -> band around forecasts [steps, T] after the last of these raw rows.

        Rows before the last window serve to look back on the model's recent errors: 100 of them suffice.
        """
        return self.bands_after(*self._values(rows), forecasts)

    def bands_after(self, raw: Floats, times: Times, forecasts: Floats) -> dict[float, Band]:
        """`bands_next` of raw rows [R, 11] at times [R]; R >= rows_needed."""
        if self._intervals is None:
            return {}
        looked_at = self.rows_needed + RECENT + self.card.window.horizon
        raw, times = raw[-looked_at:], times[-looked_at:]
        targets = raw[:, self._target_places]
        size = self.card.window.size
        before = np.lib.stride_tricks.sliding_window_view(targets, size, axis=0).transpose(0, 2, 1)
        recent = self._recent_scores(raw, times, before)
        bands = self._intervals.bands(before[-1:], forecasts[None], recent[:, : len(forecasts)])
        return {level: Band(band.lower[0], band.upper[0]) for level, band in bands.items()}

    def _recent_scores(self, raw: Floats, times: Times, before: Floats) -> Floats:
        """What `bands_after` can look back on: [1, H, RECENT, T]."""
        horizon, needed = self.card.window.horizon, self.rows_needed
        recent = np.full((1, horizon, RECENT, len(self._target_places)), np.nan)
        origins = len(raw) - needed
        if origins < 1:
            return recent
        windows = np.lib.stride_tricks.sliding_window_view(raw, needed, axis=0)[:origins]
        ends = np.lib.stride_tricks.sliding_window_view(times, needed)[:origins]
        forecasts = self.forecast_after(windows.transpose(0, 2, 1), ends, horizon)
        # What follows each window, NaN where that has not come yet.
        ahead = np.full((horizon, raw.shape[1]), np.nan)
        following = np.lib.stride_tricks.sliding_window_view(
            np.concatenate([raw[needed:], ahead]), horizon, axis=0
        )[:origins]
        actuals = following.transpose(0, 2, 1)[..., self._target_places]
        assert self._intervals is not None
        first = len(before) - 1 - origins
        scores = self._intervals.scores(before[first:-1], actuals, forecasts)
        for lead in range(horizon):
            known = scores[: max(0, origins - lead), lead][-RECENT:]
            recent[0, lead, RECENT - len(known) :] = known
        return recent

    def _last_rows(self, rows: pd.DataFrame) -> tuple[Floats, Times]:
        if len(rows) < self.rows_needed:
            raise RawDataError(
                "the given rows",
                "are fewer than the model needs",
                received=len(rows),
                allowed=f"at least {self.rows_needed}",
                remedy="send more history",
            )
        return self._values(rows.iloc[-self.rows_needed :])

    def _values(self, rows: pd.DataFrame) -> tuple[Floats, Times]:
        return rows[list(RAW_COLUMNS)].to_numpy(dtype=np.float64), rows.index.to_numpy()


def load_forecaster(files: Mapping[str, bytes], threads: int) -> Forecaster:
    """The model in `files` (name -> bytes), using at most so many threads.

    Raises ArtifactError for files that are no model, or one of another version's format.
    """
    try:
        card = ModelCard.model_validate_json(files[MODEL_FILE])
        intervals = files.get(INTERVALS_FILE)
        return Forecaster(
            card,
            _core(card, files, threads),
            None if intervals is None else Intervals.model_validate_json(intervals),
        )
    except Exception as error:  # JSON, pydantic and ONNX Runtime each raise their own
        raise ArtifactError(
            "a model's files cannot be loaded",
            received=f"{type(error).__name__}: {error}",
            remedy="train the model again with this version: flts run RECIPE --force",
        ) from error


def member_file(member: ModelType, name: str) -> str:
    """What a member's file is called among an ensemble's."""
    return f"{member}.{name}"


def _core(card: ModelCard, files: Mapping[str, bytes], threads: int) -> _Core:
    if card.model_type == "ENSEMBLE":
        return _Ensemble(files, threads)
    if card.model_type == "PROPHET":
        return _Prophet(files[PROPHET_FILE], card.window)
    preprocessing = FittedPreprocessing.model_validate_json(files[PREPROCESSING_FILE])
    if card.model_type == "TREES":
        return _Trees(files[ONNX_FILE], preprocessing, card.window, threads)
    kinds = NET_KINDS.validate_json(files[NETS_FILE])
    return _Recurrent(files[ONNX_FILE], kinds, preprocessing, card.window, threads)


TREE_CHUNK: Final = 10_000
CHUNK: Final = 128
"""Windows a call of ONNX Runtime: small enough to stay in the cache, which runs faster a window."""


class _Recurrent:
    """GRUs or LSTMs in ONNX Runtime: the mean of all nets in raw units."""

    def __init__(
        self,
        onnx: bytes,
        kinds: Sequence[NetKind],
        preprocessing: FittedPreprocessing,
        window: Window,
        threads: int,
    ) -> None:
        self._session = _session(onnx, threads)
        self._kinds = kinds
        self._preprocessing = preprocessing
        self._window = window
        self.rows_needed = window.size + preprocessing.rows_lost

    def of_split(self, split: Split) -> Floats:
        scaled = [
            replace(split, features=kind.features(split, self._preprocessing)).inputs()
            for kind in self._kinds
        ]
        return self._of_windows(scaled)

    def after(self, raw: Floats, times: Times) -> Floats:
        seen = _last(raw, times, self.rows_needed, self._window.horizon)
        return self._of_windows(
            [kind.preprocessing.transform_values(*seen) for kind in self._kinds]
        )

    def _of_windows(self, windows: Sequence[npt.NDArray[np.float32]]) -> Floats:
        """Raw units [M, H, T] of scaled windows [M, W, F], one array for each kind of net."""
        parts = []
        for start in range(0, len(windows[0]), CHUNK):
            chunk = [np.ascontiguousarray(one[start : start + CHUNK]) for one in windows]
            (outputs,) = self._session.run(
                None, {f"windows_{place}": one for place, one in enumerate(chunk)}
            )
            members = outputs.shape[1] // len(self._kinds)
            parts.append(
                sum(
                    self._kinds[net // members].raw(outputs[:, net], chunk[net // members])
                    for net in range(outputs.shape[1])
                )
                / outputs.shape[1]
            )
        return np.concatenate(parts)


class _Trees:
    """Gradient-boosted trees in ONNX Runtime."""

    def __init__(
        self, onnx: bytes, preprocessing: FittedPreprocessing, window: Window, threads: int
    ) -> None:
        self._session = _session(onnx, threads)
        self._preprocessing = preprocessing
        self._window = window
        self.rows_needed = window.size + preprocessing.rows_lost

    def of_split(self, split: Split) -> Floats:
        return self._of_windows(split.inputs())

    def after(self, raw: Floats, times: Times) -> Floats:
        seen = _last(raw, times, self.rows_needed, self._window.horizon)
        return self._of_windows(self._preprocessing.transform_values(*seen))

    def _of_windows(self, windows: npt.NDArray[np.float32]) -> Floats:
        places = self._preprocessing.target_places
        parts = []
        for start in range(0, len(windows), TREE_CHUNK):
            chunk = windows[start : start + TREE_CHUNK]
            seen = {f"features_{n}": tree_features(chunk, at) for n, at in enumerate(places)}
            parts.append(self._session.run(None, seen)[0])
        changes = np.concatenate(parts)
        shape = (len(windows), self._window.horizon, len(places))
        return self._preprocessing.inverse_targets(changes.reshape(shape) + windows[:, -1:, places])


def _session(onnx: bytes, threads: int) -> InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


def _last(raw: Floats, times: Times, rows: int, horizon: int) -> tuple[Floats, Times]:
    """The last so many known rows: of values [B, R, 11] at times [B, R + horizon]."""
    return raw[:, -rows:], times[:, :-horizon][:, -rows:]


class _Prophet:
    """One curve a target."""

    rows_needed = 0

    def __init__(self, models: bytes, window: Window) -> None:
        curves = json.loads(models)
        self._curves = [ProphetCurve.model_validate(curves[target]) for target in window.targets]
        self._horizon = window.horizon

    def of_split(self, split: Split) -> Floats:
        return self._at(split.target_times())

    def after(self, raw: Floats, times: Times) -> Floats:
        return self._at(times[:, -self._horizon :])

    def _at(self, times: Times) -> Floats:
        return np.stack([curve.at(times) for curve in self._curves], axis=-1)


class _Ensemble:
    """The weighted mean of its members' forecasts."""

    def __init__(self, files: Mapping[str, bytes], threads: int) -> None:
        self._members: list[tuple[float, _Core]] = []
        for member, weight in json.loads(files[ENSEMBLE_FILE]).items():
            prefix = member_file(member, "")
            own = {
                name.removeprefix(prefix): files[name] for name in files if name.startswith(prefix)
            }
            card = ModelCard.model_validate_json(own[MODEL_FILE])
            self._members.append((weight, _core(card, own, threads)))
        self.rows_needed = max(core.rows_needed for _, core in self._members)

    def of_split(self, split: Split) -> Floats:
        return _sum(weight * core.of_split(split) for weight, core in self._members)

    def after(self, raw: Floats, times: Times) -> Floats:
        return _sum(weight * core.after(raw, times) for weight, core in self._members)


def _sum(parts: Iterable[Floats]) -> Floats:
    total: Floats = np.sum(list(parts), axis=0)
    return total


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
    rows = recorded["rows"]
    raw = np.array([rows[name] for name in RAW_COLUMNS], dtype=np.float64).T
    times = np.array(rows[TIME_COLUMN], dtype="datetime64[ns]")
    expected = np.array(recorded["forecast"])
    received = forecaster.forecast_after(raw[None], times[None], len(expected))[0]
    difference = np.abs(received - expected) / np.array(recorded["ranges"])
    if not (difference <= tolerance).all():
        raise ArtifactError(
            "a loaded model does not reproduce its recorded forecast",
            received=received.tolist(),
            allowed=f"{expected.tolist()}, each within {tolerance} of its target's train range",
            remedy="compare the library versions in its manifest with the installed ones, or retrain",
        )
