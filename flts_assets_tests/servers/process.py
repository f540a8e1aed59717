"""A server process: started in its own group, awaited with a deadline, stopped with its whole group."""

from __future__ import annotations

import atexit
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Process", "announce", "free_port", "free_ports", "program"]

DEADLINE_S = 300.0


def program(name: str) -> str:
    """A program that the extra `dev` installs: beside the interpreter, whether or not that is on PATH."""
    found = shutil.which(
        name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed: pip install -e '.[dev]'")
        pytest.skip(f"{name} is not installed")
    return found


class Process:
    """A running server; `log` holds what it printed. Ended at the latest when this process ends."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        *,
        environ: Mapping[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        **options: Any,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._stop_signal = stop_signal
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                command,
                cwd=folder,
                env=None if environ is None else dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_the_tests,  # noqa: PLW1509
                **options,
            )
        atexit.register(self.stop)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        return self._popen.poll() is None

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Ask `ready` until it says yes; an OSError of its is a no."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            assert self.is_running, f"{self.name} ended at its start:\n{self._tail()}"
            with suppress(OSError):
                if ready():
                    return
            assert time.monotonic() < deadline, f"{self.name} is not ready:\n{self._tail()}"
            time.sleep(0.05)

    def freeze(self) -> None:
        """It goes on existing, listens, and answers nobody."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """As if the power had gone."""
        self._signal(signal.SIGKILL)
        self._popen.wait()

    def stop(self) -> None:
        """Ask it to end, and see to it that nothing of its group is left."""
        atexit.unregister(self.stop)
        self.thaw()
        self._signal(self._stop_signal)
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout=20)
        self._signal(signal.SIGKILL)
        self._popen.wait()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, number)

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


def _die_with_the_tests() -> None:
    """In the new process: be killed when the one that started it is, however that ends (Linux)."""
    if sys.platform == "linux":
        parent_death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)


def free_port() -> int:
    return free_ports(1)[0]


def free_ports(count: int, also_free: int = 0) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on; with `also_free`, neither on port + that.

    Between here and the server's start nobody takes them: the system gives out higher ones, pytest's
    other workers have others, and none comes twice.
    """
    found: list[int] = []
    while len(found) < count:
        port = next(_CANDIDATES)
        with suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            if also_free:
                other.bind(("127.0.0.1", port + also_free))
            found.append(port)
    return found


def _candidates() -> Iterator[int]:
    """From anywhere, as sessions beside this one do."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % _WORKERS
    own = range(_PORTS.start + worker, _PORTS.stop, _WORKERS)
    first = secrets.randbelow(len(own))
    return cycle([*own[first:], *own[:first]])


_PORTS = range(12_000, 22_000)
"""These and those 10,000 above lie below what Linux gives to clients, and to who asks for any port."""
_WORKERS = 16
_CANDIDATES = _candidates()


def announce(config: pytest.Config, text: str) -> None:
    """A line on the terminal although output is captured: what was started, and where."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    capture = config.pluginmanager.getplugin("capturemanager")
    if reporter is None or capture is None:
        return
    with capture.global_and_fixture_disabled():
        if hasattr(config, "workerinput"):  # of pytest-xdist, whose reporter writes to nobody
            sys.stderr.write(f"\n[server] {text}\n")
        else:
            reporter.ensure_newline()
            reporter.write_line(f"[server] {text}")
