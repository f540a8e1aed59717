"""The compose stack, as compose renders it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from flts_assets.stores.object_store import BUCKETS
from flts_assets_tests.docker.containers import (
    COMPOSE_FILE,
    DOCKER,
    SECRETS,
    compose,
    filled_in,
    rendered,
)
from flts_assets_tests.servers.process import program

OURS = {"mlflow", "code-server", "webserver", "daemon", "bootstrap", "serving"}
SERVICES = {*OURS, "object-store", "postgres", "kafka", "proxy"}


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found: dict[str, Any] = rendered(filled_in(tmp_path_factory.mktemp("env")))["services"]
    return found


def test_file_keeps_the_compose_specification() -> None:
    command = [program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*command, str(COMPOSE_FILE)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_services_are_there(services: dict[str, Any]) -> None:
    assert set(services) == SERVICES


def test_workers_and_their_queue_come_with_a_profile(tmp_path: Path) -> None:
    env_file = filled_in(tmp_path, FLTS_REDIS_PASSWORD="s3cret", FLTS_EXECUTOR="celery")
    done = compose(env_file, "--profile", "celery", "config")
    assert done.returncode == 0, done.stderr
    found = yaml.safe_load(done.stdout)["services"]
    assert set(found) == {*SERVICES, "redis", "worker"}
    queue = found["worker"]["environment"]["FLTS_CELERY_BROKER_URL"]
    assert queue == "redis://:s3cret@redis:6379/0"
    for name in ("worker", "code-server", "bootstrap"):
        assert found[name]["environment"]["FLTS_EXECUTOR"] == "celery", name
        assert found[name]["environment"]["FLTS_CELERY_BROKER_URL"] == queue, name
    for name in ("redis", "worker"):
        assert not found[name].get("ports"), name
        assert {"cpus", "memory"} <= set(found[name]["deploy"]["resources"]["limits"]), name
        assert found[name]["healthcheck"]["test"], name
    assert "work" not in {one.get("source") for one in found["worker"]["volumes"]}


@pytest.mark.parametrize("missing", SECRETS)
@pytest.mark.parametrize("given", ["", None])
def test_nothing_starts_without_every_secret(
    tmp_path: Path, missing: str, given: str | None
) -> None:
    env_file = filled_in(tmp_path, **{missing: ""})
    if given is None:
        lines = env_file.read_text().splitlines()
        env_file.write_text("\n".join(line for line in lines if not line.startswith(missing)))
    done = compose(env_file, "config")
    assert done.returncode != 0
    assert missing in done.stderr
    assert "docker/.env" in done.stderr


def test_example_holds_no_secret() -> None:
    lines = (DOCKER / ".env.example").read_text().splitlines()
    assert {f"{name}=" for name in SECRETS} <= set(lines)


def test_secrets_reach_only_the_services_that_use_them(tmp_path: Path) -> None:
    given = {name: f"value-of-{name}" for name in SECRETS}
    found = rendered(filled_in(tmp_path, **given))["services"]
    platform = {"code-server", "webserver", "daemon", "bootstrap"}
    s3 = {*platform, "object-store", "mlflow", "serving"}
    users = {
        "FLTS_S3_ACCESS_KEY": s3,
        "FLTS_S3_SECRET_KEY": s3,
        "FLTS_POSTGRES_ADMIN_PASSWORD": {"postgres"},
        "FLTS_POSTGRES_PASSWORD": {*platform, "postgres"},
        "FLTS_MLFLOW_DB_PASSWORD": {"postgres", "mlflow"},
        "FLTS_SERVING_TOKEN": {"serving"},
    }
    for name, value in given.items():
        holders = {
            service
            for service, settings in found.items()
            if value in (settings.get("environment") or {}).values()
        }
        assert holders == users[name], name
        assert not any(value in str(settings.get("command")) for settings in found.values())


def test_every_service_has_a_health_check_and_limits(services: dict[str, Any]) -> None:
    for name, settings in services.items():
        health = settings["healthcheck"]
        if name == "bootstrap":  # it ends, and its exit code tells
            assert health["disable"]
        else:
            assert health["test"], name
            assert {"interval", "timeout", "retries"} <= set(health), name
        limits = settings["deploy"]["resources"]["limits"]
        assert {"cpus", "memory"} <= set(limits), name


def test_nothing_is_published_beyond_loopback(services: dict[str, Any]) -> None:
    published = {name: one["ports"] for name, one in services.items() if one.get("ports")}
    assert set(published) == {"proxy", "webserver", "mlflow"}
    for name, ports in published.items():
        assert {port["host_ip"] for port in ports} == {"127.0.0.1"}, name


def test_all_services_share_one_network(services: dict[str, Any]) -> None:
    assert {tuple(one["networks"]) for one in services.values()} == {("flts",)}


def test_our_services_run_without_privileges(services: dict[str, Any]) -> None:
    for name in OURS:
        assert services[name]["cap_drop"] == ["ALL"], name
        assert not services[name].get("privileged"), name
    for name, settings in services.items():
        assert "no-new-privileges:true" in settings["security_opt"], name


def test_images_of_others_are_pinned(services: dict[str, Any]) -> None:
    for name in SERVICES - OURS:
        tag = services[name]["image"].rpartition(":")[2]
        assert any(character.isdigit() for character in tag), name
        assert tag not in ("latest", "main"), name


@pytest.mark.parametrize(
    ("service", "waits_for"),
    [
        ("mlflow", {"postgres", "object-store"}),
        ("code-server", {"postgres", "object-store", "mlflow"}),
        ("webserver", {"code-server"}),
        ("daemon", {"code-server"}),
        ("bootstrap", {"mlflow", "code-server"}),
        ("serving", {"object-store"}),
        ("proxy", {"serving"}),
    ],
)
def test_services_start_when_what_they_need_is_healthy(
    services: dict[str, Any], service: str, waits_for: set[str]
) -> None:
    found = services[service]["depends_on"]
    assert set(found) == waits_for
    assert {one["condition"] for one in found.values()} == {"service_healthy"}


def test_what_must_outlive_a_container_stands_on_a_volume(services: dict[str, Any]) -> None:
    volumes = {
        mount["source"]: mount["target"]
        for name in ("object-store", "postgres", "kafka")
        for mount in services[name]["volumes"]
        if mount["type"] == "volume"
    }
    assert volumes == {
        "objects": "/data",
        "postgres": "/var/lib/postgresql/data",
        "kafka": "/var/lib/kafka/data",
    }


def test_every_bucket_is_made_with_the_object_store(services: dict[str, Any]) -> None:
    made = services["object-store"]["environment"]["S3_BUCKET"].split(",")
    assert set(made) == {*BUCKETS, "compute-logs"}


def test_an_unset_value_stays_unset_and_a_set_one_passes(tmp_path: Path) -> None:
    env_file = filled_in(tmp_path, EXTRA_HASH_SALT="forceInfer1", SAMPLE_TRAIN_ROWS="50")
    found = rendered(env_file)["services"]["bootstrap"]["environment"]
    assert found["EXTRA_HASH_SALT"] == "forceInfer1"
    assert found["SAMPLE_TRAIN_ROWS"] == "50"
    assert found.get("SAMPLE_SEED") is None


def test_proxy_is_given_what_its_configuration_reads(services: dict[str, Any]) -> None:
    haproxy = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if haproxy is None:
        pytest.skip("no haproxy on this machine")
    done = subprocess.run(
        [haproxy, "-c", "-f", str(DOCKER / "haproxy.cfg")],
        env=services["proxy"]["environment"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
