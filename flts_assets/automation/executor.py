"""Where and how steps run: forked on this machine, by Celery workers, or as Kubernetes jobs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import dagster as dg
import yaml

from flts_assets.errors import EnvironmentValueError
from flts_assets.settings import Settings

__all__ = ["PRELOAD_MODULE", "step_executor"]

PRELOAD_MODULE = "flts_assets.automation.preload"


def step_executor(settings: Settings) -> dg.ExecutorDefinition:
    """The executor that FLTS_EXECUTOR names. Raises EnvironmentValueError."""
    return _EXECUTORS[settings.executor](settings)


def _multiprocess(settings: Settings) -> dg.ExecutorDefinition:
    """Steps in own processes, as many at once as the deployment allows.

    They are forked from a server that has imported everything once.
    """
    methods: dict[str, dict[str, object]] = {
        "forkserver": {"preload_modules": [PRELOAD_MODULE]},
        "spawn": {},
    }
    return dg.multiprocess_executor.configured(
        {
            "max_concurrent": settings.step_concurrency,
            "start_method": {settings.step_start: methods[settings.step_start]},
        }
    )


def _celery(settings: Settings) -> dg.ExecutorDefinition:
    """Each step in whichever worker (`flts worker`) takes it first from Redis."""
    try:
        from dagster_celery import celery_executor
    except ImportError as error:
        raise EnvironmentValueError(
            "environment variable FLTS_EXECUTOR asks for what is not installed",
            received=settings.executor,
            remedy="pip install 'flts[celery]'",
        ) from error
    from flts_assets.automation.celery_config import celery_config, configured

    celery = configured(settings)
    # The addresses may hold a password, and what is configured here shows in Dagster's UI.
    backend = "BACKEND" if "FLTS_CELERY_BACKEND_URL" in os.environ else "BROKER"
    executor: dg.ExecutorDefinition = celery_executor.configured(
        {
            "broker": {"env": "FLTS_CELERY_BROKER_URL"},
            "backend": {"env": f"FLTS_CELERY_{backend}_URL"},
            "config_source": celery_config(celery),
        }
    )
    return executor


def _k8s(settings: Settings) -> dg.ExecutorDefinition:
    """Each step a Kubernetes job, as large as the file FLTS_K8S_STEPS says.

    Image, variables, secrets and volumes of a step are those of its run.
    """
    try:
        from dagster_k8s import k8s_job_executor
    except ImportError as error:
        raise EnvironmentValueError(
            "environment variable FLTS_EXECUTOR asks for what is not installed",
            received=settings.executor,
            remedy="pip install 'flts[k8s]'",
        ) from error
    return k8s_job_executor.configured(_job_sizes(settings.k8s_steps_file))


def _job_sizes(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        config = yaml.safe_load(file.read_text())
    except (ValueError, yaml.YAMLError) as error:
        raise EnvironmentValueError(
            f"the file that FLTS_K8S_STEPS names is not YAML: {error}",
            received=str(file),
            remedy="docker/kubernetes/steps.yaml is an example",
        ) from error
    if not isinstance(config, dict):
        raise EnvironmentValueError(
            "the file that FLTS_K8S_STEPS names holds no mapping",
            received=str(file),
            allowed="fields of dagster-k8s' k8s_job_executor, such as per_step_k8s_config",
            remedy="docker/kubernetes/steps.yaml is an example",
        )
    return config


_EXECUTORS: Final[Mapping[str, Callable[[Settings], dg.ExecutorDefinition]]] = {
    "multiprocess": _multiprocess,
    "celery": _celery,
    "k8s": _k8s,
}
