"""What each kind of model does in its own way: the direct forecast of H steps, from its files.

`forecaster.py` says which files there are, and goes on from here to any number of steps and intervals.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from flts_assets.forecasting.floors import floors
from flts_assets.forecasting.net_kinds import NET_KINDS, NetKind
from flts_assets.forecasting.preprocessing import FittedPreprocessing
from flts_assets.forecasting.prophet_curve import ProphetCurve
from flts_assets.forecasting.split import Split
from flts_assets.forecasting.tree_features import tree_features
from flts_assets.recipe.columns import RawColumn
from flts_assets.recipe.model import CandidateType, ModelType, Window

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = ["Core", "ModelCard", "core_of", "member_file"]

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.datetime64]
_Float = TypeVar("_Float", np.float32, np.float64)

MODEL_FILE: Final = "model.json"
ONNX_FILE: Final = "model.onnx"
PROPHET_FILE: Final = "prophet.json"
NETS_FILE: Final = "nets.json"
ENSEMBLE_FILE: Final = "ensemble.json"
PREPROCESSING_FILE: Final = "preprocessing.json"

CHUNK: Final = 128
"""Windows a call of ONNX Runtime: small enough to stay in the cache, which runs faster a window."""
TREE_CHUNK: Final = 1_000
"""The same of trees, which are less particular."""


class ModelCard(BaseModel):
    """What a set of model files is."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model_type: CandidateType
    window: Window
    settings: dict[str, Any]
    """hyper-parameters, for people"""
    floored: tuple[RawColumn, ...] = ()
    """targets that are never forecast below 0: no train row of theirs was"""


class Core(Protocol):
    """What each kind of model does in its own way: the direct forecast of H steps."""

    rows_needed: int

    def of_split(self, split: Split) -> Floats:
        """Raw units [M, H, T], one for each window of the split."""
        ...

    def after(self, raw: Floats, times: Times) -> Floats:
        """Raw units [B, H, T] after raw rows [B, R, 11] at times [B, R + H]; R >= rows_needed."""
        ...


def member_file(member: ModelType, name: str) -> str:
    """What a member's file is called among an ensemble's."""
    return f"{member}.{name}"


def core_of(card: ModelCard, files: Mapping[str, bytes], threads: int) -> Core:
    """The core that these files (name -> bytes) hold."""
    core = _as_fitted(card, files, threads)
    return _Floored(core, card) if card.floored else core


def _as_fitted(card: ModelCard, files: Mapping[str, bytes], threads: int) -> Core:
    if card.model_type == "ENSEMBLE":
        return _Ensemble(files, threads)
    if card.model_type == "PROPHET":
        return _Prophet(files[PROPHET_FILE], card.window)
    preprocessing = FittedPreprocessing.model_validate_json(files[PREPROCESSING_FILE])
    if card.model_type == "TREES":
        return _Trees(files[ONNX_FILE], preprocessing, card.window, threads)
    kinds = NET_KINDS.validate_json(files[NETS_FILE])
    return _Recurrent(files[ONNX_FILE], kinds, preprocessing, card.window, threads)


class _Floored:
    """A core whose forecasts of some targets end at 0."""

    def __init__(self, core: Core, card: ModelCard) -> None:
        self._core = core
        self._floors = floors(card.window.targets, card.floored)
        self.rows_needed = core.rows_needed

    def of_split(self, split: Split) -> Floats:
        return np.maximum(self._core.of_split(split), self._floors)

    def after(self, raw: Floats, times: Times) -> Floats:
        return np.maximum(self._core.after(raw, times), self._floors)


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
        self._session = _session(onnx)
        self._threads = threads
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
        return _in_chunks(partial(self._of_chunk, windows), len(windows[0]), CHUNK, self._threads)

    def _of_chunk(self, windows: Sequence[npt.NDArray[np.float32]], where: slice) -> Floats:
        chunk = [np.ascontiguousarray(one[where]) for one in windows]
        (outputs,) = self._session.run(
            None, {f"windows_{place}": one for place, one in enumerate(chunk)}
        )
        members = outputs.shape[1] // len(self._kinds)
        mean: Floats = (
            sum(
                self._kinds[net // members].raw(outputs[:, net], chunk[net // members])
                for net in range(outputs.shape[1])
            )
            / outputs.shape[1]
        )
        return mean


class _Trees:
    """Gradient-boosted trees in ONNX Runtime."""

    def __init__(
        self, onnx: bytes, preprocessing: FittedPreprocessing, window: Window, threads: int
    ) -> None:
        self._session = _session(onnx)
        self._threads = threads
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
        changes = _in_chunks(
            partial(self._of_chunk, windows), len(windows), TREE_CHUNK, self._threads
        )
        shape = (len(windows), self._window.horizon, len(places))
        return self._preprocessing.inverse_targets(changes.reshape(shape) + windows[:, -1:, places])

    def _of_chunk(self, windows: npt.NDArray[np.float32], where: slice) -> npt.NDArray[np.float32]:
        targets = enumerate(self._preprocessing.target_places)
        seen = {f"features_{n}": tree_features(windows[where], place) for n, place in targets}
        changes: npt.NDArray[np.float32] = self._session.run(None, seen)[0]
        return changes


def _in_chunks(
    forecast: Callable[[slice], npt.NDArray[_Float]], windows: int, size: int, threads: int
) -> npt.NDArray[_Float]:
    """All windows' forecasts. Threads share out the chunks, so their number changes no bit.

    ONNX Runtime's own threads would wait for each other at every step of every net.
    """
    chunks = [slice(start, start + size) for start in range(0, windows, size)]
    if len(chunks) == 1 or threads == 1:
        return np.concatenate([forecast(chunk) for chunk in chunks])
    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(forecast, chunks)))


def _session(onnx: bytes) -> InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
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
        self._members: list[tuple[float, Core]] = []
        for member, weight in json.loads(files[ENSEMBLE_FILE]).items():
            prefix = member_file(member, "")
            own = {
                name.removeprefix(prefix): files[name] for name in files if name.startswith(prefix)
            }
            card = ModelCard.model_validate_json(own[MODEL_FILE])
            self._members.append((weight, core_of(card, own, threads)))
        self.rows_needed = max(core.rows_needed for _, core in self._members)

    def of_split(self, split: Split) -> Floats:
        return _sum(weight * core.of_split(split) for weight, core in self._members)

    def after(self, raw: Floats, times: Times) -> Floats:
        return _sum(weight * core.after(raw, times) for weight, core in self._members)


def _sum(parts: Iterable[Floats]) -> Floats:
    total: Floats = np.sum(list(parts), axis=0)
    return total
