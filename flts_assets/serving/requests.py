"""What a client asks, checked value by value: every fault names its field, what came and what may.

Bodies are parsed by hand: a thousand small requests a second leave no time for anything slower, and
`schemas.py` says the same for the documentation. A test holds the two together.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import orjson

from flts_assets.forecasting.limits import MAX_STEPS
from flts_assets.recipe import RAW_COLUMNS
from flts_assets.serving.request_error import RequestError, check_known
from flts_assets.serving.series import Series, series_of

__all__ = [
    "Ask",
    "RequestError",
    "Series",
    "ask_of",
    "asked",
    "asks_in",
    "json_in",
    "options_in",
    "series_of",
    "shares_in",
]

MAX_BATCH: Final = 1_000
MAX_BATCH_STEPS: Final = 100_000
"""of all series together: they are answered at once, from memory"""
MOST_SEARCHED: Final = 200_000
"""Bytes. Others wait while a place is looked for: 0.05 s for the worst of so many."""
_NOT_FINITE: Final = re.compile(rb"NaN|Infinity|[eE]\+?[0-9]{3}")
"""what may stand for such a number"""


@dataclass(frozen=True)
class Ask:
    """One series to forecast."""

    series: Series
    steps: int
    levels: tuple[float, ...]
    station: str | None
    config_hash: str | None

    @cached_property
    def times(self) -> npt.NDArray[np.datetime64]:
        """When the forecasts are for: [steps]."""
        return self.series.times_ahead(self.steps)


def json_in(body: bytes) -> object:
    """Raises RequestError; at the place of a number that is not finite, unless the body is huge."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if len(body) <= MOST_SEARCHED and _NOT_FINITE.search(body):
            _refuse_not_finite(body)
        raise RequestError("body", f"is not JSON: {error}", allowed="a JSON object") from None


def _refuse_not_finite(body: bytes) -> None:
    """`NaN` and `Infinity` are no JSON, but what Python's own json writes, and reads."""
    try:
        found = _not_finite(json.loads(body))
    except (ValueError, RecursionError):
        return
    if found is not None:
        place, value = found
        raise RequestError(
            place.lstrip(".") or "body",
            "must be a finite number",
            received=json.dumps(value),
            allowed="numbers that JSON can write",
        )


def _not_finite(value: object) -> tuple[str, float] | None:
    """The first such number in it, and where, such as `.data.down[3]`."""
    if isinstance(value, float):
        return None if math.isfinite(value) else ("", value)
    if isinstance(value, dict):
        inner = ((f".{name}", one) for name, one in value.items())
    elif isinstance(value, list):
        inner = ((f"[{place}]", one) for place, one in enumerate(value))
    else:
        return None
    for step, one in inner:
        if (found := _not_finite(one)) is not None:
            return step + found[0], found[1]
    return None


_FIELDS: Final = ("index_col", "data", "inference_length", "levels", "station", "config_hash")


def asks_in(body: object) -> tuple[list[Ask], bool]:
    """Every series of a request, and whether it came as a batch. Raises RequestError."""
    if not isinstance(body, Mapping):
        raise RequestError("body", "must be a JSON object", received=body, allowed="{…}")
    if "batch" not in body:
        return [asked(body)], False
    check_known(body, "", ("batch",))
    batch = body["batch"]
    if not isinstance(batch, list) or not 1 <= len(batch) <= MAX_BATCH:
        raise RequestError(
            "batch", "must be a list of requests", received=batch, allowed=f"1 to {MAX_BATCH}"
        )
    asks = [asked(one, f"batch[{place}].") for place, one in enumerate(batch)]
    steps = sum(ask.steps for ask in asks)
    if steps > MAX_BATCH_STEPS:
        raise RequestError(
            "batch",
            "asks for too many steps, all series together",
            received=steps,
            allowed=f"at most {MAX_BATCH_STEPS}",
        )
    return asks, True


def asked(body: object, where: str = "") -> Ask:
    """One request's content. Raises RequestError; `where` is put before the names of its fields."""
    if not isinstance(body, Mapping):
        raise RequestError(where.rstrip(".") or "body", "must be a JSON object", received=body)
    check_known(body, where, _FIELDS)
    index = body.get("index_col", "time")
    if not isinstance(index, str) or index in RAW_COLUMNS:
        raise RequestError(
            f"{where}index_col", "must name the column of times", received=index, allowed="a name"
        )
    if "data" not in body:
        raise RequestError(f"{where}data", "is missing", allowed="columns, or a list of records")
    return ask_of(series_of(body["data"], index, f"{where}data"), body, where)


def ask_of(series: Series, options: Mapping[str, object], where: str = "") -> Ask:
    """What is asked about a series. Raises RequestError."""
    return Ask(
        series,
        steps=_steps(options.get("inference_length", 1), f"{where}inference_length"),
        levels=_levels(options.get("levels", ()), f"{where}levels"),
        station=_name(options.get("station"), f"{where}station"),
        config_hash=_name(options.get("config_hash"), f"{where}config_hash"),
    )


def options_in(query: Mapping[str, str]) -> dict[str, object]:
    """Options of `ask_of` from the text of a URL; levels as `0.5,0.9`. Raises RequestError."""
    check_known(query, "", _FIELDS[2:])
    options: dict[str, object] = dict(query)
    if re.fullmatch("[0-9]{1,9}", query.get("inference_length", "")):
        options["inference_length"] = int(query["inference_length"])
    if "levels" in query:
        options["levels"] = shares_in(query["levels"])
    return options


def shares_in(text: str) -> tuple[float, ...] | str:
    """The levels of a text such as `0.5,0.9`; the text itself where they are no numbers."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        return text


def _steps(value: object, where: str) -> int:
    if type(value) is not int or not 1 <= value <= MAX_STEPS:
        raise RequestError(
            where, "must be a whole number of steps", received=value, allowed=f"1 to {MAX_STEPS}"
        )
    return value


def _levels(value: object, where: str) -> tuple[float, ...]:
    if not isinstance(value, (list, tuple)) or not all(
        type(level) is float and 0 < level < 1 for level in value
    ):
        raise RequestError(
            where, "must be a list of shares", received=value, allowed="numbers between 0 and 1"
        )
    return tuple(dict.fromkeys(value))


def _name(value: object, where: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise RequestError(where, "must be a name", received=value, allowed="text")
    return value
