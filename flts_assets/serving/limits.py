"""How much work at once: requests in flight, and bytes of a body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final

from starlette.requests import Request

from flts_assets.errors import FltsError
from flts_assets.serving.request_error import RequestError

__all__ = [
    "BodyLateError",
    "BodyTooLargeError",
    "Gate",
    "OverloadedError",
    "StoppingError",
    "body_of",
]

MOST_STEPS: Final = 100_000
"""Worked off in half a minute on an idle machine, the time that a closing service gives its requests."""
BODY_S: Final = 30.0
"""Who sends a head and no body holds one of the places for so long."""
DISCARDED: Final = 4
"""A body so many times too large is read to its end, and thrown away, before it is refused."""


class OverloadedError(FltsError):
    """More requests are in flight than the service takes on."""


class StoppingError(FltsError):
    """The service ends before it came to a request's answer."""


class BodyTooLargeError(FltsError):
    """A body above the limit."""

    field = "body"


class BodyLateError(FltsError):
    """A body that does not come."""

    field = "body"


class Gate:
    """Counts requests in flight; of those that take long, one at a time works beside the event loop."""

    def __init__(self, most: int, refused: Callable[[], object] = int) -> None:
        """`refused` is called whenever a request is."""
        self._most = most
        self._refused = refused
        self.in_flight = 0
        self._turn = asyncio.Semaphore(1)
        self._steps = 0

    @asynccontextmanager
    async def turn(self, steps: int = 0) -> AsyncIterator[None]:
        """Work of so many forecast steps has its turn. Raises OverloadedError where too many wait."""
        if self._steps and self._steps + steps > MOST_STEPS:
            self._refused()
            raise OverloadedError(
                "too many long forecasts wait for their turn",
                received=f"{steps} steps after {self._steps}",
                allowed=f"{MOST_STEPS} steps",
                remedy="try again later, ask for fewer steps, or start more workers",
            )
        self._steps += steps
        try:
            async with self._turn:
                yield
        finally:
            self._steps -= steps

    def __enter__(self) -> None:
        if self.in_flight >= self._most:
            self._refused()
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
    """The whole body.

    Raises BodyTooLargeError, BodyLateError if it takes more than BODY_S, RequestError if it is packed.
    """
    reading = asyncio.current_task()
    assert reading is not None
    is_late = False

    def stop() -> None:
        nonlocal is_late
        is_late = True
        reading.cancel()

    # As asyncio.timeout, which Python 3.10 lacks.
    timer = asyncio.get_running_loop().call_later(BODY_S, stop)
    try:
        return await _read(request, limit)
    except asyncio.CancelledError:
        if not is_late:
            raise
        raise BodyLateError(
            "the body did not come", allowed=f"{BODY_S:g} s", remedy="send it at once"
        ) from None
    finally:
        timer.cancel()


async def _read(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "")
    too_large = declared.isdecimal() and int(declared) > limit
    if too_large and (request.headers.get("expect") or int(declared) > DISCARDED * limit):
        raise _too_large(int(declared), limit)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size <= limit:
            parts.append(part)
            continue
        # Most clients send all before they read: one that is cut off in the middle sees no answer.
        parts.clear()
        if size > DISCARDED * limit:
            break
    if size > limit:
        raise _too_large(size, limit)
    coding = request.headers.get("content-encoding", "identity")
    if coding.strip().lower() != "identity":
        raise RequestError(
            "Content-Encoding", "bodies are read as they come", received=coding, allowed="identity"
        )
    return b"".join(parts)


def _too_large(size: int, limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(
        "the body is too large", received=size, allowed=f"{limit} bytes", remedy="send fewer rows"
    )
