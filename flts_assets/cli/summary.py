"""What `flts run` says at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from flts_assets.assets.stage import LEADERBOARD, latest_place
from flts_assets.forecasting.leaderboard import Leaderboard
from flts_assets.stores.object_store import MODEL_PROMOTION

if TYPE_CHECKING:
    import dagster as dg

    from flts_assets.assets.platform import Platform
    from flts_assets.cli.run_view import RunView
    from flts_assets.recipe import Recipe

__all__ = ["print_failures", "print_summary"]


def print_summary(
    recipe: Recipe, platform: Platform, instance: dg.DagsterInstance, console: Console
) -> None:
    """The leaderboard and the pointer."""
    from flts_assets.assets.leaderboard import load_board

    place = latest_place(instance, LEADERBOARD, recipe.config_hash)
    pointer = platform.pointer(recipe.config_hash)
    current = pointer.read()
    assert place is not None
    assert current is not None
    console.print(_table(load_board(platform.artifacts, platform.artifacts.get(place))))
    champion = current[0]
    console.print(
        f"champion {champion.model_type}  {champion.model_uri}  {champion.reason}", soft_wrap=True
    )
    console.print(f"pointer  {MODEL_PROMOTION}/{pointer.key}", soft_wrap=True)


def print_failures(
    view: RunView, run_id: str, instance: dg.DagsterInstance, log: Path, console: Console
) -> None:
    """Why it failed: one message a stage, or what Dagster says of the whole run."""
    from dagster import DagsterRunStatus

    for stage, message in view.failures.items():
        console.print(f"flts: {stage}: {message}", markup=False, soft_wrap=True)
    if view.failures:
        return
    run = instance.get_run_by_id(run_id)
    what = (
        "the run was interrupted"
        if run is not None and run.status == DagsterRunStatus.CANCELED
        else f"the run failed: {view.run_failure or 'no step says why'}"
    )
    console.print(f"flts: {what}; see {log}", markup=False, soft_wrap=True)


def _table(board: Leaderboard) -> Table:
    table = Table(title=f"{board.forecasts:,} test windows, targets {', '.join(board.targets)}")
    shown = ["score", "rmse", "mae"] if board.rank_by == "score" else [board.rank_by, "score"]
    levels = board.models[0].coverage
    covered = [f"in {float(level):.0%} band" for level in levels]
    measures = [name if name == "score" else name.upper() for name in shown]
    if board.rank_on == "backtest":
        measures.insert(0, f"{board.rank_by} in the backtest")
    for title in ("", "model", *measures, "skill", *covered, "fit", "predict"):
        table.add_column(title, justify="left" if title == "model" else "right")
    for entry in board.entries:
        scores = entry.scores.measures()
        table.add_row(
            str(entry.rank),
            entry.name,
            *(
                [f"{entry.ranked_by(board).by(board.rank_by):.5g}"]
                if board.rank_on == "backtest"
                else []
            ),
            *(f"{scores[name]:.5g}" if name in scores else "" for name in shown),
            f"{entry.skill:+.3f}",
            *(f"{entry.coverage[level]:.1%}" if entry.coverage else "" for level in levels),
            f"{entry.fit_s:.2f} s",
            f"{entry.predict_s:.3f} s",
            style="bold" if entry.kind == "model" else "dim",
        )
    return table
