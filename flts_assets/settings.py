"""Where everything lives, read from the environment once.

FLTS_HOME              the data directory; default: .flts beside dagster.yaml in a checkout
MLFLOW_TRACKING_URI    an MLflow server or database; default: SQLite under FLTS_HOME
FLTS_STEP_CONCURRENCY  steps of one run at a time; default: as many as there are cores, at most 3
FLTS_STEP_START        how a step's process starts: forkserver (default) or spawn

FLTS_HOME/
  dataset/ processed-data/ models/ model-promotion/ …   the object store's buckets
  mlflow/artifacts   mlflow.db                          MLflow
  dagster/                                              Dagster's runs, events and logs
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from flts_assets.errors import EnvironmentValueError

__all__ = ["Settings"]

PROJECT = Path(__file__).resolve().parent.parent
"""the checkout, where the package was installed from one"""


@dataclass(frozen=True)
class Settings:
    """The platform's places and shares."""

    home: Path
    tracking_uri: str
    step_concurrency: int
    step_start: str = "forkserver"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Raises EnvironmentValueError for a variable that is set but empty or malformed."""
        environ = os.environ if environ is None else environ
        default_home = PROJECT if (PROJECT / "dagster.yaml").exists() else Path.home()
        home = Path(_text(environ, "FLTS_HOME", str(default_home / ".flts"))).expanduser().resolve()
        return cls(
            home=home,
            tracking_uri=_text(environ, "MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow.db'}"),
            step_concurrency=_concurrency(environ),
            step_start=_step_start(environ),
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
    def recipes_folder(self) -> Path:
        return PROJECT / "recipes"

    @property
    def step_threads(self) -> int:
        """A step's share of the cores: all steps of a run together never use more than there are."""
        return max(1, cores() // self.step_concurrency)

    def exported(self) -> dict[str, str]:
        """The variables that Dagster's own commands need to work on this state."""
        variables = {
            "FLTS_HOME": str(self.home),
            "FLTS_DAGSTER_STORAGE": str(self.dagster_storage),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "1",
        }
        for name in ("MLFLOW_TRACKING_URI", "FLTS_STEP_CONCURRENCY", "FLTS_STEP_START"):
            if name in os.environ:
                variables[name] = os.environ[name]
        # MLflow's own bounds are minutes; a user's setting stays.
        for name, value in (
            ("MLFLOW_HTTP_REQUEST_TIMEOUT", "30"),
            ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"),
        ):
            variables[name] = os.environ.get(name, value)
        if "DAGSTER_HOME" in os.environ:
            variables["DAGSTER_HOME"] = os.environ["DAGSTER_HOME"]
        elif (PROJECT / "dagster.yaml").exists():
            variables["DAGSTER_HOME"] = str(PROJECT)
        return variables


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


def _concurrency(environ: Mapping[str, str]) -> int:
    text = _text(environ, "FLTS_STEP_CONCURRENCY", "")
    if not text:
        return min(cores(), 3)
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise EnvironmentValueError(
            "environment variable FLTS_STEP_CONCURRENCY is not usable",
            received=text,
            allowed="a whole number from 1 to 64",
            remedy="correct or unset it",
        )
    return int(text)


def _step_start(environ: Mapping[str, str]) -> str:
    text = _text(environ, "FLTS_STEP_START", "forkserver")
    if text not in ("forkserver", "spawn"):
        raise EnvironmentValueError(
            "environment variable FLTS_STEP_START is not usable",
            received=text,
            allowed="forkserver, spawn",
            remedy="correct or unset it",
        )
    return text


def _text(environ: Mapping[str, str], name: str, default: str) -> str:
    text = environ.get(name)
    if text is None:
        return default
    if not text.strip():
        raise EnvironmentValueError(
            f"environment variable {name} is empty",
            received=text,
            allowed="any text",
            remedy=f"set a value, or unset {name} for the default {default!r}",
        )
    return text.strip()
