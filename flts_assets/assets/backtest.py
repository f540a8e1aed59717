"""The recipe's models, trained and scored again and again along the train rows."""

from typing import Any

import dagster as dg

from flts_assets.assets.metadata import table
from flts_assets.assets.partitions import CONFIG_HASH
from flts_assets.assets.platform import Platform
from flts_assets.assets.processed import load_dataset, processed_data
from flts_assets.assets.stage import PROCESSED, Stage, StageRun, not_asked_for, stage_run
from flts_assets.assets.step_policy import AFTER_A_CRASH, TRAINERS
from flts_assets.forecasting.backtest import backtest as rolling_origin
from flts_assets.forecasting.backtest import backtest_errors
from flts_assets.forecasting.metrics import score
from flts_assets.forecasting.parquet import to_parquet
from flts_assets.forecasting.progress import Progress
from flts_assets.recipe import ModelType
from flts_assets.stores.artifacts import Manifest, Outputs
from flts_assets.stores.object_store import MODELS

__all__ = ["BACKTEST", "FRAME_FILE", "backtest"]

BACKTEST = Stage("backtest", "2", MODELS)
FRAME_FILE = "backtest.parquet"


@dg.asset(
    partitions_def=CONFIG_HASH,
    deps=[processed_data],
    group_name="evaluation",
    owners=["team:ml"],
    kinds={"parquet"},
    code_version=BACKTEST.code_version,
    pool=TRAINERS,
    retry_policy=AFTER_A_CRASH,
)
def backtest(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult[Any]:
    """Rolling origins: models and baselines fitted on the rows before each cutoff, scored after it.

    Train rows alone. backtest.parquet holds one row a forecast value: station, model, target, cutoff,
    time, step, y, y_hat.
    """
    with stage_run(context, platform, BACKTEST) as step:
        if not step.recipe.backtest.cutoffs:
            return not_asked_for(step, "it asks for no backtest (backtest.cutoffs is 0)")
        processed = step.upstream(PROCESSED)
        outcome = step.outputs(
            {PROCESSED.name: processed.identity}, lambda _place, _attempt: _compute(step, processed)
        )
        return step.result(
            outcome,
            {
                "scores": table(
                    {"model": name, **{key: round(value, 6) for key, value in scores.items()}}
                    for name, scores in outcome.manifest.facts["scores"].items()
                ),
                "cutoffs": outcome.manifest.facts["cutoffs"],
                "windows": outcome.manifest.facts["windows"],
            },
        )


def _compute(step: StageRun, processed: Manifest) -> Outputs:
    from threadpoolctl import threadpool_limits

    data, measured = load_dataset(step, processed)
    recipe, fitted = step.recipe, data.preprocessing

    def report(cutoff: int, model_type: ModelType, progress: Progress) -> None:
        step.log.info(
            "backtest_progress",
            cutoff=cutoff,
            cutoffs=recipe.backtest.cutoffs if recipe.backtest.refit else 1,
            model_type=model_type,
            epoch=progress.epoch,
            epochs=progress.epochs,
            windows_per_s=round(progress.windows_per_s),
            remaining_s=round(progress.remaining_s, 1),
        )

    with threadpool_limits(step.platform.settings.step_threads):
        frame = rolling_origin(
            measured.frame(), recipe, step.platform.settings.step_threads, report
        )
    errors = backtest_errors(frame, recipe)
    scores = {
        name: score(
            one.actuals,
            one.forecasts,
            fitted.targets,
            fitted.target_ranges,
            recipe.evaluation.targets,
        ).measures()
        for name, one in errors.items()
    }
    return Outputs(
        {FRAME_FILE: to_parquet(frame)},
        {
            "scores": dict(
                sorted(scores.items(), key=lambda one: one[1].get(recipe.evaluation.rank_by, 0.0))
            ),
            "cutoffs": recipe.backtest.cutoffs,
            "windows": len(next(iter(errors.values())).actuals),
        },
    )
