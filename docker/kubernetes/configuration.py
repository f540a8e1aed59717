"""docker/.env as Kubernetes reads it: a ConfigMap and Secrets on stdout.

    python docker/kubernetes/configuration.py docker/.env | kubectl apply --namespace flts -f -

So the values that change what is asked for stand in one file, for compose and Kubernetes alike.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import yaml
from dotenv import dotenv_values

CONFIGURATION = (
    *("SAMPLE_TRAIN_ROWS", "SAMPLE_TEST_ROWS", "SAMPLE_STRATEGY", "SAMPLE_SEED"),
    *("EXTRA_HASH_SALT", "EXPECTED_MODEL_TYPES", "IDENTIFIER"),
    *("AWS_ENDPOINT_URL", "FLTS_S3_BUCKET_PREFIX"),
    *("FLTS_KAFKA_BOOTSTRAP_SERVERS", "FLTS_KAFKA_TOPIC_PREFIX"),
    *("FLTS_SERVING_CORS", "FLTS_SERVING_LOG", "FLTS_SERVING_MAX_BODY"),
    *("FLTS_SERVING_MAX_IN_FLIGHT", "FLTS_SERVING_POLL_S", "FLTS_INFERENCE_LOG_DAYS"),
)
"""passed on as they are, where they are set"""

DEFAULTS = {
    "AWS_REGION": "us-east-1",
    "FLTS_POSTGRES_HOST": "postgres",
    "FLTS_POSTGRES_PORT": "5432",
    "FLTS_POSTGRES_USER": "dagster",
    "FLTS_POSTGRES_DB": "dagster",
}

KAFKA_FILE = "FLTS_KAFKA_CONFIG_FILE"
KAFKA_PLACE = "/etc/flts-kafka/kafka.json"
"""where every pod has the file that docker/.env names, from the Secret `flts-kafka`"""

FIXED = {
    "FLTS_SERVING_URL": "http://flts-serving:8000",
    "FLTS_OBJECT_STORE": "s3",
    "AWS_RETRY_MODE": "standard",
    "AWS_MAX_ATTEMPTS": "2",
    "MLFLOW_TRACKING_URI": "http://flts-mlflow:5000",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}

SECRETS = {
    "flts": {
        "AWS_ACCESS_KEY_ID": "FLTS_S3_ACCESS_KEY",
        "AWS_SECRET_ACCESS_KEY": "FLTS_S3_SECRET_KEY",
        "FLTS_POSTGRES_PASSWORD": "FLTS_POSTGRES_PASSWORD",
    },
    "flts-serving": {
        "AWS_ACCESS_KEY_ID": "FLTS_S3_ACCESS_KEY",
        "AWS_SECRET_ACCESS_KEY": "FLTS_S3_SECRET_KEY",
        "FLTS_SERVING_TOKEN": "FLTS_SERVING_TOKEN",
    },
    "flts-mlflow": {
        "AWS_ACCESS_KEY_ID": "FLTS_S3_ACCESS_KEY",
        "AWS_SECRET_ACCESS_KEY": "FLTS_S3_SECRET_KEY",
        "PGPASSWORD": "FLTS_MLFLOW_DB_PASSWORD",
    },
    # Dagster's chart asks for this key.
    "flts-dagster-postgresql": {"postgresql-password": "FLTS_POSTGRES_PASSWORD"},
}
"""secret -> its keys -> the variable in docker/.env; nobody gets more than it uses"""


class MissingValueError(Exception):
    """A variable has no value."""


def configuration(variables: Mapping[str, str | None]) -> dict[str, str]:
    """What the ConfigMap `flts` holds."""
    data = {name: _value(variables, name) for name in CONFIGURATION if name in variables}
    for name, default in DEFAULTS.items():
        data[name] = _value(variables, name) if name in variables else default
    data.update(FIXED, AWS_DEFAULT_REGION=data["AWS_REGION"])
    if KAFKA_FILE in variables:
        data[KAFKA_FILE] = KAFKA_PLACE
    prefix = data.get("FLTS_S3_BUCKET_PREFIX", "")
    data["FLTS_MLFLOW_ARTIFACTS"] = f"s3://{prefix}mlflow"
    data["FLTS_COMPUTE_LOGS_BUCKET"] = f"{prefix}compute-logs"
    return dict(sorted(data.items()))


def manifests(variables: Mapping[str, str | None]) -> list[dict[str, object]]:
    """The ConfigMap and every Secret. Raises MissingValueError, and OSError for a file that it names."""
    config_map: dict[str, object] = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "flts", "labels": {"app.kubernetes.io/part-of": "flts"}},
        "data": configuration(variables),
    }
    secrets = [
        _secret(name, {key: _value(variables, source) for key, source in keys.items()})
        for name, keys in SECRETS.items()
    ]
    if KAFKA_FILE in variables:
        properties = Path(_value(variables, KAFKA_FILE)).read_text()
        secrets.append(_secret("flts-kafka", {Path(KAFKA_PLACE).name: properties}))
    return [config_map, *secrets]


def _secret(name: str, data: Mapping[str, str]) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "flts"}},
        "type": "Opaque",
        "stringData": dict(data),
    }


def _value(variables: Mapping[str, str | None], name: str) -> str:
    value = variables.get(name)
    if not value:
        raise MissingValueError(f"{name} has no value: fill it in, in docker/.env")
    return value


def main(*arguments: str) -> int:
    if len(arguments) != 1:
        sys.stderr.write(f"{__doc__}")
        return 2
    try:
        with Path(arguments[0]).open() as file:
            found = manifests(dotenv_values(stream=file))
    except (MissingValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    yaml.safe_dump_all(found, sys.stdout, sort_keys=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
