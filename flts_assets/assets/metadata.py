"""Pictures and tables for Dagster's pages."""

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg

from flts_assets.forecasting.comparison import Difference
from flts_assets.forecasting.leaderboard import Leaderboard
from flts_assets.forecasting.metrics import Scores
from flts_assets.forecasting.plots import small

__all__ = ["leaderboard_table", "picture", "scores_table", "table"]


def picture(title: str, png: bytes) -> dg.MarkdownMetadataValue:
    """A PNG that opens in the asset's page, made small: it is kept in the event log."""
    return dg.MetadataValue.md(
        f"![{title}](data:image/png;base64,{base64.b64encode(small(png)).decode()})"
    )


def table(rows: Iterable[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Rows with equal keys; None is an empty cell."""
    return dg.MetadataValue.table(
        [
            dg.TableRecord({key: "" if value is None else value for key, value in row.items()})
            for row in rows
        ]
    )


def scores_table(scores: Scores) -> dg.TableMetadataValue:
    """One row a measure."""
    units = {"mse": "train range squared", "nrmse": "mean of the target"}
    rows = [
        {"measure": name, "value": value, "unit": units.get(name, "train range")}
        for name, value in scores.measures().items()
    ]
    rows += [
        {"measure": f"rmse of {target}", "value": value, "unit": "raw"}
        for target, value in scores.raw_rmse.items()
    ]
    return table(rows)


def leaderboard_table(board: Leaderboard) -> dg.TableMetadataValue:
    """One row an entry, best first."""
    return table(
        {
            "rank": entry.rank,
            "name": entry.name,
            "kind": entry.kind,
            "score": round(entry.scores.score, 6),
            "rmse": round(entry.scores.rmse, 6),
            "mae": round(entry.scores.mae, 6),
            "nrmse": None if entry.scores.nrmse is None else round(entry.scores.nrmse, 6),
            "skill": round(entry.skill, 4),
            "backtest": None
            if entry.backtest is None
            else round(entry.backtest.by(board.rank_by), 6),
            "before_persistence": _interval(entry.before_persistence),
            "behind_best": _interval(entry.behind_best),
            "coverage": ", ".join(
                f"{float(level):.0%}: {share:.1%}" for level, share in entry.coverage.items()
            ),
            "fit_s": round(entry.fit_s, 3),
            "predict_s": round(entry.predict_s, 4),
            "run_id": entry.run_id,
        }
        for entry in board.entries
    )


def _interval(difference: Difference | None) -> str | None:
    return None if difference is None else str(difference)
