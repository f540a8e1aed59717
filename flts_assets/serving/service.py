"""What the routes share, and the one way from checked requests to their answers."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Final

from flts_assets.logs import EventLog
from flts_assets.serving.answers import answer, champion_for, check, response
from flts_assets.serving.batching import Batcher
from flts_assets.serving.champions import Champions
from flts_assets.serving.limits import Gate
from flts_assets.serving.metrics import Metrics
from flts_assets.serving.prediction_log import PredictionLog
from flts_assets.serving.requests import Ask
from flts_assets.serving.settings import ServingSettings
from flts_assets.serving.workers import Workers

__all__ = ["Service"]

LONG: Final = 100
"""Requests of more steps, and batches, are worked off beside the event loop, one at a time."""


@dataclass(frozen=True)
class Service:
    """What the routes share."""

    settings: ServingSettings
    champions: Champions
    metrics: Metrics
    gate: Gate
    batcher: Batcher
    log: EventLog
    predictions: PredictionLog | None = None
    """None: forecasts are not logged"""
    workers: Workers | None = None
    """None: this is the only one"""

    async def answers(self, asks: list[Ask], batch: bool = False) -> list[dict[str, Any]]:
        """One response an ask. Raises what `champion_for` and `answer` raise."""
        if batch or asks[0].steps > LONG:
            async with self.gate.turn(sum(ask.steps for ask in asks)):
                return await asyncio.to_thread(self._answers, asks, batch)
        return [await self._answer_with_others(asks[0])]

    async def _answer_with_others(self, ask: Ask) -> dict[str, Any]:
        started = time.perf_counter()
        champion = champion_for(self.champions.served, ask.station, ask.config_hash)
        check(ask, champion)
        forecast = await self.batcher.forecast(champion.forecaster, ask.series, ask.steps)
        result = response(ask, champion, forecast)
        self._note([ask], [result], started)
        return result

    def _answers(self, asks: list[Ask], batch: bool) -> list[dict[str, Any]]:
        started = time.perf_counter()
        served = self.champions.served
        results = []
        for place, ask in enumerate(asks):
            where = f"batch[{place}]." if batch else ""
            champion = champion_for(served, ask.station, ask.config_hash, where)
            results.append(answer(ask, champion, where))
        self._note(asks, results, started)
        return results

    def _note(self, asks: list[Ask], results: list[dict[str, Any]], started: float) -> None:
        if self.predictions:
            self.predictions.add(asks, results, time.perf_counter() - started)
