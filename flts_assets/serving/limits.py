"""How much work at once: requests in flight, and bytes of a body."""

from __future__ import annotations

import asyncio
from types import TracebackType

from starlette.requests import Request

from flts_assets.errors import FltsError

__all__ = ["BodyTooLargeError", "Gate", "OverloadedError", "body_of"]


class OverloadedError(FltsError):
    """More requests are in flight than the service takes on."""


class BodyTooLargeError(FltsError):
    """A body above the limit."""


class Gate:
    """Counts requests in flight; `long` lets one at a time work beside the event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.in_flight = 0
        self.long = asyncio.Semaphore(1)

    def __enter__(self) -> None:
        if self.in_flight >= self._most:
            raise OverloadedError(
                "too many requests in flight",
                received=self.in_flight,
                allowed=f"{self._most}",
                remedy="try again in a second, or start more workers",
            )
        self.in_flight += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.in_flight -= 1


async def body_of(request: Request, limit: int) -> bytes:
    """The whole body. Raises BodyTooLargeError as soon as that is known."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(int(declared), limit)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(size, limit)
        parts.append(part)
    return b"".join(parts)


def _too_large(size: int, limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(
        "the body is too large", received=size, allowed=f"{limit} bytes", remedy="send fewer rows"
    )
