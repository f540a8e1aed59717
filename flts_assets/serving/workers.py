"""`/metrics` of all worker processes of one `flts serve`, whichever of them is asked.

Each worker tells its own figures at a Unix socket `<pid>` in a folder that they share; whoever answers
Prometheus reads them all. Samples carry the label `worker`, so no counter falls when a worker dies.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["Workers", "merged"]

ASKED_FOR_S: Final = 2.0
"""Prometheus waits 10 s; a worker that says nothing for so long is left out."""


class Workers:
    """This worker among the others. Belongs to one event loop."""

    def __init__(self, folder: Path, own: Callable[[], bytes]) -> None:
        """`own`: this worker's figures as Prometheus text."""
        self._folder = folder
        self._socket = folder / str(os.getpid())
        self._own = own
        self._server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        """Raises OSError where the folder can hold no socket."""
        self._server = await asyncio.start_unix_server(self._tell, str(self._socket))

    async def text(self) -> bytes:
        """All workers' figures."""
        others = [one for one in sorted(self._folder.glob("[0-9]*")) if one != self._socket]
        return merged([self._own(), *await asyncio.gather(*map(self._ask, others))])

    def close(self) -> None:
        """The last one takes the folder away."""
        if self._server:
            self._server.close()
        self._socket.unlink(missing_ok=True)
        with suppress(OSError):  # another may be about it too
            for other in self._folder.glob("[0-9]*"):
                if _is_of_the_dead(other):
                    other.unlink(missing_ok=True)
            self._folder.rmdir()

    async def _tell(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._own())
        writer.close()

    async def _ask(self, other: Path) -> bytes:
        """Nothing, where nobody answers or one dies in the middle."""
        with suppress(OSError, asyncio.TimeoutError):
            text = await asyncio.wait_for(_read(other), ASKED_FOR_S)
            if text.endswith(b"\n"):
                return text
        return b""


def _is_of_the_dead(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as asking:
        asking.setblocking(False)
        try:
            asking.connect(str(path))
        except OSError as error:
            return isinstance(error, ConnectionRefusedError)
    return False


async def _read(path: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        return await reader.read()
    finally:
        writer.close()


def merged(texts: Sequence[bytes]) -> bytes:
    """One Prometheus text of several: the samples of a metric stand together, below its head."""
    families: dict[bytes, dict[bytes, None]] = {}
    for text in texts:
        for line in text.splitlines():
            if line.startswith(b"# HELP "):
                family = families.setdefault(line.split(b" ", 3)[2], {})
            family[line] = None
    return b"".join(line + b"\n" for family in families.values() for line in family)
