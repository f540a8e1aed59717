"""What both ends of the queue are told: the run that hands steps out, the worker that takes them.

A step stays in Redis until its worker has finished it. A worker says every few seconds that it still has
its steps (`automation.celery_worker`); those of one that fell silent go to another after `lost_after_s`.
"""

from __future__ import annotations

from typing import Any, Final

from flts_assets.errors import EnvironmentValueError
from flts_assets.settings import CelerySettings, Settings

__all__ = ["LOOKS", "QUEUE", "celery_config", "configured"]

QUEUE: Final = "dagster"
"""dagster-celery's own; a second one would need a worker of its own"""
LOOKS: Final = 3
"""how often within `lost_after_s` a worker says that it lives, and looks for those that do not"""


def configured(settings: Settings) -> CelerySettings:
    """Where the queue is. Raises EnvironmentValueError where nothing says it."""
    if settings.celery is None:
        raise EnvironmentValueError(
            "environment variable FLTS_CELERY_BROKER_URL is not set",
            allowed="the address of a Redis server, such as redis://127.0.0.1:6379/0",
            remedy="set it for workers and for whatever starts runs",
        )
    return settings.celery


def celery_config(celery: CelerySettings) -> dict[str, Any]:
    """Celery's settings, addresses not among them."""
    return {
        "task_default_queue": QUEUE,
        # A step is taken from Redis for good when it has ended, not when it begins.
        "task_acks_late": True,
        # A step whose process died alone (out of memory, say) fails, and Dagster tries the run again:
        # once, where Celery would hand it out for ever.
        "task_reject_on_worker_lost": False,
        "worker_prefetch_multiplier": 1,
        # A worker cut off from Redis no longer owns its steps: another may have begun them.
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        "broker_connection_retry_on_startup": True,
        # What steps print is Dagster's to keep.
        "worker_redirect_stdouts": False,
        "broker_transport_options": {
            "visibility_timeout": celery.lost_after_s,
            "unacked_restore_interval": celery.lost_after_s // LOOKS,
            "unacked_restore_throttle": 1,
        },
    }
