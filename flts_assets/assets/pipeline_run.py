"""The pipeline-level MLflow run: what one recipe led to, with the model runs as its children.

dagster-mlflow keeps one MLflow run for one Dagster run, which is right here, where a single step opens
and closes it. Model runs have their own (`stores.tracking`): parallel steps would share this one.
"""

from types import SimpleNamespace

from flts_assets.assets.stage import StageRun
from flts_assets.forecasting.leaderboard import Leaderboard
from flts_assets.stores.tracking import (
    CONFIG_HASH_TAG,
    DAGSTER_RUN_TAG,
    PIPELINE_EXPERIMENT,
    RECIPE_TAG,
)

__all__ = ["log_pipeline_run"]


def log_pipeline_run(step: StageRun, board: Leaderboard) -> str:
    """Log recipe and leaderboard to a finished run; returns its id."""
    from dagster_mlflow.resources import MlFlow

    tracking = step.platform.tracking
    tracking.prepare()
    mlflow = MlFlow(
        SimpleNamespace(
            log=step.context.log,
            run_id=step.context.run.run_id,
            dagster_run=step.context.run,
            resource_config={
                "experiment_name": PIPELINE_EXPERIMENT,
                "mlflow_tracking_uri": tracking.uri,
                "extra_tags": {
                    CONFIG_HASH_TAG: step.config_hash,
                    RECIPE_TAG: step.recipe.name,
                    DAGSTER_RUN_TAG: step.context.run.run_id,
                },
            },
        )
    )
    run_id = str(mlflow.mlflow_run_id or mlflow.active_run().info.run_id)
    try:
        mlflow.log_text(step.recipe.model_dump_json(indent=1), "recipe.json")
        mlflow.log_text(board.model_dump_json(indent=1), "leaderboard.json")
        mlflow.log_metrics({f"{entry.name}_score": entry.scores.score for entry in board.entries})
    except BaseException:
        mlflow.end_run("FAILED")
        raise
    mlflow.end_run()
    for entry in board.models:
        assert entry.run_id is not None
        tracking.finished(entry.run_id).set_tags({"mlflow.parentRunId": run_id})
    return run_id
