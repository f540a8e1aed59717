"""The three models: trained on the processed rows, saved, then tracked in MLflow."""

from typing import Any

import dagster as dg

from flts_assets.assets.metadata import picture, scores_table
from flts_assets.assets.partitions import CONFIG_HASH
from flts_assets.assets.platform import Platform
from flts_assets.assets.processed import load_dataset, processed_data
from flts_assets.assets.stage import PROCESSED, Stage, StageRun, stage_run
from flts_assets.assets.training_log import TrainingLog
from flts_assets.forecasting.metrics import Scores
from flts_assets.forecasting.training import LOSS_PICTURE, VALIDATION_PICTURE, train_model
from flts_assets.recipe import ModelType
from flts_assets.stores.artifacts import Manifest, Outputs, Place
from flts_assets.stores.object_store import MODELS

__all__ = ["MODEL_STAGES", "gru_model", "lstm_model", "prophet_model"]

MODEL_STAGES: dict[ModelType, Stage] = {
    "GRU": Stage("gru_model", "1", MODELS),
    "LSTM": Stage("lstm_model", "1", MODELS),
    "PROPHET": Stage("prophet_model", "1", MODELS),
}


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
        description=description,
    )
    def model(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult[Any]:
        with stage_run(context, platform, stage) as step:
            if model_type not in step.recipe.models:
                return _not_asked_for(step, model_type)
            return _materialize(step, model_type)

    return model


gru_model = _model_asset(
    "GRU",
    {"pytorch", "onnx", "mlflow"},
    "A GRU (Cho et al. 2014) over the window, all targets and steps at once. Chronological validation"
    " picks the epoch that is kept; that epoch's weights are saved, scored and served.",
)
lstm_model = _model_asset(
    "LSTM",
    {"pytorch", "onnx", "mlflow"},
    "An LSTM (Hochreiter & Schmidhuber 1997) over the window, all targets and steps at once."
    " Chronological validation picks the epoch that is kept; that epoch's weights are saved, scored"
    " and served.",
)
prophet_model = _model_asset(
    "PROPHET",
    {"python", "mlflow"},
    "One Prophet a target (Taylor & Letham 2018): trend and seasons of time alone. Validated by a fit"
    " that never saw the validation rows, then fitted on all train rows.",
)


def _materialize(step: StageRun, model_type: ModelType) -> dg.MaterializeResult[Any]:
    processed = step.upstream(PROCESSED)
    log = TrainingLog(step, model_type)

    def compute(place: Place, attempt: str) -> Outputs:
        return _train(step, model_type, processed, log, attempt)

    with log:
        outcome = step.outputs({PROCESSED.name: processed.identity}, compute)
        run_id = log.complete(outcome.manifest)
    manifest = outcome.manifest
    return step.result(outcome, {"mlflow_run_id": run_id, **_told(step, manifest, model_type)})


def _train(
    step: StageRun, model_type: ModelType, processed: Manifest, log: TrainingLog, attempt: str
) -> Outputs:
    data, measured = load_dataset(step, processed)
    threads = step.platform.settings.step_threads
    log.start(attempt)
    trained = train_model(model_type, data, measured, step.recipe, threads, log.report)
    return Outputs(
        trained.model,
        {
            "model_type": model_type,
            "validation": trained.validation.model_dump(),
            "best_epoch": trained.best_epoch,
            "epochs": len(trained.epochs),
            "fit_s": trained.fit_s,
            "threads": threads,
            "windows": data.train.windows,
        },
        trained.descriptions,
    )


def _told(step: StageRun, manifest: Manifest, model_type: ModelType) -> dict[str, Any]:
    facts = manifest.facts
    validation = Scores.model_validate(facts["validation"])
    told: dict[str, Any] = {
        "validation_scores": scores_table(validation),
        "validation_score": validation.score,
        "validation_rmse": validation.rmse,
        "fit_s": facts["fit_s"],
        "threads": facts["threads"],
    }
    if facts["best_epoch"] is not None:
        told["best_epoch"] = facts["best_epoch"]
    for title, name in (
        ("loss curve", LOSS_PICTURE),
        ("forecast versus actual on validation rows", VALIDATION_PICTURE),
    ):
        if name in manifest.files:
            told[title] = picture(title, step.platform.artifacts.read(manifest, name))
    return told


def _not_asked_for(step: StageRun, model_type: ModelType) -> dg.MaterializeResult[Any]:
    """A recipe may leave a model out; its asset then says so and holds nothing."""
    step.log.info("skip_not_in_recipe", model_type=model_type, models=list(step.recipe.models))
    return dg.MaterializeResult(
        data_version=dg.DataVersion("not-in-recipe"),
        metadata={
            "recipe": step.recipe.name,
            "config_hash": step.config_hash,
            "note": f"{model_type} is not among this recipe's models: {', '.join(step.recipe.models)}",
        },
    )
