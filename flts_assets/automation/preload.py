"""Imported once by the fork server, so that a step starts with everything in memory.

Order matters: the thread share is set before any library reads it. What a forked step would otherwise
import again is listed too; some of it has private names, which may move, so each is optional. A failure
in here would be silent (dagster#30893): a test asserts that steps find torch loaded.
"""

from __future__ import annotations

import gc
import importlib
import os
from contextlib import suppress

from flts_assets.settings import Settings

_settings = Settings.from_environment()
_share = str(_settings.step_threads)
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, _share)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see Settings.exported

_MODULES = (
    "flts_assets.definitions",
    "flts_assets.forecasting.recurrent",
    "flts_assets.forecasting.training",
    "flts_assets.forecasting.baselines",
    "safetensors.torch",
    "onnx",
    "onnxruntime",
    "prophet",
    "prophet.serialize",
    "pandera.pandas",
    "pyarrow.parquet",
    "matplotlib.backends.backend_agg",
    "PIL.PngImagePlugin",
    "jinja2",
    "mlflow",
    "mlflow.tracking.client",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.artifact.local_artifact_repo",
    "dagster_mlflow.resources",
    "alembic.command",
    "alembic.script",
    "sqlalchemy.dialects.sqlite.pysqlite",
    "filelock",
    "structlog",
    "tqdm",
    "upath",
    "dagster._core.storage.sqlite_storage",
    "dagster._core.storage.event_log.sqlite.sqlite_event_log",
    "dagster._core.storage.runs.sqlite.sqlite_run_storage",
    "dagster._core.storage.schedules.sqlite.sqlite_schedule_storage",
    "dagster._core.storage.local_compute_log_manager",
    "dagster._core.run_coordinator.default_run_coordinator",
    "dagster._core.launcher.default_run_launcher",
    "flts_assets.automation.run_launcher",
)
_SERVERS = (
    "boto3",
    "dagster_aws.s3.compute_log_manager",
    "dagster_postgres",
    "sqlalchemy.dialects.postgresql.psycopg2",
    "mlflow.store.artifact.mlflow_artifacts_repo",
)
"""only where bytes stand on a server: elsewhere they would be memory for nothing"""

for _name in _MODULES + (_SERVERS if _settings.object_store == "s3" else ()):
    with suppress(ImportError):
        importlib.import_module(_name)

# What is here stays: a forked step's garbage collector need not walk it, nor copy its pages.
gc.freeze()
