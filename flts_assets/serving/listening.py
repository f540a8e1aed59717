"""uvloop as the service runs it: every client that waits at the door is let in at once.

libuv takes one connection a turn of its loop. While a hundred clients are answered a turn lasts 40 ms, so
of 800 that come together the last would wait for many seconds before its first byte is read.
asyncio's own loop takes all that wait; so does this one.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import uvloop

__all__ = ["event_loop"]

_Factory = Callable[[], asyncio.Protocol]


def event_loop() -> asyncio.AbstractEventLoop:
    """What uvicorn asks for by `--loop flts_assets.serving.listening:event_loop`."""
    return _Loop()


class _Loop(uvloop.Loop):
    """uvloop, whose plain TCP servers accept in a loop."""

    async def create_server(  # type: ignore[override]
        self, protocol_factory: _Factory, *arguments: Any, ssl: Any = None, **options: Any
    ) -> asyncio.AbstractServer:
        """As asyncio's. Connections under TLS come one a turn: their handshakes take turns anyway."""
        waiting = _Waiting(self, protocol_factory)
        factory = protocol_factory if ssl else waiting.first
        server = await super().create_server(factory, *arguments, ssl=ssl, **options)
        waiting.server = server
        return server


class _Waiting:
    """Connections that the kernel has ready beside the one that libuv took."""

    def __init__(self, loop: uvloop.Loop, factory: _Factory) -> None:
        self._loop = loop
        self._factory = factory
        self._asked = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self.server: asyncio.AbstractServer | None = None

    def first(self) -> asyncio.Protocol:
        """For libuv's connection; the others follow within this turn."""
        if not self._asked:
            self._asked = True
            self._loop.call_soon(self._let_in)
        return self._factory()

    def _let_in(self) -> None:
        self._asked = False
        for listener in getattr(self.server, "sockets", ()):
            with socket.socket(fileno=socket.dup(listener.fileno())) as door:
                self._accept_all(door)

    def _accept_all(self, door: socket.socket) -> None:
        while True:
            try:
                connection, _ = door.accept()
            except OSError:
                # Nobody is left, or there is no file left for one: libuv tells the latter.
                return
            connection.setblocking(False)
            task = self._loop.create_task(
                self._loop.connect_accepted_socket(self._factory, connection)
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
