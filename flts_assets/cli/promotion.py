"""`flts promote`, `flts rollback`, `flts history`: who is champion, by a person's decision."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from flts_assets.cli.recipes import find_recipe

if TYPE_CHECKING:
    import dagster as dg

    from flts_assets.assets.platform import Platform
    from flts_assets.assets.succession import Decision
    from flts_assets.logs import EventLog
    from flts_assets.recipe import Recipe
    from flts_assets.stores.pointer import Promotion

__all__ = ["history", "promote", "rollback"]

RecipeName = Annotated[
    str, typer.Argument(metavar="HASH", help="A config hash, its start, a recipe's name or file.")
]
Reason = Annotated[str, typer.Option(help="Why; it stands in the history.")]
BY_HAND = "decided at a terminal"


def promote(
    recipe: RecipeName,
    run: Annotated[
        str,
        typer.Argument(help="A model of the current leaderboard: its MLflow run id, or its type."),
    ],
    reason: Reason = BY_HAND,
) -> None:
    """Make another model champion, after its saved files gave the recorded forecast."""
    from flts_assets.assets import succession

    _decide(
        recipe,
        reason,
        lambda decision, platform, instance, log: succession.promote(
            decision, run, platform, instance, log
        ),
    )


def rollback(recipe: RecipeName, reason: Reason = BY_HAND) -> None:
    """Put the champion before the current one back; again: the one before that."""
    from flts_assets.assets import succession

    _decide(recipe, reason, succession.roll_back)


def history(
    recipe: RecipeName,
    as_json: Annotated[bool, typer.Option("--json", help="The records, newest first.")] = False,
) -> None:
    """Every champion of a recipe, newest first: since when, who decided, why."""
    from flts_assets.cli.platform import open_platform

    platform = open_platform()
    _print_history(find_recipe(recipe, platform), platform, as_json)


def _decide(
    name: str,
    reason: str,
    act: Callable[[Decision, Platform, dg.DagsterInstance, EventLog], Promotion],
) -> None:
    from flts_assets.assets.promotion_event import materialization
    from flts_assets.assets.succession import Decision, at_terminal
    from flts_assets.cli.platform import open_instance, open_platform
    from flts_assets.cli.terminal import own_terminal

    platform = open_platform()
    recipe = find_recipe(name, platform)
    warnings = _Warnings()
    with (
        own_terminal(platform.settings.step_log),
        open_instance(platform) as instance,
    ):
        log = _log(recipe, warnings)
        promotion = act(Decision(recipe, at_terminal(), reason), platform, instance, log)
        instance.report_runless_asset_event(materialization(promotion, platform, instance))
    for line in warnings.told:
        typer.echo(f"flts: warning: {line}", err=True)
    _print_history(recipe, platform, as_json=False)


class _Warnings(logging.Handler):
    """What the terminal must tell, although the log goes to a file."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(str(json.loads(record.getMessage())["message"]))


def _log(recipe: Recipe, warnings: _Warnings) -> EventLog:
    from flts_assets.logs import event_log

    logger = logging.getLogger("flts")
    logger.addHandler(warnings)
    return event_log(logger, stage="promotion", config_hash=recipe.config_hash)


def _print_history(recipe: Recipe, platform: Platform, as_json: bool) -> None:
    promotions = list(platform.pointer(recipe.config_hash).history())
    if as_json:
        sys.stdout.write(json.dumps([one.model_dump(mode="json") for one in promotions], indent=1))
        sys.stdout.write("\n")
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    console.print(f"{recipe.name}  {recipe.config_hash}")
    if not promotions:
        console.print("no champion yet")
        return
    table = Table(box=None, pad_edge=False)
    for title in ("since (UTC)", "model", "MLflow run", "score", "how", "actor", "reason"):
        table.add_column(title, justify="right" if title == "score" else "left")
    for index, one in enumerate(promotions):
        table.add_row(
            f"{one.timestamp:%Y-%m-%d %H:%M:%S}",
            one.model_type,
            one.run_id[:12],
            f"{one.score:.5g}",
            _how(one),
            one.actor,
            one.reason,
            style="bold" if index == 0 else "dim",
        )
    console.print(table)


def _how(promotion: Promotion) -> str:
    if promotion.restores is not None:
        return "rolled back"
    return "by hand" if promotion.overrides is not None else "leaderboard"
