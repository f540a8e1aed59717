"""The files for Kubernetes, checked against its own schemas, and against compose."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config

from flts_assets.automation.executor import step_executor
from flts_assets.automation.launch import LOCATION
from flts_assets.errors import EnvironmentValueError
from flts_assets.serving import settings as serving_settings
from flts_assets.settings import PROJECT, Settings
from flts_assets_tests.docker.containers import DOCKER, SECRETS, filled_in, rendered
from flts_assets_tests.servers.process import program

FOLDER = DOCKER / "kubernetes"
VERSION = "1.37"
MANIFESTS = ("serving.yaml", "mlflow.yaml", "bootstrap.yaml")
SECRET_NAMES = ("flts", "flts-serving", "flts-mlflow", "flts-dagster-postgresql")
CHART = os.environ.get("FLTS_DAGSTER_CHART")
"""a folder or archive of Dagster's Helm chart, for the test that renders it"""
RECIPE_ONLY = ("SAMPLE_", "EXTRA_HASH_SALT", "EXPECTED_MODEL_TYPES", "IDENTIFIER")

SAMPLE50 = "8999be31be63d86d0bfcd155ea74a56b6192a9dfa2490f077d019571a6deed1f"


def documents(text: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(text) if one]


def configured(env_file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(FOLDER / "configuration.py"), str(env_file)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def config_map(env_file: Path) -> dict[str, str]:
    done = configured(env_file)
    assert done.returncode == 0, done.stderr
    (found,) = [one for one in documents(done.stdout) if one["kind"] == "ConfigMap"]
    data: dict[str, str] = found["data"]
    return data


def validated(path: Path) -> subprocess.CompletedProcess[str]:
    command = [program("kubernetes-validate"), "-k", VERSION, "--strict", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def hash_under(variables: dict[str, str], home: Path) -> str:
    """What `flts recipe hash` says where only these variables are set."""
    asked = {name: text for name, text in variables.items() if name.startswith(RECIPE_ONLY)}
    users = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    flts = "from flts_assets.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", flts, "recipe", "hash", "recipes/full.yaml"],
        env={**users, **asked, "FLTS_HOME": str(home)},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- manifests -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifest_keeps_kubernetes_own_schema(name: str) -> None:
    done = validated(FOLDER / name)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_check_can_fail(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text((FOLDER / "serving.yaml").read_text().replace("livenessProbe", "lifenessProbe"))
    assert validated(path).returncode != 0


def test_kustomization_names_every_manifest() -> None:
    found = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    assert tuple(found["resources"]) == MANIFESTS


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl in PATH")
def test_kustomized_manifests_keep_the_schema_and_stand_in_the_namespace(tmp_path: Path) -> None:
    command = ["kubectl", "kustomize", str(FOLDER)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    path = tmp_path / "kustomized.yaml"
    path.write_text(done.stdout)
    checked = validated(path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert {one["metadata"]["namespace"] for one in documents(done.stdout)} == {"flts"}


def test_configuration_and_secrets_keep_the_schema(tmp_path: Path) -> None:
    path = tmp_path / "configuration.yaml"
    path.write_text(configured(filled_in(tmp_path)).stdout)
    done = validated(path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_serving_is_spread_probed_scaled_and_never_wholly_evicted() -> None:
    kinds = {one["kind"]: one for one in documents((FOLDER / "serving.yaml").read_text())}
    pod = kinds["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert {"requests", "limits"} <= set(container["resources"])
    assert pod["securityContext"]["runAsNonRoot"]
    scaler = kinds["HorizontalPodAutoscaler"]["spec"]
    assert scaler["metrics"][0]["pods"]["metric"]["name"] == "flts_forecasts_per_second"
    assert scaler["minReplicas"] >= 2
    assert kinds["PodDisruptionBudget"]["spec"]["maxUnavailable"] < scaler["minReplicas"]


def test_every_variable_source_that_a_manifest_names_is_made(tmp_path: Path) -> None:
    made = {
        (one["kind"], one["metadata"]["name"])
        for one in documents(configured(filled_in(tmp_path)).stdout)
    }
    named = set()
    for name in MANIFESTS:
        for one in documents((FOLDER / name).read_text()):
            if one["kind"] not in ("Deployment", "Job"):
                continue
            for container in one["spec"]["template"]["spec"]["containers"]:
                for source in container["envFrom"]:
                    kind = "ConfigMap" if "configMapRef" in source else "Secret"
                    named.add((kind, next(iter(source.values()))["name"]))
    assert named <= made


# --- one source of configuration -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "config_hash"),
    [
        (
            {
                "SAMPLE_TRAIN_ROWS": "50",
                "SAMPLE_TEST_ROWS": '"50"',
                "EXTRA_HASH_SALT": "forceInfer1",
            },
            SAMPLE50,
        ),
        ({"EXTRA_HASH_SALT": "'spaces, a # and an = sign'", "SAMPLE_STRATEGY": "random"}, None),
    ],
)
def test_compose_and_kubernetes_ask_for_the_same_recipe(
    tmp_path: Path, asked: dict[str, str], config_hash: str | None
) -> None:
    env_file = filled_in(tmp_path, **asked)
    given = rendered(env_file)["services"]["bootstrap"]["environment"]
    by_compose = {name: text for name, text in given.items() if text is not None}
    found = hash_under(by_compose, tmp_path)
    assert hash_under(config_map(env_file), tmp_path) == found
    assert config_hash is None or found == config_hash


@pytest.mark.parametrize("service", ["serving", "code-server"])
def test_limits_of_the_service_and_of_its_log_reach_compose_and_kubernetes(
    tmp_path: Path, service: str
) -> None:
    settings = re.findall(r"^(FLTS_SERVING_\w+) ", serving_settings.__doc__ or "", re.MULTILINE)
    # A secret, and what `flts serve` sets.
    ours = {"FLTS_SERVING_TOKEN", "FLTS_SERVING_CONFIG_HASH", "FLTS_SERVING_WORKERS"}
    limits = sorted(set(settings) - ours) if service == "serving" else ["FLTS_INFERENCE_LOG_DAYS"]
    assert limits
    given = {name: f"{number}" for number, name in enumerate(limits, 1)}
    env_file = filled_in(tmp_path, **given)
    by_compose = rendered(env_file)["services"][service]["environment"]
    assert given.items() <= by_compose.items()
    assert given.items() <= config_map(env_file).items()


def test_clients_of_s3_and_mlflow_give_up_in_containers_as_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [one for one in os.environ if one.startswith(("AWS_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    told = Settings.from_environment({"FLTS_OBJECT_STORE": "s3"}).exported()
    bounds = {name: text for name, text in told.items() if name.startswith(("AWS_M", "AWS_RET"))}
    assert bounds == {"AWS_RETRY_MODE": "standard", "AWS_MAX_ATTEMPTS": "2"}
    env_file = filled_in(tmp_path)
    services = rendered(env_file)["services"]
    assert bounds.items() <= services["mlflow"]["environment"].items(), "it asks S3 itself"
    bounds |= {name: text for name, text in told.items() if name.startswith("MLFLOW_HTTP")}
    assert len(bounds) == 4
    for name in ("code-server", "webserver", "daemon", "bootstrap"):
        assert bounds.items() <= services[name]["environment"].items(), name
    assert bounds.items() <= config_map(env_file).items()


def test_mlflow_servers_run_no_jobs_and_answer_to_their_own_names(tmp_path: Path) -> None:
    service = rendered(filled_in(tmp_path))["services"]["mlflow"]
    (pod,) = [
        one
        for one in documents((FOLDER / "mlflow.yaml").read_text())
        if one["kind"] == "Deployment"
    ]
    (container,) = pod["spec"]["template"]["spec"]["containers"]
    variables = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    for environment, arguments, name in (
        (service["environment"], service["command"], "mlflow"),
        (variables, container["args"], "flts-mlflow"),
    ):
        assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
        assert f"--allowed-hosts={name}:*,localhost:*,127.0.0.1:*" in arguments


def test_properties_for_kafka_are_a_secret_that_every_reader_of_their_place_has(
    tmp_path: Path,
) -> None:
    assert "FLTS_KAFKA_CONFIG_FILE" not in config_map(filled_in(tmp_path))
    file = tmp_path / "properties.json"
    file.write_text('{"sasl.password": "pa$$word"}')
    done = configured(filled_in(tmp_path, FLTS_KAFKA_CONFIG_FILE=str(file)))
    made = {(one["kind"], one["metadata"]["name"]): one for one in documents(done.stdout)}
    place = Path(made["ConfigMap", "flts"]["data"]["FLTS_KAFKA_CONFIG_FILE"])
    assert made["Secret", "flts-kafka"]["stringData"] == {place.name: file.read_text()}

    values = yaml.safe_load((FOLDER / "dagster-values.yaml").read_text())
    readers = [
        *values["dagster-user-deployments"]["deployments"],
        *(values[name] for name in ("dagsterWebserver", "dagsterDaemon")),
    ]
    for name in ("serving.yaml", "bootstrap.yaml"):
        for one in documents((FOLDER / name).read_text()):
            if one["kind"] in ("Deployment", "Job"):
                pod = one["spec"]["template"]["spec"]
                readers.append(pod | pod["containers"][0])
    assert len(readers) == 5
    volume = {"name": "kafka", "secret": {"secretName": "flts-kafka", "optional": True}}
    mount = {"name": "kafka", "mountPath": str(place.parent), "readOnly": True}
    for reader in readers:
        assert volume in reader["volumes"]
        assert mount in reader["volumeMounts"]


def test_missing_file_of_variables_is_said_to_be_missing(tmp_path: Path) -> None:
    done = configured(tmp_path / "nowhere")
    assert done.returncode == 1
    assert f"No such file or directory: '{tmp_path / 'nowhere'}'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("missing", SECRETS)
def test_nothing_is_configured_without_every_secret(tmp_path: Path, missing: str) -> None:
    done = configured(filled_in(tmp_path, **{missing: ""}))
    if missing == "FLTS_POSTGRES_ADMIN_PASSWORD":  # compose's own server
        assert done.returncode == 0
        return
    assert done.returncode == 1
    assert done.stdout == ""
    assert missing in done.stderr


def test_secrets_stand_in_secrets_alone(tmp_path: Path) -> None:
    given = {name: f"value-of-{name}" for name in SECRETS}
    assert set(given.values()) & set(config_map(filled_in(tmp_path, **given)).values()) == set()


# --- Dagster on Kubernetes -----------------------------------------------------------------------


def test_steps_become_jobs_of_their_own_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"FLTS_EXECUTOR": "k8s", "FLTS_K8S_STEPS": str(FOLDER / "steps.yaml")}
    executor = step_executor(Settings.from_environment(environ))
    assert executor.name == "k8s"
    config = executor.apply_config_mapping({}).value["config"]  # checked by dagster-k8s' own schema
    assert config["max_concurrent"] == 6
    limits = {
        step: one["container_config"]["resources"]["limits"]
        for step, one in config["per_step_k8s_config"].items()
    }
    assert limits["gru_model"] == {"cpu": "2", "memory": "3Gi"}
    assert limits["leaderboard"]["cpu"] == "1"
    monkeypatch.setattr("flts_assets.settings.cores", lambda: 4)
    assert Settings.from_environment(environ).step_threads == 4, "a step is alone in its pod"


def test_every_sized_step_is_an_asset_of_the_pipeline() -> None:
    from flts_assets.definitions import defs

    config = yaml.safe_load((FOLDER / "steps.yaml").read_text())
    steps = {node.name for node in defs.resolve_job_def("pipeline").nodes}
    assert set(config["per_step_k8s_config"]) <= steps


def test_an_unknown_executor_and_a_missing_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(
        EnvironmentValueError, match=r"FLTS_EXECUTOR.*'slurm'.*multiprocess, celery, k8s"
    ):
        Settings.from_environment({"FLTS_EXECUTOR": "slurm"})
    with pytest.raises(EnvironmentValueError, match=r"FLTS_K8S_STEPS.*steps\.yaml"):
        Settings.from_environment({"FLTS_K8S_STEPS": str(tmp_path / "steps.yaml")})
    wrong = tmp_path / "wrong.yaml"
    environ = {"FLTS_EXECUTOR": "k8s", "FLTS_K8S_STEPS": str(wrong)}
    for text, told in (
        (b"- gru_model\n", "no mapping"),
        (b"a: [", "not YAML"),
        (b"\xff", "not YAML"),
    ):
        wrong.write_bytes(text)
        with pytest.raises(EnvironmentValueError, match=rf"FLTS_K8S_STEPS.*{told}"):
            step_executor(Settings.from_environment(environ))


def test_dagsters_chart_gets_the_pinned_version_and_our_names() -> None:
    text = (FOLDER / "dagster-values.yaml").read_text()
    constraints = (DOCKER / "constraints.txt").read_text()
    (version,) = [line[9:] for line in constraints.splitlines() if line.startswith("dagster==")]
    assert f"--version {version}" in text
    values = yaml.safe_load(text)
    (code,) = values["dagster-user-deployments"]["deployments"]
    assert code["env"]["FLTS_EXECUTOR"] == "k8s"
    assert code["includeConfigInLaunchedRuns"]["enabled"]
    assert code["volumes"][0]["configMap"]["name"] == "flts-steps"
    assert code["env"]["FLTS_K8S_STEPS"].startswith(code["volumeMounts"][0]["mountPath"])
    assert values["dagsterWebserver"]["image"] == code["image"] == values["dagsterDaemon"]["image"]
    (server,) = values["dagsterWebserver"]["workspace"]["servers"]
    assert server == {"host": code["name"], "port": code["port"], "name": LOCATION}
    assert code["dagsterApiGrpcArgs"][-2:] == ["--location-name", LOCATION]


def instance_config(dagster_yaml: str, home: Path) -> dict[str, Any]:
    """What Dagster itself reads; it raises where a field is not one of its own."""
    (home / "dagster.yaml").write_text(dagster_yaml)
    config, _own_class = dagster_instance_config(str(home))
    return dict(config)


@pytest.mark.skipif(CHART is None, reason="FLTS_DAGSTER_CHART names no copy of Dagster's chart")
def test_dagsters_chart_renders_an_instance_as_compose_has_it(tmp_path: Path) -> None:
    assert CHART is not None
    helm = shutil.which("helm")
    assert helm is not None, "FLTS_DAGSTER_CHART is set, and no helm in PATH"
    values = str(FOLDER / "dagster-values.yaml")
    done = subprocess.run(
        [helm, "template", "dagster", CHART, "--namespace", "flts", "--values", values],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    path = tmp_path / "rendered.yaml"
    path.write_text(done.stdout)
    checked = validated(path)
    assert checked.returncode == 0, checked.stdout + checked.stderr

    made = {(one["kind"], one["metadata"]["name"]): one for one in documents(done.stdout)}
    rendered_yaml = made["ConfigMap", "dagster-instance"]["data"]["dagster.yaml"]
    config = instance_config(rendered_yaml, tmp_path)
    launcher = config["run_launcher"]
    assert launcher["class"] == "WatchedK8sRunLauncher"
    assert ("ServiceAccount", launcher["config"]["service_account_name"]) in made
    assert ("ConfigMap", launcher["config"]["instance_config_map"]) in made
    assert launcher["config"]["postgres_password_secret"] in SECRET_NAMES
    compose = instance_config((DOCKER / "dagster.yaml").read_text(), tmp_path)
    for key in ("telemetry", "nux", "run_retries"):
        assert config[key] == compose[key]
    for key in (
        "cancel_timeout_seconds",
        "max_runtime_seconds",
        "free_slots_after_run_end_seconds",
    ):
        assert config["run_monitoring"][key] == compose["run_monitoring"][key]
    assert config["concurrency"]["pools"] == compose["concurrency"]["pools"]
    logs = config["compute_logs"]["config"]
    assert logs["bucket"] == compose["compute_logs"]["config"]["bucket"]
    workspace = yaml.safe_load(
        made["ConfigMap", "dagster-workspace-yaml"]["data"]["workspace.yaml"]
    )
    assert workspace["load_from"][0]["grpc_server"]["location_name"] == LOCATION
