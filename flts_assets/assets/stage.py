"""What all stages share: recipe, fingerprint, idempotence, clear failure.

    fingerprint = sha256(config_hash, stage, code version, the inputs actually read)

It is the asset's data version and names the place of its outputs. A stage whose outputs stand complete
at its fingerprint computes nothing and materialises what is there.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import dagster as dg

from flts_assets.assets.checks import checked, with_recipe
from flts_assets.assets.launcher import end_with_launcher
from flts_assets.assets.platform import Platform
from flts_assets.errors import FltsError, UpstreamMissingError
from flts_assets.logs import EventLog, event_log
from flts_assets.recipe import Recipe
from flts_assets.stores.artifacts import Manifest, Outputs, Place, new_attempt
from flts_assets.stores.object_store import MODELS, PROCESSED_DATA
from flts_assets.stores.pointer import GLOBAL

__all__ = [
    "NOT_IN_RECIPE",
    "Outcome",
    "Outputs",
    "Stage",
    "StageRun",
    "fingerprint_of",
    "not_asked_for",
    "run_tags",
    "stage_run",
]

NOT_IN_RECIPE = "not-in-recipe"
"""data version of a stage that a recipe does without"""
RECIPE_TAG = "flts/recipe"
STATION_TAG = "flts/station"
DATA_VERSION_TAG = "dagster/data_version"
MATERIALIZATION = dg.DagsterEventType.ASSET_MATERIALIZATION


def run_tags(recipe: Recipe) -> dict[str, str]:
    """What people read beside a run's partition key."""
    return {RECIPE_TAG: recipe.name, STATION_TAG: recipe.station}


@dataclass(frozen=True)
class Stage:
    """A step of the way from raw data to the promoted model; named like its asset."""

    name: str
    code_version: str
    """raise it when the same inputs would give other outputs"""
    bucket: str


RAW_DATA = Stage("raw_data", "1", PROCESSED_DATA)
PROCESSED = Stage("processed_data", "2", PROCESSED_DATA)
LEADERBOARD = Stage("leaderboard", "3", MODELS)


@dataclass(frozen=True)
class Outcome:
    """What now stands at the stage's fingerprint, and whether it stood there before."""

    manifest: Manifest
    cached: bool


class StageRun:
    """One materialisation of one stage for one recipe."""

    def __init__(self, context: dg.AssetExecutionContext, platform: Platform, stage: Stage) -> None:
        self.context = context
        self.platform = platform
        self.stage = stage
        self.config_hash: str = context.partition_key
        self.log: EventLog = event_log(context.log, stage=stage.name, config_hash=self.config_hash)
        self.recipe: Recipe = platform.registry.get(self.config_hash)
        context.instance.add_run_tags(context.run.run_id, run_tags(self.recipe))

    @property
    def identifier(self) -> str:
        """On whose behalf this runs."""
        return self.platform.identifier or GLOBAL

    def upstream(self, stage: Stage) -> Manifest:
        """What the stage before last materialised for this partition. Raises UpstreamMissingError."""
        place = latest_place(self.context.instance, stage, self.config_hash)
        if place is None:
            raise UpstreamMissingError(
                f"{self.stage.name} needs {stage.name} of recipe {self.recipe.name!r}, which was"
                " never materialised",
                remedy=f"materialise {stage.name} first, or run the whole job",
            )
        return self.platform.artifacts.get(place)

    def check_made_from(self, manifest: Manifest, current: Mapping[str, str]) -> None:
        """What a stage read must be what there is now (stage -> identity), or UpstreamMissingError."""
        for name, identity in manifest.inputs.items():
            if name in current and identity != current[name]:
                raise UpstreamMissingError(
                    f"{manifest.place.stage} was made from another {name} than there is now",
                    received=identity,
                    allowed=current[name],
                    remedy=f"materialise {manifest.place.stage}, then {self.stage.name}",
                )

    def outputs(
        self, inputs: Mapping[str, str], compute: Callable[[Place, str], Outputs]
    ) -> Outcome:
        """What stands at the fingerprint of these inputs (name -> identity), computed if need be.

        `compute` is told the place and the attempt under which its files will stand.
        """
        artifacts = self.platform.artifacts
        place = self.place(self.stage, self.fingerprint(inputs))
        version = artifacts.version(place)
        found = None if self.platform.force else artifacts.find(place)
        if found is not None:
            self.log.info("skip_idempotent", fingerprint=place.fingerprint)
            return Outcome(found, cached=True)
        attempt = new_attempt()
        outputs = compute(place, attempt)
        manifest = artifacts.write(
            place,
            outputs,
            inputs,
            code_version=self.stage.code_version,
            attempt=attempt,
            replacing=version,
        )
        return Outcome(manifest, cached=False)

    def result(
        self,
        outcome: Outcome,
        metadata: Mapping[str, Any],
        checks: Iterable[dg.AssetCheckResult] = (),
    ) -> dg.MaterializeResult[Any]:
        """The materialisation: data version and what every stage tells, then the stage's own."""
        manifest = outcome.manifest
        place = manifest.place
        return dg.MaterializeResult(
            data_version=dg.DataVersion(place.fingerprint),
            metadata={
                "recipe": self.recipe.name,
                "config_hash": self.config_hash,
                "identifier": self.identifier,
                "cached": outcome.cached,
                **metadata,
                "outputs": f"{place.bucket}/{manifest.key}",
                "outputs_size": dg.MetadataValue.text(_readable(manifest.total_size)),
                "computed_at": dg.MetadataValue.timestamp(manifest.created_at.timestamp()),
            },
            check_results=self.told(checks),
        )

    def of_recipe(self, checks: Iterable[dg.AssetCheckResult]) -> list[dg.AssetCheckResult]:
        """Check results with the recipe they speak of."""
        return with_recipe(checks, self.recipe.name, self.config_hash)

    def told(self, checks: Iterable[dg.AssetCheckResult]) -> list[dg.AssetCheckResult]:
        """`of_recipe`; each that failed is a line in the run log."""
        found = self.of_recipe(checks)
        for one in found:
            if not one.passed:
                self.log.warning(
                    "check_failed",
                    check=one.check_name,
                    severity=one.severity.value,
                    message=one.description,
                )
        return found

    def place(self, stage: Stage, fingerprint: str) -> Place:
        """Where a stage's outputs of this recipe stand."""
        return place_of(stage, self.config_hash, fingerprint)

    def fingerprint(self, inputs: Mapping[str, str]) -> str:
        """Of this stage with these inputs (name -> identity), 64 hex digits."""
        return fingerprint_of(self.stage, self.config_hash, inputs)


