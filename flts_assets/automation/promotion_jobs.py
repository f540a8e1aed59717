"""Promotion and rollback from the web UI's launchpad, as `flts promote` and `flts rollback` do them."""

import dagster as dg
from pydantic import Field

from flts_assets.assets.platform import Platform
from flts_assets.assets.promotion_event import materialization
from flts_assets.assets.succession import Decision, promote, roll_back
from flts_assets.errors import FltsError
from flts_assets.logs import EventLog, event_log
from flts_assets.stores.pointer import Promotion

__all__ = ["promote_model", "roll_back_model"]


class Rollback(dg.Config):
    """Whose champion gives way."""

    config_hash: str = Field(description="The recipe's hash: a partition key")
    reason: str = Field(description="Why; it stands in the history")


class Choice(Rollback):
    """Which model becomes champion."""

    run: str = Field(
        description="A model of the current leaderboard: its MLflow run id, or its type"
    )


@dg.op
def choose_champion(context: dg.OpExecutionContext, config: Choice, platform: Platform) -> None:
    """Promote this model, after its saved files were loaded and gave the recorded forecast."""
    try:
        log, decision = _begin(context, config, platform)
        _tell(context, promote(decision, config.run, platform, context.instance, log), platform)
    except FltsError as error:
        raise dg.Failure(str(error), allow_retries=False) from error


@dg.op
def restore_champion(context: dg.OpExecutionContext, config: Rollback, platform: Platform) -> None:
    """Put the champion before the current one back, proven like any other."""
    try:
        log, decision = _begin(context, config, platform)
        _tell(context, roll_back(decision, platform, context.instance, log), platform)
    except FltsError as error:
        raise dg.Failure(str(error), allow_retries=False) from error


@dg.job
def promote_model() -> None:
    """Make a model of a recipe's current leaderboard champion."""
    choose_champion()


@dg.job
def roll_back_model() -> None:
    """Put a recipe's champion before the current one back; again: the one before that."""
    restore_champion()


def _begin(
    context: dg.OpExecutionContext, config: Rollback, platform: Platform
) -> tuple[EventLog, Decision]:
    recipe = platform.registry.get(config.config_hash)
    context.instance.add_run_tags(context.run_id, {"flts/recipe": recipe.name})
    log = event_log(context.log, stage=context.op.name, config_hash=recipe.config_hash)
    return log, Decision(recipe, f"dagster run {context.run_id}", config.reason)


def _tell(context: dg.OpExecutionContext, promotion: Promotion, platform: Platform) -> None:
    context.log_event(materialization(promotion, platform, context.instance))
