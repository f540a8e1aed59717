"""What a client is told of an error, and with which HTTP status."""

from __future__ import annotations

import json
import math
from typing import Final

import orjson
from starlette.responses import Response

from flts_assets.errors import (
    FltsError,
    InvalidKeyError,
    ObjectExistsError,
    ObjectNotFoundError,
    RawDataError,
)
from flts_assets.serving.answers import NoChampionError, UnknownModelError
from flts_assets.serving.limits import (
    BodyLateError,
    BodyTooLargeError,
    OverloadedError,
    StoppingError,
)
from flts_assets.serving.requests import RequestError
from flts_assets.serving.tokens import ForbiddenError, UnauthorizedError

__all__ = ["headers_of", "status_of", "told"]

_STATUS: Final[dict[type[Exception], int]] = {
    RequestError: 422,
    RawDataError: 422,
    InvalidKeyError: 422,
    BodyTooLargeError: 413,
    BodyLateError: 408,
    UnauthorizedError: 401,
    ForbiddenError: 403,
    UnknownModelError: 404,
    ObjectNotFoundError: 404,
    ObjectExistsError: 409,
    NoChampionError: 503,
    OverloadedError: 503,
    StoppingError: 503,
}


def status_of(error: Exception) -> int:
    """503 for what is nobody's request's fault."""
    return next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 503)


def headers_of(status: int) -> dict[str, str]:
    """What a client needs to know to try again."""
    if status == 401:
        return {"WWW-Authenticate": "Bearer"}
    return {"Retry-After": "1"} if status == 503 else {}


def _place_of(error: FltsError) -> str | None:
    """The field at fault; of a file its column, or else the file as such."""
    places = (getattr(error, name, None) for name in ("field", "column", "file"))
    return next((place for place in places if place is not None), None)


def _shown(value: object) -> object:
    """JSON has no word for numbers that are not finite."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def told(error: FltsError) -> Response:
    """What failed, what was received, what is allowed."""
    status = status_of(error)
    content = {
        "status": "ERROR",
        "error": {
            "kind": type(error).__name__,
            "message": error.told,
            "field": _place_of(error),
            "received": _shown(error.received),
            "allowed": error.allowed,
        },
    }
    try:
        body = orjson.dumps(content, default=repr)
    except TypeError:  # half a surrogate pair, which JSON can only escape
        body = json.dumps(content, default=repr).encode()
    return Response(body, status, headers_of(status), media_type="application/json")
