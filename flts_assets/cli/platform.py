"""The deployment that commands work on."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from flts_assets.errors import EnvironmentValueError
from flts_assets.recipe.environment import force_from, identifier_from

if TYPE_CHECKING:
    import dagster as dg

    from flts_assets.assets.platform import Platform

__all__ = ["open_instance", "open_platform"]

STORAGE_VARIABLE = "FLTS_DAGSTER_STORAGE"


def open_platform(*, force: bool = False) -> Platform:
    """Stores as the environment configures them; `force` adds to FORCE_REPROCESS."""
    from flts_assets.assets.platform import Platform

    return Platform(force=force or force_from(os.environ), identifier=identifier_from(os.environ))


def open_instance(platform: Platform) -> dg.DagsterInstance:
    """The Dagster instance whose runs the UI shows. Raises EnvironmentValueError."""
    import dagster as dg
    from filelock import FileLock

    if not os.environ.get("DAGSTER_HOME"):
        raise EnvironmentValueError(
            "environment variable DAGSTER_HOME is not set, or empty",
            remedy=(
                "set it to the folder that holds FLTS's dagster.yaml; a checkout installed with"
                " pip install -e . needs no setting"
            ),
        )
    storage = platform.settings.dagster_storage
    platform.settings.home.mkdir(parents=True, exist_ok=True)
    # Dagster migrates a fresh SQLite without a lock: two at once, or a kill midway, leave it broken
    # for good. So it is built beside, and moved into place when complete.
    with FileLock(platform.settings.home / "dagster.lock"):
        if not storage.exists():
            fresh = storage.with_name("dagster.new")
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            os.environ[STORAGE_VARIABLE] = str(fresh)
            try:
                with dg.DagsterInstance.get() as instance:
                    _touch(instance)
            finally:
                os.environ[STORAGE_VARIABLE] = str(storage)
            fresh.rename(storage)
    return dg.DagsterInstance.get()


def _touch(instance: dg.DagsterInstance) -> None:
    """Have all three stores create their tables."""
    instance.get_runs(limit=1)
    instance.get_dynamic_partitions("config_hash")
    _ = instance.schedule_storage
