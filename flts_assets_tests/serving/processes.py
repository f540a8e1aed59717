"""`flts serve` and haproxy as processes of their own, on free ports of this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from flts_assets.settings import PROJECT
from flts_assets_tests.servers.process import free_port

__all__ = ["Running", "answers", "proxy", "service", "until", "workers_of"]

STARTS_WITHIN_S: Final = 90
FLTS: Final = Path(sys.executable).with_name("flts")


@dataclass(frozen=True)
class Running:
    """A process that answers at a port."""

    port: int
    process: subprocess.Popen[bytes]


@contextmanager
def service(home: Path, *options: str, **environment: str) -> Iterator[Running]:
    """`flts serve` over this directory, until the context ends."""
    port = free_port()
    with _running(
        [str(FLTS), "serve", "--port", str(port), *options],
        port,
        FLTS_HOME=str(home),
        **environment,
    ) as one:
        yield one


@contextmanager
def proxy(ports: Sequence[int]) -> Iterator[Running]:
    """docker/haproxy.cfg before three services. Skips where there is no haproxy."""
    haproxy = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if haproxy is None:
        reason = "no haproxy on PATH; apt-get install haproxy"
        if os.environ.get("FLTS_REQUIRE_PROXY"):
            pytest.fail(reason)
        pytest.skip(reason)
    port = free_port()
    servers = {f"FLTS_SERVER_{place}": f"127.0.0.1:{one}" for place, one in enumerate(ports, 1)}
    command = [haproxy, "-db", "-f", str(PROJECT / "docker" / "haproxy.cfg")]
    # Killed at the end: it holds nothing, and Debian's 2.6 was once seen to live on after SIGTERM.
    with _running(
        command, port, signal.SIGKILL, FLTS_PROXY_BIND=f"127.0.0.1:{port}", **servers
    ) as one:
        yield one


@contextmanager
def _running(
    command: list[str], port: int, end: signal.Signals = signal.SIGTERM, **environment: str
) -> Iterator[Running]:
    process = subprocess.Popen(command, env={**os.environ, **environment})
    try:
        until(lambda: process.poll() is not None or answers(port, "/readyz"))
        assert process.poll() is None, f"{command[0]} ended"
        yield Running(port, process)
    finally:
        process.send_signal(end)
        process.wait(STARTS_WITHIN_S)


def until(happened: Callable[[], bool]) -> None:
    """Wait for it; fail after STARTS_WITHIN_S."""
    deadline = time.monotonic() + STARTS_WITHIN_S
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def answers(port: int, path: str) -> bool:
    """Whether that is answered with 200."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def workers_of(parent: int) -> list[int]:
    """Children that serve, not multiprocessing's resource tracker."""
    found = []
    for one in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        with suppress(OSError):  # gone meanwhile
            if "spawn_main" in Path(f"/proc/{one}/cmdline").read_text(errors="replace"):
                found.append(int(one))
    return found
