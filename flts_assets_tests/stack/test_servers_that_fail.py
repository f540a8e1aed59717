"""A server goes away or falls silent while a model trains: how long it takes, what is lost, what is not.

The client's bounds are short here (`BOUNDS`); with the defaults of `flts env` they are ten times that.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from flts_assets.assets import models
from flts_assets.recipe import load_recipe
from flts_assets.settings import PROJECT
from flts_assets_tests.assets.deployment import SAMPLE50, Deployment
from flts_assets_tests.servers.mlflow_server import MlflowServer
from flts_assets_tests.servers.postgres import Postgres
from flts_assets_tests.servers.process import Process, announce
from flts_assets_tests.servers.seaweed import Seaweed

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore"),  # of libraries whose connections break off
]

BOUNDS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "4",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "FLTS_S3_TIMEOUT_S": "2",
}
BOUND_S = 60.0
"""three requests of MLflow's, each tried twice; a slow machine's slack"""


@dataclass
class Tracked:
    """An MLflow server whose artifacts stand on an S3 server of its own."""

    folder: Path
    artifacts: Seaweed
    database: str
    server: MlflowServer

    def recover(self) -> None:
        """Everything runs and answers again, on the same ports and the same data."""
        for server in (self.artifacts, self.server):
            server.process.thaw()
        if not self.server.process.is_running:
            self.server = self._started(int(self.server.url.rsplit(":", 1)[1]))
        self.artifacts.process.wait_until(self.artifacts.is_healthy)
        self.server.process.wait_until(self.server.is_healthy)

    def _started(self, port: int | None) -> MlflowServer:
        return MlflowServer.started(self.folder, self.artifacts, self.database, "own-", port)

    @classmethod
    def started(cls, folder: Path, postgres: Postgres) -> Tracked:
        (folder / "s3").mkdir()
        artifacts = Seaweed.started(folder / "s3")
        database = postgres.url(postgres.database())
        server = MlflowServer.started(folder, artifacts, database, "own-")
        return cls(folder, artifacts, database, server)


@pytest.fixture(scope="module")
def tracked(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, pytestconfig: pytest.Config
) -> Iterator[Tracked]:
    found = Tracked.started(tmp_path_factory.mktemp("tracked"), postgres)
    announce(pytestconfig, f"SeaweedFS to be frozen at {found.artifacts.url}")
    announce(pytestconfig, f"MLflow to be frozen and killed at {found.server.url}")
    yield found
    found.server.process.stop()
    found.artifacts.process.stop()


@pytest.fixture
def deployment(
    tmp_path: Path, tracked: Tracked, seaweed: Seaweed, postgres: Postgres, real_data: Path
) -> Deployment:
    """Raw and processed data stand; nothing is trained."""
    variables = {
        "DAGSTER_HOME": str(PROJECT / "docker"),
        **seaweed.environment(f"f{uuid4().hex[:8]}-"),
        **postgres.environment(postgres.database()),
        **tracked.server.environment(),
    }
    patient = Deployment(tmp_path, variables=variables)
    patient.add_data(real_data, PobleSec="PobleSec", PobleSec_test="PobleSec_test")
    run = patient.run(load_recipe(SAMPLE50), "raw_data", "processed_data")
    assert run.result.success, run.failures
    return Deployment(tmp_path, variables={**variables, **BOUNDS})


def at_the_end_of_training(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Between the last epoch and the first moment at which anything is saved."""
    train = models.train_model

    def trained(*arguments: Any, **options: Any) -> Any:
        model = train(*arguments, **options)
        act()
        return model

    monkeypatch.setattr(models, "train_model", trained)


def patient(deployment: Deployment) -> Deployment:
    """The same one with the bounds that `flts env` sets."""
    own = {name: value for name, value in deployment.variables.items() if name not in BOUNDS}
    return Deployment(deployment.home, variables=own)


def never() -> None:
    raise AssertionError("the model was trained again")


