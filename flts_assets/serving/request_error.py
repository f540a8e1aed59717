"""What a request at fault is answered with."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from flts_assets.errors import FltsError

__all__ = ["RequestError", "check_known"]


class RequestError(FltsError):
    """A request that cannot be answered; `field` is where it is at fault."""

    def __init__(
        self, field: str, what: str, *, received: object = None, allowed: str | None = None
    ) -> None:
        self.field = field = _cut(field)
        super().__init__(f"{field}: {what}", received=_short(received), allowed=allowed)


def check_known(body: Mapping[Any, Any], where: str, fields: Sequence[str]) -> None:
    """Raises RequestError for a name that is not among the fields."""
    for name in body:
        if name not in fields:
            raise RequestError(f"{where}{name}", "unknown field", allowed=", ".join(fields))


def _short(value: object) -> object:
    """A value as an error may show it."""
    if value is None or isinstance(value, (bool, int, float)):
        return value if not isinstance(value, int) or -(2**63) <= value < 2**64 else "a huge number"
    return _cut(value if isinstance(value, str) else reprlib.repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"
