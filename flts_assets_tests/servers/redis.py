"""Redis, as Debian ships it, with nothing on disk."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flts_assets_tests.servers.process import Process, announce, free_port

__all__ = ["Redis", "redis_server"]


@dataclass(frozen=True)
class Redis:
    process: Process
    port: int

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @classmethod
    def started(cls, folder: Path, executable: str) -> Redis:
        """A server of one's own; whoever starts it stops it."""
        port = free_port()
        command = [
            *(executable, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)),
            *("--save", "", "--appendonly", "no", "--daemonize", "no"),
        ]
        server = cls(Process("redis", command, folder), port)
        server.process.wait_until(server._answers)
        return server

    def _answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")


@pytest.fixture(scope="session")
def redis_server(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Redis]:
    """The session's Redis; skipped where the system has none, unless in CI."""
    executable = shutil.which("redis-server")
    if executable is None:
        if os.environ.get("CI"):
            pytest.fail("redis-server is not installed")
        pytest.skip("redis-server is not installed")
    server = Redis.started(tmp_path_factory.mktemp("redis"), executable)
    announce(pytestconfig, f"Redis at {server.url}, log {server.process.log}")
    yield server
    server.process.stop()
