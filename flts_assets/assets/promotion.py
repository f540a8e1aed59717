"""The champion: chosen from the leaderboard, proven to load, put behind a pointer."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg

from flts_assets.assets.checks import check_spec, checked, refused
from flts_assets.assets.leaderboard import leaderboard, load_board
from flts_assets.assets.models import candidates_of
from flts_assets.assets.partitions import CONFIG_HASH
from flts_assets.assets.platform import Platform
from flts_assets.assets.promotion_event import PROMOTION, promotion_metadata
from flts_assets.assets.stage import LEADERBOARD, StageRun, stage_run
from flts_assets.assets.step_policy import AFTER_A_CRASH
from flts_assets.assets.succession import (
    Decision,
    mirror,
    prove,
    record,
    saved_model,
    stands,
    version_of,
)
from flts_assets.errors import PromotionError
from flts_assets.forecasting.gate import choose
from flts_assets.forecasting.leaderboard import Entry, Leaderboard
from flts_assets.stores.artifacts import Manifest
from flts_assets.stores.object_store import MODEL_PROMOTION
from flts_assets.stores.pointer import Pointer, Promotion

__all__ = ["promoted_model"]

GATE_DECISION = "gate_decision"
FRESH = timedelta(days=7)
"""how long a promotion counts as looked at lately"""


@dg.asset(
    partitions_def=CONFIG_HASH,
    deps=[leaderboard],
    group_name="promotion",
    owners=["team:ml"],
    kinds={"mlflow"},
    code_version=PROMOTION.code_version,
    retry_policy=AFTER_A_CRASH,
    # It looks at the newest materialisation of any partition; champion_is_fresh looks at each.
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=FRESH),
    check_specs=[
        check_spec(
            PROMOTION.name,
            GATE_DECISION,
            "The gate, asked again, chooses the model at the pointer.",
            blocking=True,
        )
    ],
)
def promoted_model(
    context: dg.AssetExecutionContext, platform: Platform
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    """The pointer to the recipe's best model: `model-promotion/<identifier>/<config_hash>/current.json`.

    The winner must hold against chance: a paired block bootstrap of the test errors tells whether it
    beats persistence, and whether the others are really behind it; if not, the recipe's tie rule decides.
    It is promoted only after its saved files were loaded and gave the recorded forecast. The promotion
    is recorded, then the pointer moves by compare-and-swap, then MLflow's alias `champion` mirrors it;
    each record names the one before. What a person decided on this same leaderboard stands.
    """
    with stage_run(context, platform, PROMOTION) as step:
        chosen_from = step.upstream(LEADERBOARD)
        board = load_board(platform.artifacts, chosen_from)
        pointer = platform.pointer(step.config_hash)
        current = pointer.read()
        cached = bool(
            current
            and not platform.force
            and stands(current[0], chosen_from.identity, platform.artifacts)
        )
        if cached and current:
            step.log.info("skip_idempotent", pointer=pointer.key, run_id=current[0].run_id)
            promotion = current[0]
        else:
            champion, version = current or (None, None)
            try:
                promotion = _promotion(step, board, chosen_from, pointer.key_of(champion))
            except PromotionError as error:
                yield from step.of_recipe([refused(GATE_DECISION, error)])
                raise
            pointer.move(promotion, version)
            step.log.info(
                "promotion_decision",
                model_type=promotion.model_type,
                run_id=promotion.run_id,
                score=promotion.score,
                pointer=f"{MODEL_PROMOTION}/{pointer.key}",
                replaced=None if champion is None else champion.run_id,
            )
        mirror(promotion, platform)
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(version_of(PROMOTION, promotion)),
            metadata={**promotion_metadata(promotion, platform), "cached": cached},
            check_results=step.told([_gate_check(step, board, pointer)]),
        )


def _gate_check(step: StageRun, board: Leaderboard, pointer: Pointer) -> dg.AssetCheckResult:
    """Of the pointer as it stands in the store. A person's own choice may differ, and is told."""
    current = pointer.read()
    if current is None:
        return checked(GATE_DECISION, False, f"nothing stands at {MODEL_PROMOTION}/{pointer.key}")
    champion = current[0]
    try:
        chosen, _ = choose(board, step.recipe.promotion)
    except PromotionError as error:
        return refused(GATE_DECISION, error)
    told = f"the gate chooses {chosen.name}, champion is {champion.model_type}: {champion.reason}"
    facts = {"model_type": champion.model_type, "actor": champion.actor}
    return checked(
        GATE_DECISION, champion.run_id == chosen.run_id, told, facts, warn=champion.by_hand
    )


def _promotion(
    step: StageRun, board: Leaderboard, chosen_from: Manifest, previous: str | None
) -> Promotion:
    winner, reason = _choice(step, board)
    model = saved_model(winner, step.recipe, step.platform.artifacts)
    prove(model, step.platform, step.log)
    return record(
        winner,
        model,
        Decision(step.recipe, f"dagster run {step.context.run.run_id}", reason),
        identifier=step.platform.identifier,
        leaderboard=chosen_from.identity,
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
