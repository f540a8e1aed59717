"""Three models and the baselines on one scale: the one place where the test rows are looked at."""

from typing import Any

import dagster as dg

from flts_assets.assets.metadata import leaderboard_table, picture
from flts_assets.assets.models import MODEL_STAGES, gru_model, lstm_model, prophet_model
from flts_assets.assets.partitions import CONFIG_HASH
from flts_assets.assets.pipeline_run import log_pipeline_run
from flts_assets.assets.platform import Platform
from flts_assets.assets.processed import load_dataset, processed_data
from flts_assets.assets.stage import LEADERBOARD, PROCESSED, StageRun, stage_run
from flts_assets.errors import UpstreamMissingError
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
from flts_assets.recipe import ModelType
from flts_assets.stores.artifacts import Artifacts, Manifest, Outputs

__all__ = ["leaderboard", "load_board"]

BOARD_FILE = "leaderboard.json"
FORECASTS_FILE = "forecasts.parquet"
BARS_PICTURE = "leaderboard.png"
FORECAST_PICTURE = "forecast.png"


@dg.asset(
    partitions_def=CONFIG_HASH,
    deps=[processed_data, gru_model, lstm_model, prophet_model],
    group_name="evaluation",
    owners=["team:ml"],
    kinds={"onnx", "mlflow"},
    code_version=LEADERBOARD.code_version,
)
def leaderboard(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult[Any]:
    """All models of the recipe and the baselines, scored on the same test windows and ranked.

    Forecasts and actuals are compared in raw units, then expressed in units of each target's train
    range. score = 0.5 RMSE + 0.3 MAE + 0.2 MSE; skill = 1 - score / persistence's score.
    """
    with stage_run(context, platform, LEADERBOARD) as step:
        processed = step.upstream(PROCESSED)
        models = {
            model_type: step.upstream(MODEL_STAGES[model_type]) for model_type in step.recipe.models
        }
        for model in models.values():
            _check_trained_on(model, processed)
        inputs = {one.place.stage: one.identity for one in (processed, *models.values())}
        outcome = step.outputs(inputs, lambda _place, _attempt: _compute(step, processed, models))
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


def _compute(step: StageRun, processed: Manifest, models: dict[ModelType, Manifest]) -> Outputs:
    from threadpoolctl import threadpool_limits

    data, _ = load_dataset(step, processed)
    candidates = [_candidate(step, model_type, model) for model_type, model in models.items()]
    # Baselines keep to the step's share of the cores too; their sums depend on it in the last bit.
    with threadpool_limits(step.platform.settings.step_threads):
        board, results = evaluate(data, candidates, step.recipe)
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


def _check_trained_on(model: Manifest, processed: Manifest) -> None:
    if model.inputs[PROCESSED.name] != processed.identity:
        raise UpstreamMissingError(
            f"{model.place.stage} was trained on other data than the processed_data there is now",
            received=model.inputs[PROCESSED.name],
            allowed=processed.identity,
            remedy=f"materialise {model.place.stage}, then the leaderboard",
        )


def _candidate(step: StageRun, model_type: ModelType, model: Manifest) -> Candidate:
    run_id = step.platform.tracking.find_finished(model.place.fingerprint, model.attempt)
    if run_id is None:
        raise UpstreamMissingError(
            f"the saved {model_type} has no finished MLflow run",
            remedy=f"materialise {model.place.stage} again: it logs the saved model",
        )
    threads = step.platform.settings.step_threads
    forecaster = load_forecaster(step.platform.artifacts.read_all(model), threads)
    trained = Training(fingerprint=model.place.fingerprint, attempt=model.attempt)
    return Candidate(model_type, forecaster, model.facts["fit_s"], run_id, trained)


def _log_test_scores(step: StageRun, board: Leaderboard) -> None:
    for entry in board.models:
        assert entry.run_id is not None
        scores = {f"test_{name}": value for name, value in entry.scores.measures().items()}
        step.platform.tracking.finished(entry.run_id).log_metrics(
            {**scores, "test_skill": entry.skill, "predict_s": entry.predict_s}
        )


def _pictures(board: Leaderboard, results: list[Result], data: Dataset) -> dict[str, bytes]:
    target = board.targets[0]
    times = data.test.target_times()[:, 0]
    actuals = data.test.actuals()[:, 0, 0]
    first_step = {one.name: one.forecasts[:, 0, 0] for one in results}
    shown = {entry.name: first_step[entry.name] for entry in board.models[:1]}
    title = f"{board.models[0].name} on test rows, one step ahead"
    return {
        BARS_PICTURE: leaderboard_picture(board),
        FORECAST_PICTURE: forecast_picture(times, actuals, shown, target, title),
    }
