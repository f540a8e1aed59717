"""A real `flts dev` (webserver, daemon, code server) in a session of its own, for tests to kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from flts_assets.settings import PROJECT
from flts_assets_tests.servers.environment import OWN_VARIABLES
from flts_assets_tests.servers.process import free_port

__all__ = ["FLTS", "DagsterDev", "running_dev", "wait_until"]

FLTS = str(Path(sys.executable).with_name("flts"))
LAUNCH = """
mutation($selector: JobOrPipelineSelector!, $tags: [ExecutionTag!]!) {
  launchRun(executionParams: {
    selector: $selector, runConfigData: {}, executionMetadata: {tags: $tags}}) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}
"""


@dataclass(frozen=True)
class DagsterDev:
    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def launch(self, config_hash: str, *assets: str) -> str:
        """Queue the main job as the UI does; the run's id."""
        selector: dict[str, Any] = {
            "repositoryLocationName": "flts_assets",
            "repositoryName": "__repository__",
            "pipelineName": "pipeline",
            "assetSelection": [{"path": [name]} for name in assets],
        }
        variables = {
            "selector": selector,
            "tags": [{"key": "dagster/partition", "value": config_hash}],
        }
        launched = self.graphql(LAUNCH, **variables)["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["runId"])

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        """What Dagster's own API says of the state that the UI shows."""
        answer = requests.post(
            f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=120
        ).json()
        assert "errors" not in answer, answer
        return dict(answer["data"])

    def members(self) -> list[psutil.Process]:
        """Every living process of the session."""
        found = []
        for one in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                if os.getsid(one.pid) == self.process.pid and one.status() != psutil.STATUS_ZOMBIE:
                    found.append(one)
        return found

    def kill(self) -> None:
        """All at once, as a machine that loses its power: nobody sees another die."""
        for stop_or_kill in (signal.SIGSTOP, signal.SIGKILL):
            for member in self.members():
                with suppress(psutil.NoSuchProcess):
                    member.send_signal(stop_or_kill)
        self.process.wait(timeout=30)


@contextmanager
def running_dev(home: Path, recipes: Path | None = None, **variables: str) -> Iterator[DagsterDev]:
    """`flts dev`, which nothing outlives. Without a folder of recipes no sensor starts a run itself."""
    port = free_port()
    if recipes is None:
        recipes = home / "no-recipes"
        recipes.mkdir(exist_ok=True)
    outer = {name: value for name, value in os.environ.items() if name not in OWN_VARIABLES}
    own = {"FLTS_HOME": str(home), "FLTS_RECIPES_FOLDER": str(recipes)}
    log = home / "dev.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [FLTS, "dev", "--port", str(port)],
            env={**outer, **own, **variables},
            cwd=PROJECT,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    dev = DagsterDev(process, f"http://127.0.0.1:{port}", log)
    try:
        wait_until(lambda: _answers(dev), 600, "the webserver answers")
        yield dev
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=60)
        dev.kill()


def wait_until(condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """What the condition gave when it was first true. Raises TimeoutError."""
    end = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise TimeoutError(f"not within {timeout_s} s: {what}")
        time.sleep(0.3)


def _answers(dev: DagsterDev) -> bool:
    assert dev.process.poll() is None, dev.log.read_text()[-3000:]
    query = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"
    try:
        answer = dev.graphql(query)
    except (requests.RequestException, ValueError):
        return False
    return bool(answer["repositoriesOrError"].get("nodes"))
