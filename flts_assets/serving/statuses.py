"""Which HTTP status an error is answered with."""

from __future__ import annotations

from typing import Final

from flts_assets.errors import InvalidKeyError, ObjectExistsError, ObjectNotFoundError, RawDataError
from flts_assets.serving.answers import NoChampionError, UnknownModelError
from flts_assets.serving.limits import BodyTooLargeError, OverloadedError
from flts_assets.serving.requests import RequestError
from flts_assets.serving.tokens import ForbiddenError, UnauthorizedError

__all__ = ["headers_of", "status_of"]

_STATUS: Final[dict[type[Exception], int]] = {
    RequestError: 422,
    RawDataError: 422,
    InvalidKeyError: 422,
    BodyTooLargeError: 413,
    UnauthorizedError: 401,
    ForbiddenError: 403,
    UnknownModelError: 404,
    ObjectNotFoundError: 404,
    ObjectExistsError: 409,
    NoChampionError: 503,
    OverloadedError: 503,
}


def status_of(error: Exception) -> int:
    """503 for what is nobody's request's fault."""
    return next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 503)


def headers_of(status: int) -> dict[str, str]:
    """What a client needs to know to try again."""
    if status == 401:
        return {"WWW-Authenticate": "Bearer"}
    return {"Retry-After": "1"} if status == 503 else {}
