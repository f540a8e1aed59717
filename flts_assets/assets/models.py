"""The models and their ensemble: trained on the processed rows, saved, then tracked in MLflow."""

import io
import json
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from functools import partial
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd

from flts_assets.assets.checks import check_spec, checked, refused
from flts_assets.assets.metadata import picture, scores_table
from flts_assets.assets.partitions import CONFIG_HASH
from flts_assets.assets.platform import Platform
from flts_assets.assets.processed import dataset_in, load_dataset, processed_data
from flts_assets.assets.stage import PROCESSED, Stage, StageRun, not_asked_for, stage_run
from flts_assets.assets.step_policy import AFTER_A_CRASH, TRAINERS
from flts_assets.assets.training_log import TrainingLog
from flts_assets.errors import ArtifactError
from flts_assets.forecasting.dataset import Dataset
from flts_assets.forecasting.ensemble import train_ensemble
from flts_assets.forecasting.forecaster import (
    ENSEMBLE_FILE,
    EXAMPLE_FILE,
    check_example,
    load_forecaster,
)
from flts_assets.forecasting.metrics import Scores
from flts_assets.forecasting.split import validation_windows
from flts_assets.forecasting.training import (
    LOSS_PICTURE,
    VALIDATION_FILE,
    VALIDATION_PICTURE,
    TrainedModel,
    train_model,
    training_pictures,
)
from flts_assets.forecasting.verification import (
    same_score,
    validation_scores,
    weights_were_validated,
)
from flts_assets.recipe import CandidateType, ModelType, Recipe
from flts_assets.stores.artifacts import Manifest, Outputs, Place
from flts_assets.stores.object_store import MODELS
from flts_assets.stores.tracked import tracked_run

__all__ = [
    "MODEL_STAGES",
    "candidates_of",
    "ensemble_model",
    "gru_model",
    "lstm_model",
    "prophet_model",
    "trees_model",
]

MODEL_STAGES: dict[CandidateType, Stage] = {
    "GRU": Stage("gru_model", "3", MODELS),
    "LSTM": Stage("lstm_model", "3", MODELS),
    "PROPHET": Stage("prophet_model", "3", MODELS),
    "TREES": Stage("trees_model", "2", MODELS),
    "ENSEMBLE": Stage("ensemble_model", "2", MODELS),
}


REPRODUCED = "weights_reproduce_score"


def _reproduced_spec(stage: Stage) -> dg.AssetCheckSpec:
    return check_spec(
        stage.name,
        REPRODUCED,
        "The files in the store load, give the recorded example, and the validation score computed"
        " again from them is the one MLflow holds.",
        blocking=True,
    )


def candidates_of(recipe: Recipe) -> tuple[CandidateType, ...]:
    """What the recipe trains, and would promote."""
    return (*recipe.models, *(("ENSEMBLE",) if recipe.ensemble.members else ()))


