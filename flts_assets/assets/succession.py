"""How a champion follows another: proof, record, pointer, alias. Asset, CLI and jobs all do it here.

    promote     a model on the current leaderboard, chosen by a person
    roll back   to the champion before the current one; again: to the one before that

A rollback is a promotion too, of a model that was champion before. It names the promotion that it puts
back, and the next rollback goes on from there:

    A  B  C   roll back -> B   roll back -> A   promote D   roll back -> A

A person's decision stands until there is another leaderboard: its record names the one it overrides. A
run that finds that same leaderboard leaves it; new data, new code or `--force` let the asset choose
again.
"""

import getpass
import hashlib
import json
import socket
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timezone

import dagster as dg

from flts_assets.assets.leaderboard import load_board
from flts_assets.assets.models import MODEL_STAGES
from flts_assets.assets.platform import Platform
from flts_assets.assets.stage import LEADERBOARD, Stage, fingerprint_of, latest_place, place_of
from flts_assets.errors import PromotionError, TrackingError
from flts_assets.forecasting.forecaster import EXAMPLE_FILE, check_example, load_forecaster
from flts_assets.forecasting.leaderboard import Entry, Leaderboard
from flts_assets.forecasting.metrics import SCORE_WEIGHTS
from flts_assets.logs import EventLog
from flts_assets.recipe import Recipe
from flts_assets.stores.artifacts import Artifacts, Manifest
from flts_assets.stores.pointer import GLOBAL, Pointer, Promotion
from flts_assets.stores.tracked import champion_run
from flts_assets.stores.tracking import experiment_of

__all__ = [
    "Decision",
    "at_terminal",
    "mirror",
    "promote",
    "prove",
    "record",
    "roll_back",
    "saved_model",
    "stands",
    "version_of",
]


@dataclass(frozen=True)
class Decision:
    """Who decides for which recipe, and why. Raises PromotionError where nothing says why."""

    recipe: Recipe
    actor: str
    reason: str

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise PromotionError(
                "a decision without a reason is not recorded",
                received=self.reason,
                remedy="say why: it stands in the history",
            )


def promote(
    decision: Decision, run: str, platform: Platform, instance: dg.DagsterInstance, log: EventLog
) -> Promotion:
    """Make a model of the current leaderboard champion; `run`: its MLflow run id, or its type.

    Naming the champion itself repairs an alias that stands elsewhere, and is an error where none does.
    Raises PromotionError, ArtifactError where its files do not load or do not give the recorded forecast,
    and TrackingError where MLflow is away while an alias is repaired. A promotion does not need MLflow:
    where the alias cannot follow, a warning says so.
    """
    # The alias is called like the recipe: a file of the same hash may call it otherwise.
    decision = replace(decision, recipe=platform.registry.get(decision.recipe.config_hash))
    with _alone(decision.recipe, platform, log):
        board, chosen_from = _current_board(decision.recipe, platform, instance)
        entry = _entry(board, run)
        pointer = platform.pointer(decision.recipe.config_hash)
        champion, version = pointer.read() or (None, None)
        model = saved_model(entry, decision.recipe, platform.artifacts)
        if champion and (champion.model, champion.attempt) == (model.place, model.attempt):
            if champion_run(platform.tracking, champion.registered_name) != champion.run_id:
                mirror(champion, platform)
                log.info("alias_repaired", model_type=champion.model_type, run_id=champion.run_id)
                return champion
            raise PromotionError(
                f"this {entry.name} is the champion already",
                received=entry.run_id,
                remedy="flts history shows since when",
            )
        prove(model, platform, log)
        promotion = record(
            entry,
            model,
            decision,
            identifier=platform.identifier,
            leaderboard=chosen_from,
            previous=pointer.key_of(champion),
        ).model_copy(update={"overrides": chosen_from})
        _move(pointer, promotion, version, platform, log)
    return promotion


def roll_back(
    decision: Decision, platform: Platform, instance: dg.DagsterInstance, log: EventLog
) -> Promotion:
    """Put the champion before the current one back. Raises what `promote` raises."""
    with _alone(decision.recipe, platform, log):
        pointer = platform.pointer(decision.recipe.config_hash)
        current = pointer.read()
        if current is None:
            raise PromotionError(
                f"recipe {decision.recipe.name!r} has no champion",
                remedy="run it first: flts run",
            )
        champion, version = current
        target, key = _before(champion, pointer)
        model = platform.artifacts.get(target.model, target.attempt)
        prove(model, platform, log)
        place = latest_place(instance, LEADERBOARD, decision.recipe.config_hash)
        standing = platform.artifacts.find(place) if place else None
        promotion = target.model_copy(
            update={
                "timestamp": datetime.now(timezone.utc),
                "actor": decision.actor,
                "reason": decision.reason,
                "previous": pointer.key_of(champion),
                "restores": key,
                "overrides": standing.identity if standing else champion.leaderboard,
            }
        )
        _move(pointer, promotion, version, platform, log)
    return promotion


def stands(champion: Promotion, leaderboard: str, artifacts: Artifacts) -> bool:
    """The champion was chosen from this very leaderboard, or by a person who knew it, and its files
    stand unaltered."""
    return (
        leaderboard == (champion.overrides or champion.leaderboard)
        and artifacts.find_attempt(champion.model, champion.attempt) is not None
    )


