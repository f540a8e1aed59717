"""The model as MLflow serves it: `mlflow models serve -m models:/NAME@champion --env-manager local`.

MLflow's python_function flavor names this module as its loader, so nothing is pickled: the files of a
saved model are loaded as they are everywhere else. A request holds the column `time` and the eleven raw
columns, one row a grid step; its answer one row a step after the last: `ts` and the targets in raw units.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from flts_assets.errors import RawDataError
from flts_assets.forecasting.forecaster import Forecaster, load_forecaster
from flts_assets.recipe.columns import RAW_COLUMNS, TIME_COLUMN

__all__ = ["ServedModel"]


class ServedModel:
    """What MLflow calls."""

    def __init__(self, forecaster: Forecaster) -> None:
        self._forecaster = forecaster

    def predict(self, rows: pd.DataFrame, params: Mapping[str, int] | None = None) -> pd.DataFrame:
        """ts and targets [steps]; `params`: inference_length, the number of steps (default 1).

        Raises RawDataError for a missing column or fewer rows than the model needs.
        """
        missing = [name for name in (TIME_COLUMN, *RAW_COLUMNS) if name not in rows]
        if missing:
            raise RawDataError("the request", "lacks columns", received=missing)
        known = rows.assign(**{TIME_COLUMN: pd.to_datetime(rows[TIME_COLUMN])})
        known = known.set_index(TIME_COLUMN).astype(float)
        steps = int((params or {}).get("inference_length", 1))
        forecast = self._forecaster.forecast_next(known, steps)
        grid = known.index[-1] - known.index[-2]
        times = [known.index[-1] + step * grid for step in range(1, steps + 1)]
        targets = self._forecaster.card.window.targets
        answer = pd.DataFrame(forecast, columns=list(targets))
        answer.insert(0, "ts", [moment.isoformat() for moment in times])
        return answer


def _load_pyfunc(path: str) -> ServedModel:
    """MLflow's entry point: the folder of a saved model."""
    files = {file.name: file.read_bytes() for file in Path(path).iterdir() if file.is_file()}
    return ServedModel(load_forecaster(files, threads=1))
