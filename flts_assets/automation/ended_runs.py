"""A sensor that ends MLflow runs whose Dagster run ended without ending them."""

from datetime import datetime, timedelta, timezone
from functools import partial

import dagster as dg

from flts_assets.assets.platform import Platform
from flts_assets.automation.closing import has_ended

__all__ = ["ended_runs"]

OVERLAP = timedelta(seconds=60)
"""looked at twice, so that no clock's difference hides a run"""


@dg.sensor(
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Ends the MLflow runs of Dagster runs that failed or were canceled.",
)
def ended_runs(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
    """A killed step cannot end its MLflow run, so that would be RUNNING for ever.

    MLflow is asked, and imported, only after a run ended badly. While it is away the tick fails and is
    repeated.
    """
    now = datetime.now(timezone.utc)
    since = datetime.fromisoformat(context.cursor) if context.cursor else None
    ended = context.instance.get_run_records(
        dg.RunsFilter(
            statuses=[dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED],
            updated_after=since,
        ),
        limit=1,
    )
    closed = (
        platform.tracking.close_abandoned(partial(has_ended, context.instance)) if ended else []
    )
    told = f"ended {len(closed)} MLflow run(s): {', '.join(closed)}" if closed else "nothing to end"
    if closed:
        context.log.info(told)
    return dg.SensorResult(skip_reason=told, cursor=(now - OVERLAP).isoformat())
