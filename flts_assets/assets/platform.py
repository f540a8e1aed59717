"""The resource through which assets reach everything outside the process."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import dagster as dg
from pydantic import Field

from flts_assets.logs import EventLog
from flts_assets.settings import Settings
from flts_assets.stores.artifacts import Artifacts
from flts_assets.stores.object_store import ObjectStore
from flts_assets.stores.opening import open_store
from flts_assets.stores.pointer import Pointer
from flts_assets.stores.recipes import RecipeRegistry
from flts_assets.stores.tracking import Tracking

__all__ = ["Platform"]


class Platform(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Stores and shares of this deployment; places come from the environment (`Settings`)."""

    force: bool = Field(
        default=False,
        description="Recompute every selected stage although its outputs are complete",
    )
    identifier: str | None = Field(
        default=None, description="Whose pointer a promotion moves; none: global"
    )

    @cached_property
    def settings(self) -> Settings:
        return Settings.from_environment()

    @cached_property
    def store(self) -> ObjectStore:
        return open_store(self.settings, self._s3_client)

    def _s3_client(self) -> Any:
        from flts_assets.assets.s3 import S3

        settings = self.settings
        return S3(timeout_s=settings.s3_timeout_s, region_name=settings.region).get_client()

    @cached_property
    def artifacts(self) -> Artifacts:
        return Artifacts(self.store)

    @cached_property
    def registry(self) -> RecipeRegistry:
        return RecipeRegistry(self.store)

    @cached_property
    def tracking(self) -> Tracking:
        settings = self.settings
        return Tracking(settings.tracking_uri, settings.mlflow_artifacts, settings.home)

    @contextmanager
    def alone(self, work: str, log: EventLog) -> Iterator[None]:
        """Hold the lock on a piece of work among the processes of this machine.

        Between machines nothing is locked: both may do the work, and the first whose outputs become
        current by a conditional write counts (`stores.artifacts`).
        """
        from filelock import FileLock, Timeout

        path = self.settings.home / "locks" / f"{work}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("waiting_for_other_run", work=work)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def pointer(self, config_hash: str) -> Pointer:
        return Pointer(self.store, config_hash, self.identifier)
