"""What the page shows beyond a champion: its station's rows, and the leaderboard it was chosen from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from flts_assets.forecasting.demo_cell import to_csv
from flts_assets.forecasting.leaderboard import Entry, Leaderboard
from flts_assets.forecasting.metrics import Scores
from flts_assets.recipe import CandidateType
from flts_assets.stores.artifacts import Artifacts, Manifest, Outputs, Place, new_attempt
from flts_assets.stores.object_store import DATASET, MODELS, ObjectStore
from flts_assets.stores.pointer import Pointer, Promotion
from flts_assets_tests.serving.deployed import later_rows, promote, recipe_of

__all__ = ["NAMES", "add_rows", "promote_from_board", "write_board"]

NAMES: Final = ("TREES", "GRU", "persistence")
"""the leaderboard's, best first"""


def add_rows(store: ObjectStore, kind: CandidateType, content: bytes | None = None) -> None:
    """Put the test file of the kind's station: `content`, or 160 rows of DemoCell."""
    file = recipe_of(kind).data.test_file
    store.put(DATASET, file, to_csv(later_rows()) if content is None else content)


def promote_from_board(
    store: ObjectStore, kind: CandidateType, names: Sequence[str] = NAMES
) -> Promotion:
    """Champion of its station, first as any, then by a leaderboard: two promotions."""
    first = promote(store, kind)
    pointer = Pointer(store, first.config_hash, None)
    current = pointer.read()
    assert current is not None
    changes: dict[str, Any] = {
        "leaderboard": write_board(store, kind, names=names).identity,
        "reason": "score 0.02000 on 150 test windows",
        "score": 0.02,
        "skill": 0.25,
        "run_id": f"{first.run_id}-again",
        "previous": pointer.key_of(first),
    }
    promotion = first.model_copy(update=changes)
    pointer.move(promotion, current[1])
    return promotion


def write_board(
    store: ObjectStore, kind: CandidateType, best: float = 0.02, names: Sequence[str] = NAMES
) -> Manifest:
    """A leaderboard of these, as its asset leaves it; it becomes the current one."""
    config_hash = recipe_of(kind).config_hash
    board = Leaderboard(
        config_hash=config_hash,
        rank_by="score",
        targets=("down", "up"),
        forecasts=150,
        entries=tuple(_entry(place, name, best) for place, name in enumerate(names)),
    )
    place = Place(bucket=MODELS, config_hash=config_hash, stage="leaderboard", fingerprint="b" * 64)
    artifacts = Artifacts(store)
    return artifacts.write(
        place,
        Outputs({"leaderboard.json": board.model_dump_json().encode()}, {}),
        {},
        code_version="1",
        attempt=new_attempt(),
        replacing=artifacts.version(place),
    )


def _entry(place: int, name: str, best: float) -> Entry:
    score = best * (1 + place)
    is_model = re.fullmatch("[A-Z]+", name) is not None
    return Entry(
        rank=place + 1,
        name=name,
        kind="model" if is_model else "baseline",
        scores=Scores(
            rmse=score, mae=score, mse=score, score=score, nrmse=None, raw_rmse={}, forecasts=300
        ),
        skill=1 - score / (3 * best),
        coverage={"0.9": 0.88} if is_model else {},
        fit_s=1.5,
        predict_s=0.002,
    )
