"""Who may be promoted: the first on the leaderboard, unless chance may have put it there."""

from __future__ import annotations

from flts_assets.errors import PromotionError
from flts_assets.forecasting.baselines import PERSISTENCE
from flts_assets.forecasting.comparison import Difference
from flts_assets.forecasting.leaderboard import Entry, Leaderboard
from flts_assets.recipe.model import Promotion

__all__ = ["choose"]


def choose(board: Leaderboard, rules: Promotion) -> tuple[Entry, str]:
    """The model to promote, and why. Raises PromotionError where the rules refuse all of them.

    Models that are not shown to be behind the first share its place, and the recipe's tie rule decides
    among them; of those that began together the better rank.
    """
    first = board.models[0]
    tied = [
        entry
        for entry in board.models
        if entry is first or entry.behind_best is None or not entry.behind_best.significant
    ]
    allowed = [
        entry for entry in tied if _beats_persistence(entry) or not rules.must_beat_persistence
    ]
    if not allowed:
        raise PromotionError(
            f"the best model, {first.name}, does not beat persistence",
            received=f"{board.rank_by} lower by {_told(first.before_persistence)},"
            f" {rules.confidence:.0%} interval",
            allowed="an interval above 0 (promotion.must_beat_persistence)",
            remedy="the pointer stays where it was; improve the recipe",
        )
    winner = max(allowed, key=_started_at) if rules.tie == "newest_start" else allowed[0]
    return winner, _reason(winner, board, tied, allowed, rules)


def _beats_persistence(entry: Entry) -> bool:
    return entry.before_persistence is not None and entry.before_persistence.better


def _started_at(entry: Entry) -> float:
    return entry.trained.started_at.timestamp() if entry.trained else 0.0


def _reason(
    winner: Entry, board: Leaderboard, tied: list[Entry], allowed: list[Entry], rules: Promotion
) -> str:
    windows = f"{board.forecasts} test windows" if board.rank_on == "test" else "the backtest"
    value = winner.ranked_by(board).by(board.rank_by)
    text = f"{board.rank_by} {value:.5f} on {windows}"
    others = board.models[1:]
    if len(tied) > 1:
        text += f"; no significant difference between {_names(tied)}"
    elif others:
        text += f"; the runner-up, {others[0].name}, is behind by {_told(others[0].behind_best)}"
    aside = [entry for entry in tied if entry not in allowed]
    if aside:
        text += f"; not shown to beat {PERSISTENCE}: {_names(aside)}"
    if len(allowed) > 1:
        rule = "the newest start" if rules.tie == "newest_start" else "the rank"
        text += f"; {rule} decides"
    ahead = winner.before_persistence
    if ahead is not None and ahead.high < 0:
        text += f"; significantly worse than {PERSISTENCE} (ahead by {ahead})"
    elif not _beats_persistence(winner):
        text += f"; does not significantly beat {PERSISTENCE} (ahead by {_told(ahead)})"
    better_baselines = [
        entry for entry in board.entries if entry.kind == "baseline" and entry.rank < winner.rank
    ]
    if better_baselines:
        text += f"; better baselines: {_names(better_baselines)}"
    return text


def _names(entries: list[Entry]) -> str:
    return ", ".join(entry.name for entry in entries)


def _told(difference: Difference | None) -> str:
    return "an undefined difference" if difference is None else str(difference)
