"""Models and baselines on one scale: the one place where the test rows are looked at."""

import io
from typing import Any

import dagster as dg
import pandas as pd

from flts_assets.assets.backtest import BACKTEST, FRAME_FILE, backtest
from flts_assets.assets.metadata import leaderboard_table, picture
from flts_assets.assets.models import (
    MODEL_STAGES,
    candidates_of,
    ensemble_model,
    gru_model,
    lstm_model,
    prophet_model,
    trees_model,
)
from flts_assets.assets.partitions import CONFIG_HASH
from flts_assets.assets.pipeline_run import log_pipeline_run
from flts_assets.assets.platform import Platform
from flts_assets.assets.processed import load_dataset, processed_data
from flts_assets.assets.stage import LEADERBOARD, PROCESSED, StageRun, stage_run
from flts_assets.errors import UpstreamMissingError
from flts_assets.forecasting.backtest import backtest_errors
from flts_assets.forecasting.dataset import Dataset
from flts_assets.forecasting.forecaster import load_forecaster
from flts_assets.forecasting.leaderboard import (
    Candidate,
    Leaderboard,
    Result,
    Training,
    evaluate,
    forecast_frame,
)
from flts_assets.forecasting.parquet import to_parquet
from flts_assets.forecasting.plots import forecast_picture, leaderboard_picture
from flts_assets.recipe import CandidateType
from flts_assets.stores.artifacts import Artifacts, Manifest, Outputs

__all__ = ["leaderboard", "load_board"]

BOARD_FILE = "leaderboard.json"
FORECASTS_FILE = "forecasts.parquet"
BARS_PICTURE = "leaderboard.png"
FORECAST_PICTURE = "forecast.png"


@dg.asset(
    partitions_def=CONFIG_HASH,
    deps=[
        processed_data,
        gru_model,
        lstm_model,
        prophet_model,
        trees_model,
        ensemble_model,
        backtest,
    ],
    group_name="evaluation",
    owners=["team:ml"],
    kinds={"onnx", "mlflow"},
    code_version=LEADERBOARD.code_version,
)
def leaderboard(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult[Any]:
    """All models of the recipe and the baselines, scored on the same test windows and ranked.

    Forecasts and actuals are compared in raw units, then expressed in units of each target's train
    range. score = 0.5 RMSE + 0.3 MAE + 0.2 MSE; skill = 1 - score / persistence's score. Coverage is the
    share of test values inside a model's prediction interval. A recipe may rank by its backtest.
    """
    with stage_run(context, platform, LEADERBOARD) as step:
        processed = step.upstream(PROCESSED)
        models = {name: step.upstream(MODEL_STAGES[name]) for name in candidates_of(step.recipe)}
        backtested = step.upstream(BACKTEST) if step.recipe.backtest.cutoffs else None
        read = [processed, *models.values(), *([backtested] if backtested else [])]
        inputs = {one.place.stage: one.identity for one in read}
        for one in read:
            step.check_made_from(one, inputs)
        outcome = step.outputs(
            inputs, lambda _place, _attempt: _compute(step, processed, models, backtested)
        )
        board = load_board(platform.artifacts, outcome.manifest)
        best = board.models[0]
        files = {
            name: platform.artifacts.read(outcome.manifest, name)
            for name in (BARS_PICTURE, FORECAST_PICTURE)
        }
        return step.result(
            outcome,
            {
                "leaderboard": leaderboard_table(board),
                "best_model": best.name,
                "best_score": best.scores.score,
                "best_skill": best.skill,
                "test_windows": board.forecasts,
                "scores": picture("scores", files[BARS_PICTURE]),
                "forecast versus actual": picture("forecast", files[FORECAST_PICTURE]),
            },
        )


def load_board(artifacts: Artifacts, manifest: Manifest) -> Leaderboard:
    """The leaderboard in these outputs of the stage."""
    return Leaderboard.model_validate_json(artifacts.read(manifest, BOARD_FILE))


def _compute(
    step: StageRun,
    processed: Manifest,
    models: dict[CandidateType, Manifest],
    backtested: Manifest | None,
) -> Outputs:
    from threadpoolctl import threadpool_limits

    data, _ = load_dataset(step, processed)
    candidates = [_candidate(step, model_type, model) for model_type, model in models.items()]
    errors = None
    if backtested is not None:
        frame = pd.read_parquet(io.BytesIO(step.platform.artifacts.read(backtested, FRAME_FILE)))
        errors = backtest_errors(frame, step.recipe)
    # Baselines keep to the step's share of the cores too; their sums depend on it in the last bit.
    with threadpool_limits(step.platform.settings.step_threads):
        board, results = evaluate(data, candidates, step.recipe, errors)
    step.log.info(
        "promotion_scoreboard",
        scoreboard=[
            {"name": one.name, "score": one.scores.score, "skill": one.skill}
            for one in board.entries
        ],
    )
    _log_test_scores(step, board)
    log_pipeline_run(step, board)
    content = {
        BOARD_FILE: board.model_dump_json(indent=1).encode(),
        FORECASTS_FILE: to_parquet(forecast_frame(data, results)),
    }
    return Outputs(content, {"best": board.models[0].name}, _pictures(board, results, data))


def _candidate(step: StageRun, model_type: CandidateType, model: Manifest) -> Candidate:
    run_id = step.platform.tracking.find_finished(model.place.fingerprint, model.attempt)
    if run_id is None:
        raise UpstreamMissingError(
            f"the saved {model_type} has no finished MLflow run",
            remedy=f"materialise {model.place.stage} again: it logs the saved model",
        )
    threads = step.platform.settings.step_threads
    forecaster = load_forecaster(step.platform.artifacts.read_all(model), threads)
    trained = Training(
        fingerprint=model.place.fingerprint,
        attempt=model.attempt,
        started_at=model.facts["started_at"],
    )
    return Candidate(model_type, forecaster, model.facts["fit_s"], run_id, trained)


def _log_test_scores(step: StageRun, board: Leaderboard) -> None:
    for entry in board.models:
        assert entry.run_id is not None
        scores = {f"test_{name}": value for name, value in entry.scores.measures().items()}
        step.platform.tracking.finished(entry.run_id).log_metrics(
            {
                **scores,
                **{f"test_coverage_{level}": share for level, share in entry.coverage.items()},
                "test_skill": entry.skill,
                "predict_s": entry.predict_s,
            }
        )


def _pictures(board: Leaderboard, results: list[Result], data: Dataset) -> dict[str, bytes]:
    target = board.targets[0]
    times = data.test.target_times()[:, 0]
    best = next(one for one in results if one.name == board.models[0].name)
    title = f"{best.name} on test rows, one step ahead"
    level = max(best.bands, default=None)
    ends = None
    if level is not None:
        title += f", with its {level:.0%} interval"
        ends = (best.bands[level].lower[:, 0, 0], best.bands[level].upper[:, 0, 0])
    shown = {best.name: best.errors.forecasts[:, 0, 0]}
    actuals = best.errors.actuals[:, 0, 0]
    return {
        BARS_PICTURE: leaderboard_picture(board),
        FORECAST_PICTURE: forecast_picture(times, actuals, shown, target, title, ends),
    }
