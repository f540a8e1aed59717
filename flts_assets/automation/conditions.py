"""What Dagster does by itself: it keeps up to date what exists.

New work starts with a person or a sensor, never here: a thousand registered partitions that nobody ran
start nothing. What was materialised once follows its inputs: where a data version above it changed, or
the code version of its own stage, it is requested, and with it, in the same run, what exists below it.
Data versions are fingerprints, so a stage whose inputs turn out to be the same computes nothing.
"""

from __future__ import annotations

import dagster as dg

from flts_assets.automation.jobs import STARTED_BY_TAG, WHOLE_TAG

__all__ = ["automated", "keep_up_to_date"]

_AC = dg.AutomationCondition
_Condition = dg.AutomationCondition[dg.AssetKey]

# What a run changes that goes on to this asset is that run's to follow, even if it fails or is ended. The
# tag tells of each partition, but not of what came while the tick was going on; Dagster's own condition
# does, but only of an asset's very last run.
_followed = (
    _AC.all_new_updates_have_run_tags(tag_keys={WHOLE_TAG}) | _AC.executed_with_root_target()
)

# `will_be_requested` puts what follows into the same run. There is no `any_deps_missing`: leaderboard
# also stands below the models that a recipe does not ask for, and those never exist.
_changed = (
    _AC.any_deps_match((_AC.data_version_changed() & ~_followed) | _AC.will_be_requested())
    | _AC.code_version_changed()
) & ~_AC.missing()

_promoted = _AC.any_deps_match(_AC.newly_updated()) | _AC.code_version_changed()


def _until_requested(what: _Condition) -> _Condition:
    """True from then on, until the asset is requested; what changes in that very moment counts anew.

    That the asset was made meanwhile is no answer: its run may have read its inputs before, and a tick
    reads assets seconds before it reads runs. At most a run too many finds that there is nothing to do.
    """
    return what.since(_AC.newly_requested() & ~what)


KEEP_UP_TO_DATE = (
    _until_requested(_changed) & ~_AC.any_deps_in_progress() & ~_AC.in_progress()
).with_label("keep up to date")
"""For the assets of one recipe."""

AFTER_PROMOTIONS = (_until_requested(_promoted) & ~_AC.in_progress()).with_label("after promotions")
"""For an overview of all recipes: any promotion is enough, none is waited for."""


def automated(spec: dg.AssetSpec) -> dg.AssetSpec:
    """The asset with its condition. What watches the service goes by the clock (`schedules`)."""
    if spec.group_name == "serving":
        return spec
    condition = KEEP_UP_TO_DATE if spec.partitions_def else AFTER_PROMOTIONS
    return spec.replace_attributes(automation_condition=condition)


keep_up_to_date = dg.AutomationConditionSensorDefinition(
    "keep_up_to_date",
    target=dg.AssetSelection.all(),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    run_tags={STARTED_BY_TAG: "keep_up_to_date", WHOLE_TAG: "true"},
    # One run a recipe, with its own tags and log, as from anywhere else.
    emit_backfills=False,
    description="Requests what exists and whose inputs or code changed; never what nobody asked for.",
)
