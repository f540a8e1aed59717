from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import ExitStack, closing
from typing import Any

import pytest

from flts_assets.serving.listening import event_loop
from flts_assets_tests.serving.processes import until

CLIENTS = 60


class Greeting(asyncio.Protocol):
    """Sends one byte to whoever comes."""

    here = 0

    def connection_made(self, transport: Any) -> None:
        Greeting.here += 1
        transport.write(b"!")

    def connection_lost(self, _error: Exception | None) -> None:
        Greeting.here -= 1


@pytest.mark.parametrize("bound_before", [False, True], ids=["host and port", "a socket"])
def test_all_who_wait_are_let_in_within_a_few_turns(bound_before: bool) -> None:
    async def turns(stack: ExitStack) -> int:
        loop = asyncio.get_running_loop()
        Greeting.here = 0
        if bound_before:
            server = await loop.create_server(Greeting, sock=_bound(), backlog=CLIENTS)
        else:
            server = await loop.create_server(Greeting, "127.0.0.1", 0, backlog=CLIENTS)
        address = server.sockets[0].getsockname()
        # The loop stands still meanwhile: nobody is let in.
        clients = [
            stack.enter_context(socket.create_connection(address, 10)) for _ in range(CLIENTS)
        ]
        until(lambda: _waiting(server.sockets[0]) == CLIENTS)  # a busy system lags behind them
        taken = 0
        while Greeting.here < CLIENTS and taken < 10 * CLIENTS:
            await asyncio.sleep(0)
            taken += 1
        for client in clients:
            assert await asyncio.to_thread(client.recv, 1) == b"!"
            client.close()
        # uvloop warns of connections left open when it closes, and never ends if that is an error.
        await asyncio.wait_for(_all_gone(), 60)
        server.close()
        await asyncio.sleep(0.01)  # libuv lets go of the port in a turn of its own
        with pytest.raises(OSError, match="refused"):
            await asyncio.to_thread(socket.create_connection, address, 10)
        return taken

    with ExitStack() as stack, closing(event_loop()) as loop:
        assert loop.run_until_complete(turns(stack)) < CLIENTS / 4


def test_a_client_that_comes_alone_is_let_in_too() -> None:
    async def one_after_another() -> None:
        Greeting.here = 0
        server = await asyncio.get_running_loop().create_server(Greeting, "127.0.0.1", 0)
        for _ in range(3):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            assert await reader.read(1) == b"!"
            writer.close()
            await writer.wait_closed()
            await asyncio.wait_for(_all_gone(), 60)
        server.close()

    with closing(event_loop()) as loop:
        loop.run_until_complete(one_after_another())


async def _all_gone() -> None:
    while Greeting.here:
        await asyncio.sleep(0.001)


def _waiting(listener: Any) -> int:
    """How many have connected and are not let in yet (Linux: tcpi_unacked of a listening socket)."""
    state = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int(struct.unpack_from("I", state, 24)[0])


def _bound() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    return listener
