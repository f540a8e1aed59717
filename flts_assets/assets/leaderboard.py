"""Models and baselines on one scale: the one place where the test rows are looked at."""

import io
from collections.abc import Iterator, Sequence
from functools import partial

import dagster as dg
import pandas as pd

from flts_assets.assets.backtest import BACKTEST, FRAME_FILE, backtest
from flts_assets.assets.checks import check_spec, checked
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
from flts_assets.assets.processed import dataset_in, load_dataset, processed_data
from flts_assets.assets.stage import LEADERBOARD, PROCESSED, StageRun, stage_run
from flts_assets.assets.step_policy import AFTER_A_CRASH
from flts_assets.errors import UpstreamMissingError
from flts_assets.forecasting.backtest import backtest_errors
from flts_assets.forecasting.baselines import PERSISTENCE
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
from flts_assets.forecasting.plots import (
    error_by_hour_picture,
    forecast_picture,
    leaderboard_picture,
    residual_picture,
)
from flts_assets.forecasting.verification import (
    COVERAGE_SLACK,
    Rescored,
    agrees,
    coverage_slack,
    rescored,
)
from flts_assets.recipe import CandidateType, Recipe
from flts_assets.stores.artifacts import Artifacts, Manifest, Outputs

__all__ = ["leaderboard", "load_board", "rescored_board"]

BOARD_FILE = "leaderboard.json"
FORECASTS_FILE = "forecasts.parquet"
BARS_PICTURE = "leaderboard.png"
FORECAST_PICTURE = "forecast.png"
PICTURES = {
    "scores": BARS_PICTURE,
    "forecast versus actual": FORECAST_PICTURE,
    "error by hour of day": "error_by_hour.png",
    "residuals": "residuals.png",
}
"""title -> file"""
SCORES_REPRODUCED, BEATS_PERSISTENCE = "scores_reproduced", "beats_persistence"
INTERVAL_COVERAGE = "interval_coverage"


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
    retry_policy=AFTER_A_CRASH,
    check_specs=[
        check_spec(
            LEADERBOARD.name,
            SCORES_REPRODUCED,
            "Each entry's scores and coverage, computed again from the forecasts in the store, are"
            " those of the leaderboard.",
            blocking=True,
        ),
        check_spec(
            LEADERBOARD.name,
            BEATS_PERSISTENCE,
            "The best model's errors are lower than persistence's beyond chance.",
        ),
        check_spec(
            LEADERBOARD.name,
            INTERVAL_COVERAGE,
            "The best model's intervals cover the share of test values that their level says, within"
            f" {COVERAGE_SLACK:.0%} and two standard errors.",
        ),
    ],
)
def leaderboard(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:  # type: ignore[type-arg]  # as Dagster knows a result with checks
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
            name: platform.artifacts.read(outcome.manifest, name) for name in PICTURES.values()
        }
        return step.result(
            outcome,
            {
                "leaderboard": leaderboard_table(board),
                "best_model": best.name,
                "best_score": best.scores.score,
                "best_skill": best.skill,
                "test_windows": board.forecasts,
                **{title: picture(title, files[name]) for title, name in PICTURES.items()},
            },
            _checks(step, outcome.manifest, processed, board),
        )


def load_board(artifacts: Artifacts, manifest: Manifest) -> Leaderboard:
    """The leaderboard in these outputs of the stage."""
    return Leaderboard.model_validate_json(artifacts.read(manifest, BOARD_FILE))


def rescored_board(
    artifacts: Artifacts, manifest: Manifest, board: Leaderboard, recipe: Recipe, data: Dataset
) -> dict[str, Rescored]:
    """Scores and coverage of every entry, computed again from the forecasts in the store."""
    frame = pd.read_parquet(io.BytesIO(artifacts.read(manifest, FORECASTS_FILE)))
    names = [entry.name for entry in board.entries]
    return rescored(frame, names, board.targets, data.preprocessing.target_ranges, recipe)


def _checks(
    step: StageRun, manifest: Manifest, processed: Manifest, board: Leaderboard
) -> Iterator[dg.AssetCheckResult]:
    artifacts = step.platform.artifacts
    data, _ = dataset_in(partial(artifacts.open, processed), step.recipe)
    again = rescored_board(artifacts, manifest, board, step.recipe, data)
    wrong = [entry.name for entry in board.entries if not agrees(again[entry.name], entry)]
    told = f"other than recorded: {', '.join(wrong)}" if wrong else f"{len(again)} entries agree"
    yield checked(SCORES_REPRODUCED, not wrong, told, {"entries": len(again)})
    yield _persistence_check(board)
    best = board.models[0].name
    yield _coverage_check(best, again[best], step.recipe.intervals.levels)


def _persistence_check(board: Leaderboard) -> dg.AssetCheckResult:
    best = board.models[0]
    ahead = best.before_persistence
    lead = "an undefined difference" if ahead is None else str(ahead)
    told = f"{best.name}, skill {best.skill:+.3f}, is ahead of {PERSISTENCE} by {lead}"
    facts = {"model_type": best.name, "skill": best.skill}
    return checked(BEATS_PERSISTENCE, ahead is not None and ahead.better, told, facts, warn=True)


def _coverage_check(name: str, found: Rescored, levels: Sequence[float]) -> dg.AssetCheckResult:
    """`levels`: that the recipe asks for; one without an interval is not covered."""
    off = [
        level
        for level, share in found.coverage.items()
        if not abs(share - float(level)) <= coverage_slack(float(level), found.values)
    ]
    missing = [level for level in levels if f"{level:g}" not in found.coverage]
    told = [
        *(
            f"{share:.1%} inside the {float(level):.0%} interval"
            for level, share in found.coverage.items()
        ),
        *(f"no {level:.0%} interval, which the recipe asks for" for level in missing),
    ]
    facts = {f"coverage {level}": share for level, share in found.coverage.items()}
    return checked(
        INTERVAL_COVERAGE,
        not (off or missing),
        f"{name}: {', '.join(told) or 'no intervals'}",
        facts,
        warn=True,
    )


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
    times = data.test.target_times()[:, 0]
    best = next(one for one in results if one.name == board.models[0].name)
    persistence = next(one for one in results if one.name == PERSISTENCE)
    title = f"{best.name} on test rows, one step ahead"
    level = max(best.bands, default=None)
    ends = None
    if level is not None:
        title += f", with its {level:.0%} interval"
        ends = (best.bands[level].lower[:, 0], best.bands[level].upper[:, 0])
    shown = {best.name: best.errors.forecasts[:, 0]}
    actuals = best.errors.actuals[:, 0]
    errors = {one.name: one.errors.forecasts[:, 0] - actuals for one in (best, persistence)}
    drawn = (
        leaderboard_picture(board),
        forecast_picture(times, actuals, shown, board.targets, title, ends),
        error_by_hour_picture(times, errors, board.targets),
        residual_picture(errors, board.targets),
    )
    return dict(zip(PICTURES.values(), drawn, strict=True))
