"""Requests that arrive together are forecast together: one call of the model for all of them.

A forecast is put off to the end of the event loop's turn; whatever came in until then and asks the same
champion for as many steps on the same grid goes through the net as one batch. Nobody waits for company.
"""

from __future__ import annotations

import asyncio

import numpy as np
import numpy.typing as npt

from flts_assets.forecasting.forecaster import Forecaster
from flts_assets.serving.requests import Series

__all__ = ["Batcher"]

Floats = npt.NDArray[np.float64]
_Key = tuple[int, int, int]


class Batcher:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[_Key, list[tuple[Forecaster, Series, asyncio.Future[Floats]]]] = {}

    async def forecast(self, forecaster: Forecaster, series: Series, steps: int) -> Floats:
        """`forecast_after` of the series' last rows: raw units [steps, T]."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._run)
        answer: asyncio.Future[Floats] = loop.create_future()
        key = (id(forecaster), steps, series.step_ns)
        self._waiting.setdefault(key, []).append((forecaster, series, answer))
        return await answer

    def _run(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for (_, steps, _), asked in waiting.items():
            forecaster = asked[0][0]
            last = slice(-forecaster.rows_needed, None)
            try:
                forecasts = forecaster.forecast_after(
                    np.stack([series.values[last] for _, series, _ in asked]),
                    np.stack([series.times[last] for _, series, _ in asked]),
                    steps,
                )
            except Exception as error:
                for _, _, answer in asked:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for (_, _, answer), forecast in zip(asked, forecasts, strict=True):
                if not answer.done():
                    answer.set_result(forecast)