@pytest.mark.parametrize("fault", ["killed", "frozen", "its S3 frozen"])
def test_trained_model_is_kept_and_the_next_run_logs_it_without_training(
    fault: str,
    deployment: Deployment,
    tracked: Tracked,
    monkeypatch: pytest.MonkeyPatch,
    pytestconfig: pytest.Config,
) -> None:
    recipe = load_recipe(SAMPLE50)
    happened: list[float] = []

    def break_it() -> None:
        process: Process = tracked.server.process
        act = {
            "killed": process.kill,
            "frozen": process.freeze,
            "its S3 frozen": tracked.artifacts.process.freeze,
        }[fault]
        act()
        happened.append(time.monotonic())

    at_the_end_of_training(monkeypatch, break_it)
    try:
        run = deployment.run(recipe, "gru_model")
        took_s = time.monotonic() - happened[0]
    finally:
        tracked.recover()
    announce(pytestconfig, f"MLflow {fault}: the run ended {took_s:.1f} s later")
    assert took_s < BOUND_S
    assert not run.result.success
    message = run.failures["gru_model"]
    assert "MLflow" in message
    assert "run again: no saved model is trained twice" in message
    assert "password" not in message

    monkeypatch.undo()
    at_the_end_of_training(monkeypatch, never)
    again = patient(deployment).run(recipe, "gru_model")
    assert again.result.success, again.failures
    assert again.metadata("gru_model")["cached"] is True
    manifest = deployment.manifest(recipe, models.MODEL_STAGES["GRU"])
    with deployment.environment():
        finished = [
            one.info.run_id
            for one in deployment.mlflow_runs(recipe)
            if one.info.status == "FINISHED"
            and one.data.tags["flts.attempt"] == manifest.attempt  # other tests have theirs
        ]
        assert len(finished) == 1
        names = deployment.platform.tracking.client.list_artifacts(finished[0], "GRU")
    assert {f"GRU/{name}" for name in manifest.files} <= {one.path for one in names}


def test_mlflow_down_before_training_costs_a_wait_and_no_epoch(
    deployment: Deployment, tracked: Tracked
) -> None:
    recipe = load_recipe(SAMPLE50)
    tracked.server.process.freeze()
    started = time.monotonic()
    try:
        run = deployment.run(recipe, "gru_model")
    finally:
        tracked.recover()
    assert time.monotonic() - started < BOUND_S + 30
    assert run.named("tracking_unavailable")
    assert run.named("train_epoch")
    assert "MLflow" in run.failures["gru_model"]
    again = patient(deployment).run(recipe, "gru_model")
    assert again.result.success, again.failures
    assert not again.named("train_start")


def test_object_store_that_falls_silent_during_training_ends_the_run_with_a_clear_error(
    tmp_path: Path,
    real_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    pytestconfig: pytest.Config,
) -> None:
    recipe = load_recipe(SAMPLE50)
    folder = tmp_path / "s3"
    folder.mkdir()
    own = Seaweed.started(folder)
    announce(pytestconfig, f"SeaweedFS to be frozen at {own.url}")
    happened: list[float] = []

    def freeze() -> None:
        own.process.freeze()
        happened.append(time.monotonic())

    try:
        variables = {**own.environment("own-"), **BOUNDS}
        deployment = Deployment(tmp_path / "home", in_memory=True, variables=variables)
        deployment.add_data(real_data, PobleSec="PobleSec", PobleSec_test="PobleSec_test")
        assert deployment.run(recipe, "raw_data", "processed_data").result.success
        at_the_end_of_training(monkeypatch, freeze)
        run = deployment.run(recipe, "gru_model")
        took_s = time.monotonic() - happened[0]
        announce(pytestconfig, f"object store frozen: the run ended {took_s:.1f} s later")
        assert took_s < BOUND_S
        assert "S3 did not" in run.failures["gru_model"]
        assert "AWS_ENDPOINT_URL" in run.failures["gru_model"]
        assert deployment.mlflow_runs(recipe)[0].info.status == "FAILED"

        own.process.thaw()
        monkeypatch.undo()
        again = deployment.run(recipe, "gru_model")
        assert again.result.success, again.failures
    finally:
        own.process.stop()
        shutil.rmtree(folder, ignore_errors=True)
