"""The launcher for Kubernetes, against a server that answers as Kubernetes' API does where no job is."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher import WorkerStatus
from dagster._core.launcher.base import LaunchRunContext
from dagster._core.utils import make_new_run_id
from dagster._utils.concurrency import get_max_concurrency_limit_value

from flts_assets.assets.step_policy import TRAINERS
from flts_assets.automation.backfill import request_runs
from flts_assets.automation.k8s_run_launcher import WatchedK8sRunLauncher
from flts_assets.automation.launch import create_run
from flts_assets.automation.pool import set_trainers
from flts_assets.automation.registration import register
from flts_assets.automation.workers import WORKER_TAG
from flts_assets.recipe import load_recipe
from flts_assets_tests.assets.deployment import SAMPLE50, Deployment
from flts_assets_tests.docker.containers import DOCKER

RECIPE = load_recipe(SAMPLE50)
VALUES = yaml.safe_load((DOCKER / "kubernetes" / "dagster-values.yaml").read_text())
IMAGE = "registry.example.org/flts-platform:7"


@dataclass
class Cluster:
    """What its API was asked to make."""

    url: str
    jobs: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(404, {"kind": "Status", "status": "Failure", "code": 404})

        def do_POST(self) -> None:
            made = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.jobs.append(made)
            self.answer(201, made)

        def answer(self, status: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        found = Cluster(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@pytest.fixture
def instance(tmp_path: Path, cluster: Cluster) -> Iterator[dg.DagsterInstance]:
    """Its launcher is configured by the values for Dagster's chart."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "current-context": "test",
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                "clusters": [{"name": "test", "cluster": {"server": cluster.url}}],
                "users": [{"name": "test", "user": {}}],
            }
        )
    )
    launcher = VALUES["runLauncher"]["config"]["customRunLauncher"]
    config = launcher["config"] | {
        "load_incluster_config": False,
        "kubeconfig_file": str(kubeconfig),
    }
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text(
        yaml.safe_dump({"run_launcher": launcher | {"config": config}})
    )
    with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home))) as found:
        yield found


@pytest.fixture
def deployment(tmp_path: Path, instance: dg.DagsterInstance) -> Deployment:
    deployment = Deployment(tmp_path)
    register(RECIPE, deployment.platform.registry, instance)
    return deployment


def started(instance: dg.DagsterInstance, **tags: str) -> dg.DagsterRun:
    return create_run(
        make_new_run_id(), RECIPE, instance, force=False, identifier=None, tags=tags
    )._replace(status=dg.DagsterRunStatus.STARTED)


def of_code_server(run: dg.DagsterRun) -> dg.DagsterRun:
    """The run as the code server that the chart starts would have made it."""
    assert run.job_code_origin is not None
    context = {"k8s": {"env_secrets": ["flts"], "namespace": "elsewhere"}}
    repository = run.job_code_origin.repository_origin._replace(
        container_image=IMAGE, container_context=context
    )
    return run._replace(job_code_origin=run.job_code_origin._replace(repository_origin=repository))


@pytest.mark.usefixtures("deployment")
def test_a_run_without_a_job_is_ended_unless_it_is_a_flts_run(instance: dg.DagsterInstance) -> None:
    launcher = instance.run_launcher
    assert isinstance(launcher, WatchedK8sRunLauncher)
    job = launcher.check_run_worker_health(started(instance))
    own = launcher.check_run_worker_health(started(instance, **{WORKER_TAG: "flts-bootstrap-x"}))
    assert job.status is WorkerStatus.UNKNOWN, "run monitoring ends whatever is not RUNNING"
    assert own.status is WorkerStatus.RUNNING


@pytest.mark.usefixtures("deployment")
def test_a_launched_run_is_a_job_and_lifts_the_limit_that_a_flts_run_set(
    instance: dg.DagsterInstance, cluster: Cluster
) -> None:
    set_trainers(instance, 2)
    run = of_code_server(started(instance))
    instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    (job,) = cluster.jobs
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == IMAGE
    assert {"secretRef": {"name": "flts"}} in container["envFrom"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["securityContext"]["runAsNonRoot"]
    assert job["spec"]["ttlSecondsAfterFinished"] == 86400
    limits = {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()}
    assert limits[TRAINERS] == get_max_concurrency_limit_value()


def test_what_a_backfill_queues_is_started_as_the_backfill_itself(
    deployment: Deployment, instance: dg.DagsterInstance, cluster: Cluster
) -> None:
    asking = of_code_server(started(instance))
    instance.delete_run(asking.run_id)  # it is about the same recipe, which would be under way
    (one,) = request_runs(RECIPE.station, deployment.platform, instance, asking)
    assert one.run_id is not None
    queued = instance.get_run_by_id(one.run_id)
    assert queued is not None
    assert queued.remote_job_origin == asking.remote_job_origin
    instance.run_launcher.launch_run(LaunchRunContext(dagster_run=queued, workspace=None))
    (job,) = cluster.jobs
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGE
