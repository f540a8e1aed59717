from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.test_utils import create_run_for_test
from filelock import FileLock

from flts_assets.assets.step_policy import TRAINERS
from flts_assets.automation import closing, sign_of_life
from flts_assets.automation.closing import close_abandoned_runs
from flts_assets.automation.launch import new_run
from flts_assets.automation.pool import held_slots, set_trainers
from flts_assets.automation.registration import register
from flts_assets.automation.run_launcher import WatchedRunLauncher
from flts_assets.automation.sign_of_life import SILENT_S, giving_signs, silent_s
from flts_assets.automation.stale import find_stale
from flts_assets.automation.workers import WORKER_TAG, Worker, worker_lock, worker_of
from flts_assets.definitions import defs
from flts_assets.recipe import load_recipe
from flts_assets_tests.assets.deployment import SAMPLE50, Deployment
from flts_assets_tests.servers.kafka import until

HERE = {WORKER_TAG: socket.gethostname()}
CODE_SERVER = {".dagster/grpc_info": json.dumps({"host": "localhost", "socket": "/tmp/nowhere"})}
STARTED = dg.DagsterRunStatus.STARTED


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    deployment = Deployment(tmp_path_factory.mktemp("workers"))
    with deployment.instance:
        yield deployment


def run_of(
    deployment: Deployment, tags: dict[str, str], status: dg.DagsterRunStatus = STARTED
) -> dg.DagsterRun:
    return create_run_for_test(deployment.instance, "pipeline", tags=tags, status=status)


def told(deployment: Deployment, run: dg.DagsterRun, process: int) -> None:
    """As the process of a run does."""
    deployment.instance.report_engine_event(
        f"Started process for run (pid: {process}).", run, EngineEventData.in_process(process)
    )


def found(deployment: Deployment, run: dg.DagsterRun) -> Worker:
    return worker_of(run, deployment.instance, deployment.home)


@pytest.mark.parametrize("machine", [HERE, {WORKER_TAG: "another-container"}], ids=str)
def test_process_that_holds_its_lock_lives_and_one_that_left_it_is_gone(
    deployment: Deployment, machine: dict[str, str]
) -> None:
    run = run_of(deployment, machine)
    assert found(deployment, run) is Worker.UNKNOWN, "it never had a lock"
    lock = worker_lock(run.run_id, deployment.home)
    lock.parent.mkdir(exist_ok=True)
    with FileLock(lock):
        assert found(deployment, run) is Worker.ALIVE
        assert run.run_id not in close_abandoned_runs(deployment.instance, deployment.home)
    lock.touch()
    assert found(deployment, run) is Worker.GONE
    assert run.run_id in close_abandoned_runs(deployment.instance, deployment.home)
    assert not lock.exists()


def test_process_of_a_code_server_is_known_by_its_number_and_its_age(
    deployment: Deployment,
) -> None:
    run = run_of(deployment, HERE | CODE_SERVER)
    assert found(deployment, run) is Worker.UNKNOWN, "it has not begun"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        told(deployment, run, process.pid)
        assert found(deployment, run) is Worker.ALIVE
        process.kill()
    assert found(deployment, run) is Worker.GONE


