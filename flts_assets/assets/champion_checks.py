"""What must hold of a champion at any time: looked at in each run, and whenever somebody asks.

In a run of one partition that partition's champion is looked at; without one (*Execute* in the web UI)
all champions are, and a check that fails names those at fault.

Automation's own runs, `flts promote` and `flts rollback` materialise the asset without these checks,
which would then read "not evaluated": automation asks for a look at all champions after them. A check
has one result for all partitions: where another recipe's run is checked in between, the daily look comes.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import dagster as dg

from flts_assets.assets.champion import Champion
from flts_assets.assets.checks import checked
from flts_assets.assets.launcher import end_with_launcher
from flts_assets.assets.platform import Platform
from flts_assets.assets.promotion import FRESH
from flts_assets.assets.promotion_event import PROMOTION
from flts_assets.errors import ArtifactError, FltsError, PromotionError, TrackingError
from flts_assets.forecasting.verification import same_score
from flts_assets.stores.pointer import told_promotions
from flts_assets.stores.tracked import champion_run, tracked_run

__all__ = ["champion_checks"]

RESOLVES, MIRRORED = "pointer_resolves", "alias_mirrors_pointer"
REPRODUCED, FRESHNESS = "champion_reproduces_score", "champion_is_fresh"
WARNS = {FRESHNESS}

_WHAT = {
    RESOLVES: "The pointer names files that stand unaltered, load, and give their recorded forecast.",
    MIRRORED: "MLflow's alias champion stands at the pointer's run.",
    REPRODUCED: "The champion, loaded and asked for the test windows again, has the score of its"
    " promotion, and MLflow holds the same.",
    FRESHNESS: f"Its partition was materialised within {FRESH.days} days.",
}


_AC = dg.AutomationCondition
_NOT_LOOKED_AT = (
    _AC.any_deps_match(_AC.newly_updated()).since(_AC.newly_requested())
    & _AC.missing()
    & ~_AC.in_progress()
    & ~_AC.any_deps_in_progress()
).with_label("after champions that nobody looked at")
"""A check is `missing` while the newest materialisation has no result of it and no run is to give one.

While any champion is being made the look waits, for it reads them all: a thousand that follow each other
are not looked at a thousand times.
"""


@dg.multi_asset_check(
    name="champion_checks",
    specs=[
        dg.AssetCheckSpec(
            name, asset=PROMOTION.name, description=what, automation_condition=_NOT_LOOKED_AT
        )
        for name, what in _WHAT.items()
    ],
    description="Pointer, files, alias and score of a champion, read again.",
)
def champion_checks(
    context: dg.AssetCheckExecutionContext, platform: Platform
) -> Iterator[dg.AssetCheckResult]:
    """One partition's champion, or all that there are or ought to be."""
    end_with_launcher()
    config_hash = context.run.tags.get("dagster/partition")
    champions = (
        _all(platform, context.instance)
        if config_hash is None
        else [Champion(platform, config_hash, platform.pointer(config_hash))]
    )
    looks: dict[str, Callable[[Champion], str]] = {
        RESOLVES: _resolves,
        MIRRORED: lambda champion: _mirrored(champion, platform),
        REPRODUCED: lambda champion: _reproduced(champion, platform),
        FRESHNESS: lambda champion: _fresh(champion, context.instance),
    }
    for name, look in looks.items():
        yield _result(name, look, champions)


def _all(platform: Platform, instance: dg.DagsterInstance) -> list[Champion]:
    """Those that ought to stand: of each pointer, each history, and each partition materialised here."""
    pointers = {pointer.key: pointer for pointer, _ in told_promotions(platform.store)}
    told = {pointer.config_hash for pointer in pointers.values()}
    for config_hash in instance.get_materialized_partitions(dg.AssetKey(PROMOTION.name)) - told:
        pointer = platform.pointer(config_hash)
        pointers[pointer.key] = pointer
    return [Champion(platform, one.config_hash, one) for one in pointers.values()]


def _result(
    name: str, look: Callable[[Champion], str], champions: list[Champion]
) -> dg.AssetCheckResult:
    told, faults = [], []
    for champion in champions:
        try:
            told.append(look(champion))
        except FltsError as error:
            faults.append(f"{champion.pointer.key}: {error}")
    what = told[0] if len(told) == 1 and not faults else f"{len(told)} of {len(champions)} hold"
    facts: dict[str, Any] = {"champions": len(champions), "at_fault": len(faults)}
    if len(champions) == 1:
        facts["config_hash"] = champions[0].config_hash
    return checked(name, not faults, "; ".join(faults) or what, facts, warn=name in WARNS)


def _resolves(champion: Champion) -> str:
    champion.forecaster  # noqa: B018  # reading it is the proof
    return f"{champion.promotion.model_type}: {len(champion.manifest.files)} files stand and load"


def _mirrored(champion: Champion, platform: Platform) -> str:
    name = champion.promotion.registered_name
    stands = champion_run(platform.tracking, name)
    if stands != champion.promotion.run_id:
        raise TrackingError(
            f"models:/{name}@champion is not the pointer's run",
            received=stands,
            allowed=champion.promotion.run_id,
            remedy="materialise promoted_model again",
        )
    return f"models:/{name}@champion stands at run {stands}"


def _reproduced(champion: Champion, platform: Platform) -> str:
    promised = champion.promotion.score
    again = champion.scores_on_test().score
    logged = tracked_run(platform.tracking, champion.promotion.run_id).metrics.get("test_score")
    if not (same_score(again, promised) and same_score(again, logged)):
        raise ArtifactError(
            "the champion's files do not have the score it was promoted for",
            received=again,
            allowed=f"{promised} (promotion), {logged} (MLflow)",
            remedy="compare library versions with its manifest, or train it again",
        )
    return f"score {again:.6g} again, as promoted and as in MLflow"


def _fresh(champion: Champion, instance: dg.DagsterInstance) -> str:
    of_partition = dg.AssetRecordsFilter(
        asset_key=dg.AssetKey(PROMOTION.name), asset_partitions=[champion.config_hash]
    )
    records = instance.fetch_materializations(of_partition, limit=1).records
    if not records:
        raise PromotionError("promoted_model of this partition was never materialised here")
    looked_at = datetime.fromtimestamp(records[0].timestamp, timezone.utc)
    age = datetime.now(timezone.utc) - looked_at
    if age > FRESH:
        raise PromotionError(
            "the champion was not looked at lately",
            received=f"{age // timedelta(days=1)} days ago",
            allowed=f"at most {FRESH.days} days",
            remedy="materialise the partition again",
        )
    return f"materialised at {looked_at.isoformat(timespec='seconds')}"
