"""A backfill on workers that have nothing in common but S3, PostgreSQL, an MLflow server and Redis.

control     Dagster's daemon with its code server: starts queued runs; does no step
worker-1 …  `flts worker`, each with a data directory of its own
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from flts_assets.settings import PROJECT
from flts_assets_tests.cli.test_cli import READ_BY_FLTS
from flts_assets_tests.servers.postgres import Postgres
from flts_assets_tests.servers.process import Process
from flts_assets_tests.stack.machine import Machine
from flts_assets_tests.stack.progress import ADD, STATION, Progress, Step, tiny_recipe, until

__all__ = ["Cluster", "cluster"]

FLTS = "from flts_assets.cli import main; main()"
ON_ITS_STATE = """
import os
from flts_assets.settings import Settings
os.environ.update(Settings.from_environment().exported())
"""
DAEMON = f"""{ON_ITS_STATE}
from dagster._daemon.cli import main
main()
"""


@dataclass
class Cluster(Progress):
    folder: Path
    variables: Mapping[str, str]
    postgres: Postgres
    workers: dict[str, Process] = field(default_factory=dict)

    @property
    def control(self) -> Machine:
        return Machine(self.folder / "control", self._variables)

    @property
    def _variables(self) -> dict[str, str]:
        """With no recipes but those that are added here."""
        return {**self.variables, "FLTS_RECIPES_FOLDER": str(self.folder / "recipes")}

    def start_workers(self, count: int) -> None:
        """`worker-1` and so on, each with one place; waits until all are ready."""
        for number in range(1, count + 1):
            self._start_worker(f"worker-{number}")
        until(lambda: all(" ready." in self.log(name) for name in self.workers), "the workers")

    def _start_worker(self, name: str) -> None:
        command = [sys.executable, "-c", FLTS, "worker", "--name", name]
        variables = {"FLTS_STEP_CONCURRENCY": "1"}
        self.workers[name] = self._process(name, command, variables)

    def start_daemon(self) -> Process:
        command = [sys.executable, "-c", DAEMON, "run", "-w", str(PROJECT / "workspace.yaml")]
        return self._process("daemon", command, {})

    def log(self, name: str) -> str:
        return self.workers[name].log.read_text(errors="replace")

    def queue(self, count: int, prefix: str) -> None:
        """A backfill of so many tiny recipes."""
        files = []
        for number in range(count):
            file = self.folder / f"{prefix}-{number}.yaml"
            file.write_text(tiny_recipe(f"{prefix}-{number}"))
            files.append(str(file))
        self.control.output_of("data", "demo")
        machine = self.control
        command = [sys.executable, "-c", ON_ITS_STATE + ADD, *files]
        process = Process("add", command, self.folder, environ=self._environ(machine.home, {}))
        until(lambda: not process.is_running, "recipes")
        assert "Error" not in process.log.read_text(), process.log.read_text()
        machine.output_of("backfill", STATION)

    def kill(self, worker: str) -> list[psutil.Process]:
        """SIGKILL for the worker's own process alone; the children that it had."""
        process = self.workers.pop(worker)
        children = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
        process.thaw()  # what is left of its group, had it been stopped
        return children

    def kill_at_work(self, worker: str) -> tuple[list[Step], list[psutil.Process]]:
        """The same, and the steps in its hands: it is stopped first, so that none ends meanwhile."""
        while True:
            until(lambda: bool(self.in_hand(worker)), f"a step in the hands of {worker}")
            self.workers[worker].freeze()
            if lost := self.in_hand(worker):
                return lost, self.kill(worker)
            self.workers[worker].thaw()

    def _process(self, name: str, command: list[str], variables: Mapping[str, str]) -> Process:
        home = self.folder / name
        home.mkdir(exist_ok=True)
        return Process(name, command, home, environ=self._environ(home / "home", variables))

    def _environ(self, home: Path, variables: Mapping[str, str]) -> dict[str, str]:
        users = {name: value for name, value in os.environ.items() if not READ_BY_FLTS.match(name)}
        path = {"PYTHONPATH": str(PROJECT)}
        return {**users, **path, **self._variables, "FLTS_HOME": str(home), **variables}

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        return self.postgres.execute(statement, self.variables["FLTS_POSTGRES_DB"])

    def worker_named(self, name: str, host: str) -> str:
        return name


@contextmanager
def cluster(
    folder: Path, variables: Mapping[str, str], postgres: Postgres, workers: int
) -> Iterator[Cluster]:
    """`worker-1`, `worker-2` … and the daemon; all end with the context."""
    found = Cluster(folder, variables, postgres)
    started: list[Process] = []
    try:
        (folder / "recipes").mkdir()
        found.start_workers(workers)
        started.extend(found.workers.values())
        started.append(found.start_daemon())
        yield found
    finally:
        for process in reversed(started):
            process.stop()
