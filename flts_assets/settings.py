"""Where everything lives, read from the environment once.

FLTS_HOME              the data directory; default: .flts beside dagster.yaml in a checkout
FLTS_RECIPES_FOLDER    recipe files and templates; default: recipes/ of a checkout
MLFLOW_TRACKING_URI    an MLflow server or database, no password in it; default: SQLite under FLTS_HOME

FLTS_EXECUTOR          where steps run: multiprocess (default), processes of this machine; celery: workers
                       (`flts worker`) on any machine; k8s: jobs of a Kubernetes cluster
FLTS_STEP_CONCURRENCY  steps of one run at a time; default: as many as there are cores, at most 3
FLTS_STEP_START        how a step's process starts: forkserver (default) or spawn
FLTS_CELERY_BROKER_URL   redis://host:port/number: where steps wait for a worker
FLTS_CELERY_BACKEND_URL  where workers leave a step's result; default: the broker
FLTS_CELERY_LOST_AFTER_S seconds of a worker's silence after which others take its steps; default 120
FLTS_K8S_STEPS         YAML file: how large those jobs are (dagster-k8s' k8s_job_executor)

FLTS_OBJECT_STORE      directory (default): below FLTS_HOME; s3: buckets at AWS_ENDPOINT_URL, or AWS
FLTS_S3_BUCKET_PREFIX  put before each bucket's name on S3; default: nothing
FLTS_S3_TIMEOUT_S      seconds of silence before a request to S3 is given up; default 20
AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY: as everywhere; secrets are
read by boto3 alone and never written down

FLTS_KAFKA_BOOTSTRAP_SERVERS  host:port,host:port of a Kafka cluster; none: no events are sent anywhere
FLTS_KAFKA_CONFIG_FILE        JSON of further librdkafka properties, such as those of SASL and TLS
FLTS_KAFKA_TOPIC_PREFIX       put before each topic's name

FLTS_SERVING_URL         where `flts doctor` looks for the service; default: http://127.0.0.1:8000
FLTS_INFERENCE_LOG_DAYS  whole days that the prediction log is kept before today; default 90

FLTS_HOME/
  dataset/ processed-data/ models/ model-promotion/ …   the object store's buckets
  mlflow/artifacts   mlflow.db                          MLflow
  dagster/                                              Dagster's runs, events and logs
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from flts_assets.environment import Environment
from flts_assets.errors import EnvironmentValueError

__all__ = ["CelerySettings", "KafkaSettings", "Settings"]

PROJECT = Path(__file__).resolve().parent.parent
"""the checkout, where the package was installed from one"""


@dataclass(frozen=True)
class KafkaSettings:
    """Where the message broker is. Its secrets stay in the file."""

    bootstrap_servers: str
    config_file: Path | None = None
    topic_prefix: str = ""

    def topic(self, name: str) -> str:
        """What this deployment calls the topic."""
        return self.topic_prefix + name


@dataclass(frozen=True)
class CelerySettings:
    """Where steps wait for workers. The addresses may hold a password: they are not shown."""

    broker_url: str = field(repr=False)
    backend_url: str = field(repr=False)
    lost_after_s: int = 120


@dataclass(frozen=True)
class Settings:
    """The platform's places and shares."""

    home: Path
    tracking_uri: str
    step_concurrency: int
    recipes_folder: Path = PROJECT / "recipes"
    step_start: str = "forkserver"
    executor: str = "multiprocess"
    k8s_steps_file: Path | None = None
    celery: CelerySettings | None = None
    object_store: str = "directory"
    bucket_prefix: str = ""
    s3_timeout_s: float = 20.0
    region: str | None = None
    """of S3; None: as boto3 finds it"""
    kafka: KafkaSettings | None = None
    serving_url: str = "http://127.0.0.1:8000"
    inference_log_days: int = 90

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Raises EnvironmentValueError for a variable that is set but empty or malformed."""
        read = Environment(os.environ if environ is None else environ)
        default_home = PROJECT if (PROJECT / "dagster.yaml").exists() else Path.home()
        home = read.path("FLTS_HOME", default_home / ".flts")
        return cls(
            home=home,
            recipes_folder=read.path("FLTS_RECIPES_FOLDER", PROJECT / "recipes"),
            tracking_uri=_tracking_uri(read, f"sqlite:///{home / 'mlflow.db'}"),
            step_concurrency=read.count("FLTS_STEP_CONCURRENCY", min(cores(), 3), 1, 64),
            step_start=read.choice("FLTS_STEP_START", "forkserver", "spawn"),
            executor=read.choice("FLTS_EXECUTOR", "multiprocess", "celery", "k8s"),
            k8s_steps_file=read.file("FLTS_K8S_STEPS"),
            celery=_celery(read),
            object_store=read.choice("FLTS_OBJECT_STORE", "directory", "s3"),
            bucket_prefix=read.matching(
                "FLTS_S3_BUCKET_PREFIX",
                r"[a-z0-9][a-z0-9-]{0,39}",
                "at most 40 lower-case letters, digits and dashes, no dash first",
            ),
            s3_timeout_s=read.number("FLTS_S3_TIMEOUT_S", 20.0, 0.1, 600),
            region=read.text("AWS_REGION") or read.text("AWS_DEFAULT_REGION"),
            kafka=_kafka(read),
            serving_url=read.text("FLTS_SERVING_URL", "http://127.0.0.1:8000").rstrip("/"),
            inference_log_days=read.count("FLTS_INFERENCE_LOG_DAYS", 90, 1, 100_000),
        )

    @property
    def dagster_storage(self) -> Path:
        return self.home / "dagster"

    @property
    def mlflow_artifacts(self) -> Path:
        return self.home / "mlflow" / "artifacts"

    @property
    def step_log(self) -> Path:
        """What libraries and steps print during `flts run`."""
        return self.home / "logs" / "steps.log"

    @property
    def step_threads(self) -> int:
        """A step's share of the cores: all steps of a run together never use more than there are."""
        if self.executor == "k8s":  # a step is alone in its pod
            return cores()
        return max(1, cores() // self.step_concurrency)

    @property
    def trainers(self) -> int | None:
        """How many steps may train at once, all runs together; None: as many as workers have room for."""
        return None if self.executor in ("celery", "k8s") else self.step_concurrency

    def exported(self) -> dict[str, str]:
        """The variables that Dagster's own commands need to work on this state."""
        variables = {
            "FLTS_HOME": str(self.home),
            "FLTS_DAGSTER_STORAGE": str(self.dagster_storage),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
            "DO_NOT_TRACK": "1",
        }
        for name in _PASSED_ON:
            if name in os.environ:
                variables[name] = os.environ[name]
        for name in ("FLTS_CELERY_BROKER_URL", "FLTS_CELERY_BACKEND_URL"):
            if name in os.environ and urlsplit(os.environ[name]).password is None:
                variables[name] = os.environ[name]
        if self.object_store == "s3":
            variables.update(self._exported_for_s3())
        if "FLTS_RECIPES_FOLDER" in os.environ:
            variables["FLTS_RECIPES_FOLDER"] = str(self.recipes_folder)
        # MLflow's own bounds are minutes. Threads that wait for work by spinning take the cores from
        # those that have some: on busy cores training was twenty times slower. A user's setting stays.
        for name, value in (
            ("OMP_WAIT_POLICY", "PASSIVE"),
            ("MLFLOW_HTTP_REQUEST_TIMEOUT", "30"),
            ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"),
        ):
            variables[name] = os.environ.get(name, value)
        if "DAGSTER_HOME" in os.environ:
            variables["DAGSTER_HOME"] = os.environ["DAGSTER_HOME"]
        elif (PROJECT / "dagster.yaml").exists():
            variables["DAGSTER_HOME"] = str(PROJECT)
        return variables

    def _exported_for_s3(self) -> dict[str, str]:
        """For those who speak to S3 beside FLTS's own store: Dagster's compute logs, MLflow.

        They cannot be told to wait for less than a minute, but to try twice instead of five times.
        """
        variables = {
            "FLTS_COMPUTE_LOGS_BUCKET": f"{self.bucket_prefix}compute-logs",
            "AWS_RETRY_MODE": os.environ.get("AWS_RETRY_MODE", "standard"),
            "AWS_MAX_ATTEMPTS": os.environ.get("AWS_MAX_ATTEMPTS", "2"),
        }
        if self.region is not None:  # boto3 does not read AWS_REGION
            variables["AWS_DEFAULT_REGION"] = self.region
        return variables


_PASSED_ON = (
    "MLFLOW_TRACKING_URI",
    "FLTS_STEP_CONCURRENCY",
    "FLTS_STEP_START",
    "FLTS_EXECUTOR",
    "FLTS_K8S_STEPS",
    "FLTS_CELERY_LOST_AFTER_S",
    "FLTS_OBJECT_STORE",
    "FLTS_S3_BUCKET_PREFIX",
    "FLTS_S3_TIMEOUT_S",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "FLTS_KAFKA_BOOTSTRAP_SERVERS",
    "FLTS_KAFKA_CONFIG_FILE",
    "FLTS_KAFKA_TOPIC_PREFIX",
    "FLTS_INFERENCE_LOG_DAYS",
)
"""settings of the user's that others need too; no secret is among them"""


@cache
def cores() -> int:
    """Cores this process may use: its affinity, and its container's quota (cgroup v2)."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        quota_cores = max(1, int(quota) // int(period))
    except (OSError, ValueError):  # no cgroup v2, or the quota is "max"
        return affinity or 1
    return min(affinity or 1, quota_cores)


def _tracking_uri(read: Environment, default: str) -> str:
    """It shows in metadata, reports and errors, and `.env` holds it: so it must hold no password."""
    text = read.text("MLFLOW_TRACKING_URI", default)
    if re.match(r"[^/]*//[^/@]*:[^/@]*@", text):
        raise EnvironmentValueError(
            "environment variable MLFLOW_TRACKING_URI holds a password",
            allowed="an address without one, such as http://host:5000",
            remedy=(
                "take it out; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD for a server,"
                " PGPASSWORD for PostgreSQL"
            ),
        )
    return text


def _kafka(read: Environment) -> KafkaSettings | None:
    servers = read.text("FLTS_KAFKA_BOOTSTRAP_SERVERS")
    prefix = read.matching(
        "FLTS_KAFKA_TOPIC_PREFIX",
        r"[A-Za-z0-9._-]{1,100}",
        "letters, digits and . _ - (at most 100)",
    )
    file = read.file("FLTS_KAFKA_CONFIG_FILE")
    return None if servers is None else KafkaSettings(servers, file, prefix)


def _celery(read: Environment) -> CelerySettings | None:
    broker = _redis_url(read, "FLTS_CELERY_BROKER_URL")
    backend = _redis_url(read, "FLTS_CELERY_BACKEND_URL")
    lost_after_s = read.count("FLTS_CELERY_LOST_AFTER_S", 120, 6, 86_400)
    return None if broker is None else CelerySettings(broker, backend or broker, lost_after_s)


def _redis_url(read: Environment, name: str) -> str | None:
    """An error does not show the address: it may hold a password."""
    text = read.text(name)
    if text is not None and not re.fullmatch(r"rediss?://\S+", text):
        raise EnvironmentValueError(
            f"environment variable {name} is not the address of a Redis server",
            allowed="redis://host:port/number, or rediss:// with TLS",
            remedy=f"correct it, or unset {name}",
        )
    return text