def saved_model(entry: Entry, recipe: Recipe, artifacts: Artifacts) -> Manifest:
    """The very training that the leaderboard scored. Raises ArtifactError if it is incomplete."""
    assert entry.trained is not None
    stage = MODEL_STAGES[entry.name]  # type: ignore[index]
    place = place_of(stage, recipe.config_hash, entry.trained.fingerprint)
    return artifacts.get(place, entry.trained.attempt)


def prove(model: Manifest, platform: Platform, log: EventLog) -> None:
    """Raises ArtifactError unless the saved files load and give the recorded forecast."""
    files = platform.artifacts.read_all(model)
    forecaster = load_forecaster(files, platform.settings.step_threads)
    check_example(forecaster, files[EXAMPLE_FILE])
    log.info("promotion_artifacts_ok", model=model.key, files=len(files))


def record(
    entry: Entry,
    model: Manifest,
    decision: Decision,
    *,
    identifier: str | None,
    leaderboard: str,
    previous: str | None,
) -> Promotion:
    """The promotion of this row of the leaderboard."""
    assert entry.run_id is not None
    return Promotion(
        run_id=entry.run_id,
        model_type=entry.name,
        config_hash=decision.recipe.config_hash,
        model_uri=f"runs:/{entry.run_id}/{entry.name}",
        score=entry.scores.score,
        timestamp=datetime.now(timezone.utc),
        identifier=identifier or GLOBAL,
        experiment=experiment_of(entry.name),
        rmse=entry.scores.rmse,
        mae=entry.scores.mae,
        mse=entry.scores.mse,
        weights=dict(SCORE_WEIGHTS),
        recipe=decision.recipe.name,
        model=model.place,
        attempt=model.attempt,
        leaderboard=leaderboard,
        skill=entry.skill,
        reason=decision.reason,
        actor=decision.actor,
        previous=previous,
    )


def mirror(promotion: Promotion, platform: Platform) -> str:
    """Let MLflow's alias follow the pointer; the name of the registered model."""
    name = promotion.registered_name
    platform.tracking.mirror_champion(name, promotion.run_id, promotion.model_uri)
    return name


def version_of(stage: Stage, promotion: Promotion) -> str:
    """The data version of the asset: of the leaderboard it was chosen from, or of a person's decision."""
    inputs = {LEADERBOARD.name: promotion.overrides or promotion.leaderboard}
    if promotion.overrides:
        inputs["decision"] = hashlib.sha256(
            json.dumps([promotion.run_id, promotion.attempt, promotion.restores]).encode()
        ).hexdigest()
    return fingerprint_of(stage, promotion.config_hash, inputs)


def at_terminal() -> str:
    """The actor of a command: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def _current_board(
    recipe: Recipe, platform: Platform, instance: dg.DagsterInstance
) -> tuple[Leaderboard, str]:
    place = latest_place(instance, LEADERBOARD, recipe.config_hash)
    if place is None:
        raise PromotionError(
            f"recipe {recipe.name!r} has no leaderboard", remedy="run it first: flts run"
        )
    manifest = platform.artifacts.get(place)
    return load_board(platform.artifacts, manifest), manifest.identity


def _entry(board: Leaderboard, run: str) -> Entry:
    for entry in board.models:
        if run in (entry.run_id, entry.name) or run.upper() == entry.name:
            return entry
    raise PromotionError(
        "no such model on the current leaderboard",
        received=run,
        allowed=", ".join(f"{entry.name} ({entry.run_id})" for entry in board.models),
        remedy="name a model or its MLflow run; an earlier champion: flts rollback",
    )


def _before(champion: Promotion, pointer: Pointer) -> tuple[Promotion, str]:
    """The newest promotion of another model that was champion and was not rolled back, and its key."""
    in_force = champion
    while True:
        if in_force.restores is not None:  # what it put back is what it is
            in_force = pointer.recorded(in_force.restores)
        if in_force.previous is None:
            raise PromotionError(
                "there is no champion before the current one",
                received=f"{champion.model_type} {champion.run_id}",
                remedy="flts promote makes another model of the leaderboard champion",
            )
        key = in_force.previous
        in_force = pointer.recorded(key)
        if (in_force.model, in_force.attempt) != (champion.model, champion.attempt):
            break
    if in_force.restores is not None:
        key = in_force.restores
        in_force = pointer.recorded(key)
    return in_force, key


def _alone(recipe: Recipe, platform: Platform, log: EventLog) -> AbstractContextManager[None]:
    """Take turns with the asset."""
    return platform.alone(f"{recipe.config_hash[:16]}-promoted_model", log)


def _move(
    pointer: Pointer, promotion: Promotion, version: str | None, platform: Platform, log: EventLog
) -> None:
    pointer.move(promotion, version)
    log.info(
        "promotion_decision",
        model_type=promotion.model_type,
        run_id=promotion.run_id,
        score=promotion.score,
        actor=promotion.actor,
        reason=promotion.reason,
    )
    try:
        mirror(promotion, platform)
    except TrackingError as error:  # the pointer counts; another try would be another decision
        log.warning(
            "alias_not_moved",
            message=f"the pointer HAS moved, but MLflow's alias champion did not follow: {error.what};"
            " remedy: materialise promoted_model, or promote this model again, to repair the alias",
        )
