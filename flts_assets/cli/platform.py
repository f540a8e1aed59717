"""The deployment that commands work on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from flts_assets.errors import EnvironmentValueError, InstanceError
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
    """The Dagster instance whose runs the UI shows. Raises EnvironmentValueError, InstanceError."""
    import dagster as dg

    from flts_assets.stores.opening import prepare_store

    if not os.environ.get("DAGSTER_HOME"):
        raise EnvironmentValueError(
            "environment variable DAGSTER_HOME is not set, or empty",
            remedy=(
                "set it to the folder that holds FLTS's dagster.yaml; a checkout installed with"
                " pip install -e . needs no setting"
            ),
        )
    platform.settings.home.mkdir(parents=True, exist_ok=True)
    prepare_store(platform.store)
    if _keeps_sqlite(Path(os.environ["DAGSTER_HOME"])):
        _build_sqlite(platform)
        return dg.DagsterInstance.get()
    return _of_server()


def _keeps_sqlite(dagster_home: Path) -> bool:
    """Whether this dagster.yaml keeps runs and events in SQLite; a server otherwise."""
    import yaml

    try:
        config = yaml.safe_load((dagster_home / "dagster.yaml").read_text()) or {}
    except FileNotFoundError:
        return True
    if "run_storage" in config:  # each store by itself, as Dagster's Helm chart writes it
        return False
    return "sqlite" in (config.get("storage") or {"sqlite": None})


def _build_sqlite(platform: Platform) -> None:
    """A fresh SQLite, built beside and moved into place when complete.

    Dagster migrates it without a lock: two at once, or a kill midway, leave it broken for good.
    """
    import dagster as dg
    from filelock import FileLock

    storage = platform.settings.dagster_storage
    with FileLock(platform.settings.home / "dagster.lock"):
        if storage.exists():
            return
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


def _of_server() -> dg.DagsterInstance:
    """The instance whose storage is a server. Raises InstanceError where it cannot be opened.

    First uses may come at once: Dagster begins again where somebody else made a table first.
    """
    import dagster as dg
    from sqlalchemy.exc import SQLAlchemyError

    try:
        from dagster_postgres.utils import DagsterPostgresException
    except ImportError as error:
        raise InstanceError(
            "this dagster.yaml keeps Dagster's storage on a server",
            remedy="pip install 'flts[postgres]'",
        ) from error
    try:
        instance = dg.DagsterInstance.get()
        _touch(instance)
    except (SQLAlchemyError, DagsterPostgresException) as error:
        # Not the error's own text: it may hold the address with its password.
        raise InstanceError(
            f"Dagster's storage cannot be opened ({type(error.__cause__ or error).__name__})",
            remedy="check FLTS_POSTGRES_HOST, _PORT, _USER, _PASSWORD, _DB and that the server runs",
        ) from error
    return instance


def _touch(instance: dg.DagsterInstance) -> None:
    """Have all three stores create their tables."""
    instance.get_runs(limit=1)
    instance.get_dynamic_partitions("config_hash")
    _ = instance.schedule_storage
