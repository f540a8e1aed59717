"""From a checked request to the forecast that answers it: the one way from rows to values."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from flts_assets.errors import FltsError
from flts_assets.serving.champions import Champion, Served
from flts_assets.serving.requests import Ask, RequestError

__all__ = [
    "NoChampionError",
    "UnknownModelError",
    "answer",
    "champion_for",
    "check",
    "response",
]

Floats = npt.NDArray[np.float64]

SUCCESS: Final = "SUCCESS"


class NoChampionError(FltsError):
    """Nothing was promoted yet, or nothing that may be served."""


class UnknownModelError(FltsError):
    """A request names a station or config hash without a champion; `field` is where it does."""

    def __init__(self, field: str, what: str, *, received: str, allowed: str) -> None:
        self.field = field
        super().__init__(f"{field}: {what}", received=received[:200], allowed=allowed)


def champion_for(
    served: Served, station: str | None, config_hash: str | None, where: str = ""
) -> Champion:
    """Who answers. Raises UnknownModelError for a name nobody has, NoChampionError for none at all."""
    if not served.by_hash:
        raise NoChampionError(
            "no champion is served",
            remedy="promote a model (flts run RECIPE); /readyz tells which pointers are refused",
        )
    if config_hash is not None:
        champion = served.by_hash.get(config_hash)
        if champion is None:
            raise UnknownModelError(
                f"{where}config_hash",
                "no champion of this config_hash",
                received=config_hash,
                allowed=", ".join(served.by_hash),
            )
        if station not in (None, champion.station):
            raise UnknownModelError(
                f"{where}station",
                "the champion of this config_hash is another station's",
                received=str(station),
                allowed=champion.station,
            )
        return champion
    if station is not None:
        champion = served.of_station(station)
        if champion is None:
            raise UnknownModelError(
                f"{where}station",
                "no champion of this station",
                received=station,
                allowed=", ".join(sorted({one.station for one in served.by_hash.values()})),
            )
        return champion
    champion = served.newest
    assert champion is not None
    return champion


def answer(ask: Ask, champion: Champion, where: str = "") -> dict[str, Any]:
    """The forecast and the response it goes into.

    Raises RequestError: fewer rows than the model needs, or a level it has no interval for.
    """
    check(ask, champion, where)
    forecaster, series = champion.forecaster, ask.series
    last = slice(-forecaster.rows_needed, None)
    values = forecaster.forecast_after(
        series.values[None, last], series.times[None, last], ask.steps
    )
    return response(ask, champion, values[0])


def check(ask: Ask, champion: Champion, where: str = "") -> None:
    """Raises RequestError if the champion cannot answer."""
    forecaster = champion.forecaster
    rows = len(ask.series.times)
    if rows < forecaster.rows_needed:
        raise RequestError(
            f"{where}data",
            "fewer rows than the model needs",
            received=rows,
            allowed=f"at least {forecaster.rows_needed}",
        )
    most = ask.series.most_steps() - forecaster.card.window.horizon
    if ask.steps > most:
        raise RequestError(
            f"{where}inference_length",
            "forecasts end before the year 2200",
            received=ask.steps,
            allowed=f"at most {most} steps after these times",
        )
    for level in ask.levels:
        if level not in forecaster.levels:
            raise RequestError(
                f"{where}levels",
                "the champion has no interval of this level",
                received=level,
                allowed=", ".join(f"{one:g}" for one in forecaster.levels) or "none",
            )


def response(ask: Ask, champion: Champion, values: Floats) -> dict[str, Any]:
    """The predecessor's shape: one prediction a step, of forecasts [steps, T]; lo and hi where asked."""
    forecaster = champion.forecaster
    columns: dict[str, list[float]] = {
        target: values[:, place].tolist()
        for place, target in enumerate(forecaster.card.window.targets)
    }
    if ask.levels:
        columns |= _bands(ask, champion, values)
    moments = _as_text(ask.times)
    names = ("ts", *columns)
    promotion = champion.promotion
    return {
        "status": SUCCESS,
        "identifier": promotion.identifier,
        "run_id": promotion.run_id,
        "model_type": promotion.model_type,
        "config_hash": promotion.config_hash,
        "station": champion.station,
        "predictions": [
            dict(zip(names, row, strict=True))
            for row in zip(moments, *columns.values(), strict=True)
        ],
    }


def _as_text(times: npt.NDArray[np.datetime64]) -> list[str]:
    """ISO 8601, of seconds where all are whole."""
    whole = not (times.view(np.int64) % 1_000_000_000).any()
    texts: list[str] = np.datetime_as_string(times, unit="s" if whole else "us").tolist()
    return texts


def _bands(ask: Ask, champion: Champion, values: Floats) -> dict[str, list[float]]:
    bands = champion.forecaster.bands_after(ask.series.values, ask.series.times, values)
    return {
        f"{target}-{end}-{100 * level:g}": values[:, place].tolist()
        for level in ask.levels
        for place, target in enumerate(champion.forecaster.card.window.targets)
        for end, values in (("lo", bands[level].lower), ("hi", bands[level].upper))
    }