def fingerprint_of(stage: Stage, config_hash: str, inputs: Mapping[str, str]) -> str:
    """What identifies a stage's work on these inputs (name -> identity), 64 hex digits."""
    work = {
        "config_hash": config_hash,
        "stage": stage.name,
        "code_version": stage.code_version,
        "inputs": dict(inputs),
    }
    return hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()


def latest_place(instance: dg.DagsterInstance, stage: Stage, config_hash: str) -> Place | None:
    """Where the stage's newest materialisation of this partition says its outputs stand."""
    latest = latest_materialization(instance, stage, config_hash)
    return None if latest is None else place_of(stage, config_hash, latest.fingerprint)


@dataclass(frozen=True)
class Materialized:
    """What a stage did last for a partition."""

    fingerprint: str
    storage_id: int
    """of the event, no two have the same"""


def latest_materialization(
    instance: dg.DagsterInstance, stage: Stage, config_hash: str
) -> Materialized | None:
    """The stage's newest materialisation of this partition, None where there is none."""
    return latest_materializations(instance, stage, [config_hash]).get(config_hash)


def latest_materializations(
    instance: dg.DagsterInstance, stage: Stage, config_hashes: Collection[str]
) -> dict[str, Materialized]:
    """The same of many partitions at once; those that have none are left out."""
    if not config_hashes:
        return {}
    storage, key, event = instance.event_log_storage, dg.AssetKey(stage.name), MATERIALIZATION
    ids = storage.get_latest_storage_id_by_partition(key, event, set(config_hashes))
    tags = storage.get_latest_tags_by_partition(key, event, [DATA_VERSION_TAG], sorted(ids))
    return {
        config_hash: Materialized(found[DATA_VERSION_TAG], ids[config_hash])
        for config_hash, found in tags.items()
        if DATA_VERSION_TAG in found
    }


def place_of(stage: Stage, config_hash: str, fingerprint: str) -> Place:
    """Where a stage's outputs of a recipe stand."""
    return Place(
        bucket=stage.bucket, config_hash=config_hash, stage=stage.name, fingerprint=fingerprint
    )


def not_asked_for(step: StageRun, why: str) -> dg.MaterializeResult[Any]:
    """A recipe may do without a stage; its asset then says so and holds nothing."""
    step.log.info("skip_not_in_recipe", why=why)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(NOT_IN_RECIPE),
        metadata={
            "recipe": step.recipe.name,
            "config_hash": step.config_hash,
            "note": f"nothing to do for this recipe: {why}",
        },
        check_results=step.of_recipe(
            checked(spec.name, True, f"nothing to check for this recipe: {why}")
            for spec in step.context.assets_def.check_specs
        ),
    )


@contextmanager
def stage_run(
    context: dg.AssetExecutionContext, platform: Platform, stage: Stage
) -> Iterator[StageRun]:
    """A StageRun; an FltsError becomes one clear failure of the step, without a stack trace.

    Two runs of one recipe on this machine take turns at each stage: the second finds it done.
    """
    end_with_launcher()
    try:
        step = StageRun(context, platform, stage)
        with platform.alone(f"{step.config_hash[:16]}-{stage.name}", step.log):
            yield step
    except FltsError as error:
        _fail(context, stage, error)
    except (dg.Failure, dg.RetryRequested):
        raise
    except Exception as error:  # whatever it is, trying again would raise it again
        raise dg.Failure(f"{type(error).__name__}: {error}", allow_retries=False) from error


def _fail(context: dg.AssetExecutionContext, stage: Stage, error: FltsError) -> NoReturn:
    kind = type(error).__name__
    event_log(context.log, stage=stage.name, config_hash=context.partition_key).error(
        "stage_failed", error=kind, message=str(error)
    )
    raise dg.Failure(str(error), metadata={"error": kind}, allow_retries=False) from error


def _readable(size: int) -> str:
    if size < 1000:
        return f"{size} bytes"
    value, unit = (size / 1000, "kB") if size < 1_000_000 else (size / 1_000_000, "MB")
    return f"{value:,.1f} {unit} ({size:,} bytes)"
