from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from uvicorn.config import Config
from uvicorn.server import ServerState

from flts_assets.serving.whole_answers import WholeAnswers


class Noting:
    """A transport that notes what is done with it."""

    def __init__(self) -> None:
        self.done: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.done.append(data)

    def close(self) -> None:
        self.done.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.done

    def get_extra_info(self, _name: str) -> None:
        return None


async def done_for(request: bytes) -> list[bytes | str]:
    config = Config(PlainTextResponse("an answer"), lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    protocol = WholeAnswers(config, state, {}, asyncio.get_running_loop())
    transport: Any = Noting()
    protocol.connection_made(transport)
    protocol.data_received(request)
    while state.tasks:
        await asyncio.gather(*state.tasks)
    await asyncio.sleep(0)
    done: list[bytes | str] = [*transport.done]
    protocol.connection_lost(None)
    return done


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_head_and_body_are_one_write(connection: str) -> None:
    request = f"GET / HTTP/1.1\r\nHost: here\r\nConnection: {connection}\r\n\r\n"
    answer, *rest = asyncio.run(done_for(request.encode()))
    assert isinstance(answer, bytes)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nan answer")
    assert rest == (["closed"] if connection == "close" else [])
