"""Who is best at each station, over all recipes."""

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

import dagster as dg

from flts_assets.assets.metadata import table
from flts_assets.assets.platform import Platform
from flts_assets.assets.promotion import promoted_model
from flts_assets.errors import RecipeError
from flts_assets.logs import EventLog, event_log
from flts_assets.recipe import Recipe
from flts_assets.stores.object_store import MODEL_PROMOTION
from flts_assets.stores.pointer import GLOBAL, Promotion, champions_of

__all__ = ["champions", "champions_key"]

LIKE = ("station", "targets", "window", "horizon", "test_rows")
"""what must be equal of those that are compared"""

Row = dict[str, Any]


@dg.asset(
    deps=[promoted_model],
    group_name="promotion",
    owners=["team:ml"],
    kinds={"json"},
    code_version="2",
)
def champions(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult[Any]:
    """The best promoted model of each station and request, over all recipes of the identifier.

    Only like is compared with like: same station, scored targets, window size and horizon, and the same
    rows asked of the test file, which each promotion read as it stood then. Within that the highest skill
    wins (1 - score / score of persistence on the same windows), because a score is in units of its own
    recipe's train range, and two recipes may train on different rows. The table is also the object
    `model-promotion/<identifier>/champions.json`.
    """
    log = event_log(context.log, stage="champions")
    rows = best_of(_rows(platform, log))
    content = json.dumps(rows, indent=1).encode()
    key = champions_key(platform.identifier)
    platform.store.put(MODEL_PROMOTION, key, content)
    now = datetime.now(timezone.utc)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(hashlib.sha256(content).hexdigest()),
        metadata={
            "dagster/row_count": len(rows),
            "stations": len({row["station"] for row in rows}),
            "compared": sum(row["candidates"] for row in rows),
            # A table of no rows would need a schema.
            **({"champions": table(_shown(row, now) for row in rows)} if rows else {}),
            "outputs": f"{MODEL_PROMOTION}/{key}",
        },
    )


def champions_key(identifier: str | None) -> str:
    """Of the table in the bucket model-promotion."""
    return f"{identifier or GLOBAL}/champions.json"


def best_of(rows: Iterable[Row]) -> list[Row]:
    """The row of highest skill among those that are `LIKE`; the newest of equals.

    `candidates` says how many it was chosen from.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        like = tuple(row[name] for name in LIKE)
        groups.setdefault(like, []).append(row)
    return [
        {**max(group, key=lambda row: (row["skill"], row["promoted_at"])), "candidates": len(group)}
        for _, group in sorted(groups.items())
    ]


def _rows(platform: Platform, log: EventLog) -> Iterable[Row]:
    for promotion in champions_of(platform.store, platform.identifier):
        try:
            recipe = platform.registry.get(promotion.config_hash)
        except RecipeError as error:  # one lost record hides no other station
            log.warning("champion_unexplained", message=str(error))
            continue
        yield _row(promotion, recipe)


def _row(promotion: Promotion, recipe: Recipe) -> Row:
    data = recipe.data
    rows = f"{data.sample_strategy} {data.sample_test_rows}" if data.sample_test_rows else "all"
    if data.sample_test_rows and data.sample_strategy == "random":
        rows += f", seed {data.sample_seed}"
    return {
        "station": recipe.station,
        "targets": ", ".join(recipe.evaluation.targets or recipe.window.targets),
        "window": recipe.window.size,
        "horizon": recipe.window.horizon,
        "test_rows": f"{data.test_file}: {rows}",
        "model": promotion.model_type,
        "score": promotion.score,
        "skill": promotion.skill,
        "recipe": recipe.name,
        "config_hash": promotion.config_hash,
        "mlflow_run_id": promotion.run_id,
        "promoted_at": promotion.timestamp.isoformat(timespec="seconds"),
    }


def _shown(row: Row, now: datetime) -> Row:
    age = now - datetime.fromisoformat(row["promoted_at"])
    return {
        **row,
        "score": round(row["score"], 6),
        "skill": round(row["skill"], 4),
        "age_days": round(age.total_seconds() / 86400, 1),
    }
