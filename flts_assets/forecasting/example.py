"""A recorded forecast: the proof that a loaded model is the one that was saved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from flts_assets.errors import ArtifactError
from flts_assets.recipe.columns import RAW_COLUMNS, TIME_COLUMN

if TYPE_CHECKING:
    import pandas as pd

    from flts_assets.forecasting.forecaster import Forecaster

__all__ = ["check_example", "example_of"]

Floats = npt.NDArray[np.float64]

_REMEDY = "train the model again: flts run RECIPE --force"


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


def check_example(forecaster: Forecaster, example: bytes | None, tolerance: float = 1e-5) -> None:
    """Raises ArtifactError if the model no longer says what it said when it was saved.

    Also if that was not recorded (None), or cannot be read. `tolerance` is in units of each target's
    train range, as scores are.
    """
    if example is None:
        raise ArtifactError("a model has no recorded forecast to prove it", remedy=_REMEDY)
    try:
        raw, times, expected, ranges = _recorded(forecaster, example)
    except (ValueError, LookupError, TypeError) as error:
        raise ArtifactError(
            "a model's recorded forecast cannot be read",
            received=f"{type(error).__name__}: {error}",
            remedy=_REMEDY,
        ) from error
    received = forecaster.forecast_after(raw[None], times[None], len(expected))[0]
    difference = np.abs(received - expected) / ranges
    if not (difference <= tolerance).all():
        raise ArtifactError(
            "a loaded model does not reproduce its recorded forecast",
            received=received.tolist(),
            allowed=f"{expected.tolist()}, each within {tolerance} of its target's train range",
            remedy="compare the library versions in its manifest with the installed ones, or retrain",
        )


def _recorded(
    forecaster: Forecaster, example: bytes
) -> tuple[Floats, npt.NDArray[np.datetime64], Floats, Floats]:
    """Raw rows [R, 11] at times [R], the forecast [steps, T] after them, and ranges [T]."""
    recorded = json.loads(example)
    rows = recorded["rows"]
    raw = np.array([rows[name] for name in RAW_COLUMNS], dtype=np.float64).T
    times = np.array(rows[TIME_COLUMN], dtype="datetime64[ns]")
    expected = np.array(recorded["forecast"], dtype=np.float64)
    ranges = np.array(recorded["ranges"], dtype=np.float64)
    targets = len(forecaster.card.window.targets)
    if len(raw) < forecaster.rows_needed or len(times) != len(raw):
        raise ValueError(f"{len(raw)} rows at {len(times)} times")
    if expected.shape != (len(expected) or 1, targets) or ranges.shape != (targets,):
        raise ValueError(f"a forecast of shape {expected.shape} in ranges of shape {ranges.shape}")
    return raw, times, expected, ranges