def _model_asset(model_type: ModelType, kinds: set[str], description: str) -> dg.AssetsDefinition:
    stage = MODEL_STAGES[model_type]

    @dg.asset(
        name=stage.name,
        partitions_def=CONFIG_HASH,
        deps=[processed_data],
        group_name="models",
        owners=["team:ml"],
        kinds=kinds,
        code_version=stage.code_version,
        pool=TRAINERS,
        retry_policy=AFTER_A_CRASH,
        description=description,
        check_specs=[_reproduced_spec(stage)],
    )
    def model(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:  # type: ignore[type-arg]  # as Dagster knows a result with checks
        with stage_run(context, platform, stage) as step:
            if model_type not in step.recipe.models:
                return not_asked_for(
                    step, f"{model_type} is not among its models: {', '.join(step.recipe.models)}"
                )
            processed = step.upstream(PROCESSED)
            return _materialize(
                step,
                model_type,
                {PROCESSED.name: processed.identity},
                lambda data, measured, log: train_model(
                    model_type,
                    data,
                    measured,
                    step.recipe,
                    platform.settings.step_threads,
                    log.report,
                ),
            )

    return model


gru_model = _model_asset(
    "GRU",
    {"pytorch", "onnx", "mlflow"},
    "A GRU (Cho et al. 2014) over the window, all targets and steps at once. Chronological validation"
    " picks the epoch that is kept; where the recipe asks to refit, the nets are then fitted on all"
    " rows.",
)
lstm_model = _model_asset(
    "LSTM",
    {"pytorch", "onnx", "mlflow"},
    "An LSTM (Hochreiter & Schmidhuber 1997) over the window, all targets and steps at once."
    " Chronological validation picks the epoch that is kept; where the recipe asks to refit, the"
    " nets are then fitted on all rows.",
)
prophet_model = _model_asset(
    "PROPHET",
    {"python", "mlflow"},
    "One Prophet a target (Taylor & Letham 2018): trend and seasons of time alone. Validated by a fit"
    " that never saw the validation rows, then fitted on all train rows.",
)
trees_model = _model_asset(
    "TREES",
    {"scikitlearn", "onnx", "mlflow"},
    "Gradient-boosted trees (Friedman 2001) over the window, one ensemble a target and step. Validated by"
    " a fit that never saw the validation rows, then fitted on all train rows.",
)


@dg.asset(
    partitions_def=CONFIG_HASH,
    deps=[processed_data, gru_model, lstm_model, prophet_model, trees_model],
    group_name="models",
    owners=["team:ml"],
    kinds={"onnx", "mlflow"},
    code_version=MODEL_STAGES["ENSEMBLE"].code_version,
    pool=TRAINERS,
    retry_policy=AFTER_A_CRASH,
    check_specs=[_reproduced_spec(MODEL_STAGES["ENSEMBLE"])],
)
def ensemble_model(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:  # type: ignore[type-arg]  # as Dagster knows a result with checks
    """The weighted mean of the recipe's ensemble members, as one more candidate.

    Weights are equal, or fitted on forecasts of the validation rows. Its files hold the members whole.
    """
    with stage_run(context, platform, MODEL_STAGES["ENSEMBLE"]) as step:
        names = step.recipe.ensemble.members
        if not names:
            return not_asked_for(step, "it has no ensemble")
        members = {name: step.upstream(MODEL_STAGES[name]) for name in names}
        inputs = {
            one.place.stage: one.identity for one in (step.upstream(PROCESSED), *members.values())
        }
        for member in members.values():
            step.check_made_from(member, inputs)
        return _materialize(
            step,
            "ENSEMBLE",
            inputs,
            lambda data, measured, _log: train_ensemble(
                {name: platform.artifacts.read_all(one) for name, one in members.items()},
                data,
                measured,
                step.recipe,
                platform.settings.step_threads,
            ),
        )


Train = Callable[[Dataset, pd.DataFrame, TrainingLog], TrainedModel]


def _materialize(
    step: StageRun, model_type: CandidateType, inputs: Mapping[str, str], train: Train
) -> dg.MaterializeResult[Any]:
    log = TrainingLog(step, model_type)

    def compute(place: Place, attempt: str) -> Outputs:
        return _outputs(step, model_type, log, attempt, train)

    with log:
        outcome = step.outputs(inputs, compute)
        run_id = log.complete(outcome.manifest)
    manifest = outcome.manifest
    return step.result(
        outcome,
        {"mlflow_run_id": run_id, **_told(step, manifest)},
        [_reproduced(step, model_type, manifest, run_id)],
    )


def _reproduced(
    step: StageRun, model_type: CandidateType, manifest: Manifest, run_id: str
) -> dg.AssetCheckResult:
    """The saved files, loaded and scored again, against what MLflow holds of this training."""
    platform, recipe = step.platform, step.recipe
    try:
        files = platform.artifacts.read_all(manifest)
        forecaster = load_forecaster(files, platform.settings.step_threads)
        check_example(forecaster, files[EXAMPLE_FILE])
    except ArtifactError as error:
        return refused(REPRODUCED, error)
    data, _ = dataset_in(partial(platform.artifacts.open, step.upstream(PROCESSED)), recipe)
    forecasts = np.load(io.BytesIO(files[VALIDATION_FILE]))
    how = "the stored validation forecasts"
    if weights_were_validated(model_type, recipe):
        forecasts = forecaster.forecast(validation_windows(data.train, recipe.recurrent))
        how = "the stored weights' validation forecasts"
    again = validation_scores(forecasts, data, recipe).score
    logged = tracked_run(platform.tracking, run_id).metrics.get("validation_score")
    told = f"{how} score {again:.6g}, MLflow holds {logged}; the recorded example is reproduced"
    facts = {"validation_score": again, "mlflow_run_id": run_id}
    return checked(REPRODUCED, same_score(again, logged), told, facts)


def _outputs(
    step: StageRun, model_type: CandidateType, log: TrainingLog, attempt: str, train: Train
) -> Outputs:
    record = step.context.instance.get_run_record_by_id(step.context.run.run_id)
    started_at = record.create_timestamp if record else datetime.now(timezone.utc)
    data, measured = load_dataset(step, step.upstream(PROCESSED))
    log.start(attempt)
    trained = train(data, measured.frame(), log)
    return Outputs(
        trained.model,
        {
            "model_type": model_type,
            "started_at": started_at.isoformat(),
            "validation": trained.validation.model_dump(),
            "seed_spread": trained.seed_spread,
            "best_epochs": trained.best_epochs,
            "epochs": len(trained.epochs),
            "fit_s": trained.fit_s,
            "threads": step.platform.settings.step_threads,
            "windows": data.train.windows,
        },
        {
            **trained.descriptions,
            **training_pictures(model_type, trained, data, step.recipe),
        },
    )


def _told(step: StageRun, manifest: Manifest) -> dict[str, Any]:
    facts = manifest.facts
    validation = Scores.model_validate(facts["validation"])
    told: dict[str, Any] = {
        "validation_scores": scores_table(validation),
        "validation_score": validation.score,
        "validation_rmse": validation.rmse,
        "fit_s": facts["fit_s"],
        "threads": facts["threads"],
    }
    if facts["best_epochs"]:
        best = facts["best_epochs"]
        told["best_epoch"] = best[0] if len(best) == 1 else ", ".join(map(str, best))
    if facts["seed_spread"] is not None:
        told["seed_spread"] = facts["seed_spread"]
    if ENSEMBLE_FILE in manifest.files:
        told["weights"] = json.loads(step.platform.artifacts.read(manifest, ENSEMBLE_FILE))
    for title, name in (
        ("loss curve", LOSS_PICTURE),
        ("forecast versus actual on validation rows", VALIDATION_PICTURE),
    ):
        if name in manifest.files:
            told[title] = picture(title, step.platform.artifacts.read(manifest, name))
    return told
