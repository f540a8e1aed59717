"""How claims of the verification report are put and held against what stands there."""

from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

from flts_assets.assets.evidence import Evidence
from flts_assets.assets.stage import Stage
from flts_assets.errors import EvidenceError, FltsError
from flts_assets.forecasting.leaderboard import Entry
from flts_assets.forecasting.verification import same_score
from flts_assets.recipe import CandidateType
from flts_assets.stores.pointer import Promotion

__all__ = [
    "entries_of",
    "expect_none",
    "expect_same",
    "expect_same_score",
    "listed",
    "number",
    "object_of",
    "piece_of",
    "run_id_of",
    "when",
]


def expect_same(received: object, expected: object, what: str) -> None:
    if received != expected:
        raise EvidenceError(what, received=received, allowed=str(expected)[:200])


def expect_same_score(promotion: Promotion, score: float, what: str) -> None:
    if not same_score(promotion.score, score):
        raise EvidenceError(what, received=promotion.score, allowed=str(score))


def expect_none(fault: str | None) -> None:
    if fault is not None:
        raise EvidenceError(fault)


def piece_of(evidence: Evidence, name: str) -> Any:
    """A piece of evidence for a table; None where it is missing, which a claim's line tells."""
    try:
        return getattr(evidence, name)
    except FltsError:
        return None


def entries_of(evidence: Evidence) -> Iterable[Entry]:
    board = piece_of(evidence, "board")
    return () if board is None else board.entries


def run_id_of(evidence: Evidence, name: CandidateType) -> str:
    board = piece_of(evidence, "board")
    return "" if board is None else str(board.entry(name).run_id)


def object_of(evidence: Evidence, stage: Stage, name: str) -> str:
    try:
        manifest = evidence.manifest(stage)
    except FltsError:
        return f"{stage.bucket}/{evidence.config_hash}/{stage.name}/"
    return f"{stage.bucket}/{manifest.place.file_key(manifest.attempt, name)}"


def number(value: float | None, shape: str) -> str:
    return "" if value is None else shape.format(value)


def when(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).isoformat(sep=" ", timespec="seconds")[:19]


def listed(names: Iterable[str]) -> str:
    return ", ".join(names)