def test_number_that_was_given_to_a_later_process_is_not_the_worker(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(deployment, HERE | CODE_SERVER)
    told(deployment, run, os.getpid())
    assert found(deployment, run) is Worker.ALIVE
    monkeypatch.setattr("psutil.Process.create_time", lambda _self: 4e9)
    assert found(deployment, run) is Worker.GONE


@pytest.mark.parametrize("tags", [{}, {WORKER_TAG: "elsewhere"}, CODE_SERVER], ids=str)
def test_worker_that_cannot_be_seen_from_here_is_left_alone(
    deployment: Deployment, tags: dict[str, str]
) -> None:
    run = run_of(deployment, tags)
    assert found(deployment, run) is Worker.UNKNOWN
    assert run.run_id not in close_abandoned_runs(deployment.instance, deployment.home)


def last_sign(deployment: Deployment, run: dg.DagsterRun) -> str:
    """Seconds since 1970, as they stand in Dagster's table."""
    key = f"flts/sign_of_life/{run.run_id}"
    return deployment.instance.run_storage.get_cursor_values({key})[key]


@pytest.mark.parametrize("worker", [socket.gethostname(), "a container that was"])
def test_process_that_is_seen_from_nowhere_lives_while_it_gives_signs(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, worker: str
) -> None:
    monkeypatch.setattr(sign_of_life, "EVERY_S", 0.05)
    run = run_of(deployment, {WORKER_TAG: worker})
    with giving_signs(run.run_id, deployment.instance):
        assert found(deployment, run) is Worker.ALIVE
        first = last_sign(deployment, run)
        until(lambda: last_sign(deployment, run) > first, 60, "more than the first")
    assert run.run_id not in close_abandoned_runs(deployment.instance, deployment.home)
    now = time.time()
    monkeypatch.setattr(sign_of_life, "time", SimpleNamespace(time=lambda: now + SILENT_S + 1))
    assert found(deployment, run) is Worker.GONE
    assert run.run_id in close_abandoned_runs(deployment.instance, deployment.home)


def test_run_of_a_command_gives_signs_from_its_beginning(deployment: Deployment) -> None:
    recipe = load_recipe(SAMPLE50)
    register(recipe, deployment.platform.registry, deployment.instance)
    with (
        deployment.environment(),
        new_run(recipe, deployment.instance, deployment.home, force=False, identifier=None) as run,
    ):
        assert silent_s(run.run_id, deployment.instance) is not None


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's own
def test_run_that_was_recorded_and_never_started_is_closed_after_a_while(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(deployment, {}, dg.DagsterRunStatus.NOT_STARTED)
    started = run_of(deployment, {})
    assert run.run_id not in close_abandoned_runs(deployment.instance, deployment.home)
    monkeypatch.setattr(closing, "NEVER_STARTED_S", 0.0)
    waiting = run_of(deployment, HERE, dg.DagsterRunStatus.NOT_STARTED)
    lock = worker_lock(waiting.run_id, deployment.home)
    lock.parent.mkdir(exist_ok=True)
    with FileLock(lock):
        listed = {one.what: one.why for one in find_stale(deployment.platform, deployment.instance)}
        why = listed[f"Dagster run {run.run_id} (NOT_STARTED)"]
        assert why == "the process that was to start it is gone"
        closed = close_abandoned_runs(deployment.instance, deployment.home)
    assert run.run_id in closed
    assert not {one.run_id for one in (started, waiting)} & set(closed)


def test_run_monitoring_hears_of_a_worker_only_when_it_is_gone(deployment: Deployment) -> None:
    instance = deployment.instance
    assert isinstance(instance.run_launcher, WatchedRunLauncher)
    assert instance.run_monitoring_enabled
    assert instance.run_launcher.supports_check_run_worker_health
    with deployment.environment():
        for tags, status in (({}, "RUNNING"), (HERE | CODE_SERVER, "FAILED")):
            run = run_of(deployment, tags)
            told(deployment, run, 2**22 + 1)  # beyond the largest number
            health = instance.run_launcher.check_run_worker_health(run)
            assert health.status.value == status


# --- the pool ------------------------------------------------------------------------------------


def test_every_step_that_trains_is_in_the_pool_and_no_other() -> None:
    in_pool = {
        key.to_user_string()
        for asset in defs.resolve_asset_graph().assets_defs
        for key in asset.keys
        if TRAINERS in {node.pool for node in asset.node_def.iterate_op_defs()}  # type: ignore[attr-defined]
    }
    assert in_pool == {
        *("gru_model", "lstm_model", "prophet_model", "trees_model", "ensemble_model"),
        "backtest",
    }


def test_no_more_trainers_get_a_slot_than_the_limit_and_ended_runs_give_theirs_back(
    deployment: Deployment,
) -> None:
    instance = deployment.instance
    storage = instance.event_log_storage
    set_trainers(instance, 2)
    living = run_of(deployment, {})
    dead = run_of(deployment, {}, dg.DagsterRunStatus.FAILURE)
    claims = [
        storage.claim_concurrency_slot(TRAINERS, run.run_id, step).is_claimed
        for run, step in ((living, "gru_model"), (dead, "gru_model"), (living, "lstm_model"))
    ]
    assert claims == [True, True, False]
    assert list(held_slots(instance)) == [dead.run_id]

    close_abandoned_runs(instance, deployment.home)
    assert list(held_slots(instance)) == []
    assert storage.claim_concurrency_slot(TRAINERS, living.run_id, "lstm_model").is_claimed
    set_trainers(instance, 3)
    assert storage.claim_concurrency_slot(TRAINERS, living.run_id, "trees_model").is_claimed

    set_trainers(instance, None)
    for number in range(30):
        claim = storage.claim_concurrency_slot(TRAINERS, living.run_id, f"step {number}")
        assert claim.is_claimed, "no limit holds it up"


def test_no_pool_is_made_where_nobody_asks_for_a_limit() -> None:
    with dg.instance_for_test() as instance:
        set_trainers(instance, None)
        assert instance.event_log_storage.get_pool_limits() == []
