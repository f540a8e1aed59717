"""The champion: chosen from the leaderboard, proven to load, put behind a pointer."""

from datetime import datetime, timezone
from typing import Any

import dagster as dg

from flts_assets.assets.leaderboard import leaderboard, load_board
from flts_assets.assets.metadata import table
from flts_assets.assets.models import MODEL_STAGES, candidates_of
from flts_assets.assets.partitions import CONFIG_HASH
from flts_assets.assets.platform import Platform
from flts_assets.assets.stage import LEADERBOARD, Stage, StageRun, stage_run
from flts_assets.errors import PromotionError
from flts_assets.forecasting.forecaster import EXAMPLE_FILE, check_example, load_forecaster
from flts_assets.forecasting.gate import choose
from flts_assets.forecasting.leaderboard import Entry, Leaderboard
from flts_assets.forecasting.metrics import SCORE_WEIGHTS
from flts_assets.stores.artifacts import Manifest
from flts_assets.stores.object_store import MODEL_PROMOTION
from flts_assets.stores.pointer import GLOBAL, Promotion
from flts_assets.stores.tracking import experiment_of

__all__ = ["promoted_model"]

PROMOTION = Stage("promoted_model", "2", MODEL_PROMOTION)


@dg.asset(
    partitions_def=CONFIG_HASH,
    deps=[leaderboard],
    group_name="promotion",
    owners=["team:ml"],
    kinds={"mlflow"},
    code_version=PROMOTION.code_version,
)
def promoted_model(
    context: dg.AssetExecutionContext, platform: Platform
) -> dg.MaterializeResult[Any]:
    """The pointer to the recipe's best model: model-promotion/<identifier>/<config_hash>/current.json.

    The winner must hold against chance: a paired block bootstrap of the test errors tells whether it
    beats persistence, and whether the others are really behind it; if not, the recipe's tie rule decides.
    It is promoted only after its saved files were loaded and gave the recorded forecast. The promotion
    is recorded, then the pointer moves by compare-and-swap, then MLflow's alias `champion` mirrors it;
    each record names the one before.
    """
    with stage_run(context, platform, PROMOTION) as step:
        chosen_from = step.upstream(LEADERBOARD)
        board = load_board(platform.artifacts, chosen_from)
        pointer = platform.pointer(step.config_hash)
        current = pointer.read()
        cached = _is_promoted(step, current[0], chosen_from) if current else False
        if cached and current:
            step.log.info("skip_idempotent", pointer=pointer.key, run_id=current[0].run_id)
            promotion = current[0]
        else:
            champion, version = current or (None, None)
            promotion = _promotion(step, board, chosen_from, pointer.key_of(champion))
            pointer.move(promotion, version)
            step.log.info(
                "promotion_decision",
                model_type=promotion.model_type,
                run_id=promotion.run_id,
                score=promotion.score,
                pointer=f"{MODEL_PROMOTION}/{pointer.key}",
                replaced=None if champion is None else champion.run_id,
            )
        registered = _registered_name(promotion)
        platform.tracking.mirror_champion(registered, promotion.run_id, promotion.model_uri)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(step.fingerprint({LEADERBOARD.name: chosen_from.identity})),
            metadata={
                "recipe": step.recipe.name,
                "config_hash": step.config_hash,
                "cached": cached,
                "model_type": promotion.model_type,
                "mlflow_run_id": promotion.run_id,
                "model_uri": promotion.model_uri,
                "score": promotion.score,
                "skill": promotion.skill,
                "reason": promotion.reason,
                "pointer": f"{MODEL_PROMOTION}/{pointer.key}",
                "mlflow_model": f"models:/{registered}@champion",
                "history": table(
                    {
                        "promoted_at": one.timestamp.isoformat(timespec="seconds"),
                        "model": one.model_type,
                        "score": round(one.score, 6),
                        "run_id": one.run_id,
                        "actor": one.actor,
                    }
                    for one in pointer.history()
                ),
            },
        )


def _registered_name(promotion: Promotion) -> str:
    """What MLflow's registry calls the champion of this pointer; its alias mirrors the pointer."""
    owner = "" if promotion.identifier == GLOBAL else f"{promotion.identifier}."
    return f"{owner}{promotion.recipe}-{promotion.config_hash[:8]}"


def _is_promoted(step: StageRun, champion: Promotion, chosen_from: Manifest) -> bool:
    """The champion comes from this very leaderboard, and its files stand unaltered."""
    return (
        not step.platform.force
        and champion.leaderboard == chosen_from.identity
        and step.platform.artifacts.find_attempt(champion.model, champion.attempt) is not None
    )


def _promotion(
    step: StageRun, board: Leaderboard, chosen_from: Manifest, previous: str | None
) -> Promotion:
    winner, reason = _choice(step, board)
    model_type = winner.name
    assert winner.trained is not None
    stage = MODEL_STAGES[model_type]  # type: ignore[index]
    model = step.platform.artifacts.get(
        step.place(stage, winner.trained.fingerprint), winner.trained.attempt
    )
    _prove(step, model)
    assert winner.run_id is not None
    return Promotion(
        run_id=winner.run_id,
        model_type=model_type,
        config_hash=step.config_hash,
        model_uri=f"runs:/{winner.run_id}/{model_type}",
        score=winner.scores.score,
        timestamp=datetime.now(timezone.utc),
        identifier=step.platform.identifier or GLOBAL,
        experiment=experiment_of(model_type),
        rmse=winner.scores.rmse,
        mae=winner.scores.mae,
        mse=winner.scores.mse,
        weights=dict(SCORE_WEIGHTS),
        recipe=step.recipe.name,
        model=model.place,
        attempt=model.attempt,
        leaderboard=chosen_from.identity,
        skill=winner.skill,
        reason=reason,
        actor=f"dagster run {step.context.run.run_id}",
        previous=previous,
    )


def _choice(step: StageRun, board: Leaderboard) -> tuple[Entry, str]:
    """Who is promoted, and why. Raises PromotionError if nobody may be."""
    asked = candidates_of(step.recipe)
    missing = set(asked) - {entry.name for entry in board.models}
    if missing:
        raise PromotionError(
            "the leaderboard lacks models of the recipe",
            received=sorted(missing),
            remedy="materialise the missing models, then the leaderboard",
        )
    step.log.info("promotion_all_models_present", models=list(asked))
    return choose(board, step.recipe.promotion)


def _prove(step: StageRun, model: Manifest) -> None:
    """Raises ArtifactError unless the saved files load and give the recorded forecast."""
    files = step.platform.artifacts.read_all(model)
    forecaster = load_forecaster(files, step.platform.settings.step_threads)
    check_example(forecaster, files[EXAMPLE_FILE])
    step.log.info("promotion_artifacts_ok", model=model.key, files=len(files))
