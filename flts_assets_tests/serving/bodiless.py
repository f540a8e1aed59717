"""A request whose body never comes, asked of the application itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI


@dataclass(frozen=True)
class Told:
    """What was sent back."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


async def answer_without_a_body(
    app: FastAPI, path: str, then: Callable[[asyncio.Task[None]], object] | None = None
) -> Told:
    """POST; `then` is done with the request's task once the service waits for the body."""
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [],
    }
    async with app.router.lifespan_context(app):
        request: asyncio.Task[None] = asyncio.ensure_future(app(scope, receive, send))
        while not app.state.service.gate.in_flight:
            await asyncio.sleep(0)
        if then:
            then(request)
        await asyncio.wait_for(request, 60)
    start, *parts = sent
    return Told(start["status"], dict(start["headers"]), b"".join(one["body"] for one in parts))
