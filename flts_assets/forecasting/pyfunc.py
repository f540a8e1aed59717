"""The model as MLflow serves it: `mlflow models serve -m models:/NAME@champion --env-manager local`.

MLflow's python_function flavor names this module as its loader, so nothing is pickled: the files of a
saved model are loaded as they are everywhere else. A request holds the column `time` and the eleven raw
columns, one row a grid step; its answer one row a step after the last: `ts` and the targets in raw units.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pandas as pd

from flts_assets.errors import RawDataError
from flts_assets.forecasting.forecaster import Forecaster, load_forecaster
from flts_assets.forecasting.limits import LARGEST, MAX_STEPS
from flts_assets.forecasting.time_grid import check_times
from flts_assets.recipe.columns import RAW_COLUMNS, TIME_COLUMN

__all__ = ["ServedModel"]

REQUEST: Final = "the request"


class ServedModel:
    """What MLflow calls."""

    def __init__(self, forecaster: Forecaster) -> None:
        self._forecaster = forecaster

    def predict(self, rows: pd.DataFrame, params: Mapping[str, int] | None = None) -> pd.DataFrame:
        """ts and targets [steps]; `params`: inference_length, the number of steps (default 1).

        Raises RawDataError for a missing column, fewer rows than the model needs, times without a
        regular grid, cells that are no number from 0 to LARGEST, and steps other than 1 to MAX_STEPS.
        """
        known = _checked(rows)
        steps = int((params or {}).get("inference_length", 1))
        if not 1 <= steps <= MAX_STEPS:
            raise RawDataError(
                REQUEST,
                "inference_length is no number of steps",
                received=steps,
                allowed=f"1 to {MAX_STEPS}",
            )
        forecast = self._forecaster.forecast_next(known, steps)
        grid = known.index[-1] - known.index[-2]
        times = [known.index[-1] + step * grid for step in range(1, steps + 1)]
        targets = self._forecaster.card.window.targets
        answer = pd.DataFrame(forecast, columns=list(targets))
        answer.insert(0, "ts", [moment.isoformat() for moment in times])
        return answer


def _checked(rows: pd.DataFrame) -> pd.DataFrame:
    """The eleven columns as float64 [R, 11], indexed by time."""
    wanted = (TIME_COLUMN, *RAW_COLUMNS)
    missing = [name for name in wanted if name not in rows]
    if missing:
        raise RawDataError(REQUEST, "lacks columns", received=missing, allowed=", ".join(wanted))
    try:
        times = pd.DatetimeIndex(pd.to_datetime(rows[TIME_COLUMN]), name=TIME_COLUMN)
        known = rows[list(RAW_COLUMNS)].astype(float).set_axis(times, axis=0)
    except (ValueError, TypeError) as error:
        raise RawDataError(
            REQUEST,
            "holds what is no time or no number",
            received=str(error)[:200],
            allowed="ISO 8601 times and numbers",
        ) from error
    if times.hasnans or times.tz is not None:
        raise RawDataError(
            REQUEST, "a time is missing or has a zone", column=TIME_COLUMN, allowed="local times"
        )
    check_times(times, REQUEST)
    measured = ((known >= 0) & (known <= LARGEST)).all()  # NaN compares as false
    if not measured.all():
        raise RawDataError(
            REQUEST,
            "a cell is empty or no number that is measured",
            column=str(measured.idxmin()),
            allowed=f"0 to {LARGEST:g}",
        )
    return known


def _load_pyfunc(path: str) -> ServedModel:
    """MLflow's entry point: the folder of a saved model."""
    files = {file.name: file.read_bytes() for file in Path(path).iterdir() if file.is_file()}
    return ServedModel(load_forecaster(files, threads=1))
