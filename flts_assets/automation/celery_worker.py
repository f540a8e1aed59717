"""A worker: a process that takes steps from Redis, and children forked from it that do them.

flts worker ── preloads what steps import, says every few seconds which steps it still has
  ├── child    a step at a time, warm from the first one on
  └── child    as many as FLTS_STEP_CONCURRENCY; they end with their parent, however that ends
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from celery import Celery, bootsteps
from celery.signals import worker_process_init

from flts_assets.assets.launcher import end_with_parent
from flts_assets.automation.celery_config import LOOKS, QUEUE, celery_config, configured

if TYPE_CHECKING:
    from flts_assets.settings import CelerySettings, Settings

__all__ = ["KeepsItsSteps", "celery_app", "run_worker"]


class KeepsItsSteps(bootsteps.StartStopStep):  # type: ignore[misc]
    """Makes the steps in hand count as taken for another while, as long as this process lives.

    Celery's Redis transport hands out again whatever is older than its visibility timeout, also a step
    that is being worked on: a short timeout would run long steps twice, a long one would
    leave those of a dead worker lying.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        timeout_s = consumer.app.conf.broker_transport_options["visibility_timeout"]
        self._timer = consumer.timer.call_repeatedly(timeout_s / LOOKS, _refresh, (consumer,))

    def stop(self, consumer: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _refresh(consumer: Any) -> None:
    qos = consumer.task_consumer.channel.qos
    taken = dict.fromkeys(list(qos._delivered), time.time())
    if taken:
        with qos.channel.conn_or_acquire() as client:
            # xx: what was finished in the meantime does not come back.
            client.zadd(qos.unacked_index_key, taken, xx=True)


def celery_app(celery: CelerySettings) -> Celery:
    """The application that knows Dagster's one task, `execute_plan`."""
    from dagster_celery.executor import CeleryExecutor
    from dagster_celery.make_app import make_app
    from dagster_celery.tasks import create_task

    executor = CeleryExecutor.for_cli(
        broker=celery.broker_url,
        backend=celery.backend_url,
        config_source=celery_config(celery),
    )
    app: Celery = make_app(executor.app_args())
    create_task(app, resultrepr_maxsize=80)  # a result is a step's events; Dagster shows them
    app.steps["consumer"].add(KeepsItsSteps)
    return app


def run_worker(settings: Settings, name: str) -> None:
    """Work until SIGTERM, which lets the steps in hand end. Raises EnvironmentValueError."""
    app = celery_app(configured(settings))
    import flts_assets.automation.preload  # noqa: F401  children are forked with it

    worker_process_init.connect(_in_child)
    app.worker_main(
        [
            *("worker", "--loglevel", "INFO", "--pool", "prefork"),
            *("--concurrency", str(settings.step_concurrency)),
            *("--queues", QUEUE, "--hostname", f"{name}@%h"),
            "--without-gossip",
            "--without-mingle",
        ]
    )


def _in_child(**_: Any) -> None:
    end_with_parent()
