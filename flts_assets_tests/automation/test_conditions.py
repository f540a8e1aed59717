"""What automation requests, evaluated on the real graph with made-up materialisations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationPlanned,
)
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.events import StepMaterializationData
from dagster._core.loader import LoadingContextForTest
from dagster._core.utils import make_new_run_id

from flts_assets.assets.champion_checks import champion_checks
from flts_assets.automation.launch import create_run, stages_of
from flts_assets.definitions import defs
from flts_assets.forecasting.demo_cell import demo_cell, to_csv
from flts_assets.recipe import Recipe, load_recipe
from flts_assets.settings import PROJECT
from flts_assets.stores.object_store import DATASET
from flts_assets_tests.assets.deployment import SAMPLE50, Deployment

RECIPE = load_recipe(SAMPLE50)
HASH = RECIPE.config_hash
STAGES = stages_of(RECIPE)
PROMOTED_MODEL = dg.AssetKey("promoted_model")
LOOKS = {spec.name for spec in champion_checks.check_specs}


@dataclass
class Automation:
    """Ticks of the automation sensor on an instance of its own."""

    instance: dg.DagsterInstance
    definitions: dg.Definitions = defs
    cursor: object = None
    checks: frozenset[str] = frozenset()
    """requested at the last tick"""

    def register(self, *recipes: Recipe) -> None:
        keys = [recipe.config_hash for recipe in recipes]
        self.instance.add_dynamic_partitions("config_hash", keys)

    def materialize(self, *assets: str, version: str = "1", recipe: Recipe = RECIPE) -> None:
        for asset in assets:
            event = dg.AssetMaterialization(
                asset,
                partition=None if asset == "champions" else recipe.config_hash,
                tags={"dagster/data_version": f"{asset}-{version}"},
            )
            self.instance.report_runless_asset_event(event)

    def tick(self) -> dict[str, set[str]]:
        """Requested config hashes (or "all" without partitions) -> assets."""
        # The daemon reads the partitions once a tick; the tester would do so hundreds of times.
        partitions = self.instance.get_dynamic_partitions("config_hash")
        with mock.patch.object(self.instance, "get_dynamic_partitions", return_value=partitions):
            result = dg.evaluate_automation_conditions(
                self.definitions,
                self.instance,
                dg.AssetSelection.all(),
                cursor=self.cursor,  # type: ignore[arg-type]
            )
        self.cursor = result.cursor
        self.checks = frozenset(
            one.key.name
            for one in result.results
            if isinstance(one.key, dg.AssetCheckKey) and one.true_subset.size
        )
        requested: dict[str, set[str]] = {}
        for key in self.definitions.resolve_asset_graph().materializable_asset_keys:
            for partition in result.get_requested_partitions(key):
                requested.setdefault(partition or "all", set()).add(key.to_user_string())
        return requested

    def look_at_champions(self, run: dg.DagsterRun | None = None) -> None:
        """Results of the checks on the champion, in this run or in one of their own."""
        own = make_new_run_id()
        for name in LOOKS:
            if run is None:
                planned = AssetCheckEvaluationPlanned(asset_key=PROMOTED_MODEL, check_name=name)
                self._report_check(own, "_PLANNED", planned)
            found = dg.AssetCheckEvaluation(PROMOTED_MODEL, name, passed=True)
            self._report_check(run.run_id if run else own, "", found)

    def _report_check(
        self, run_id: str, kind: str, data: AssetCheckEvaluationPlanned | dg.AssetCheckEvaluation
    ) -> None:
        name = f"ASSET_CHECK_EVALUATION{kind}"
        event = dg.DagsterEvent(name, "any", event_specific_data=data)
        self.instance.report_dagster_event(event, run_id=run_id)

    def settled(self) -> None:
        """Ticks until it has seen all there is."""
        while requested := self.tick():
            assert requested == {"all": {"champions"}}
            self.materialize("champions")
            self.look_at_champions()

    def settled_but(self, expected: dict[str, set[str]]) -> None:
        """Ticks until it has seen all there is, and has asked for this once, overviews aside."""
        requested = [self.tick() for _ in range(4)]
        for one in requested:
            one.pop("all", None)
        assert [one for one in requested if one] == [expected]

    def run(self, recipe: Recipe = RECIPE) -> dg.DagsterRun:
        """A run of the main job, under way."""
        run = create_run(
            make_new_run_id(), recipe, self.instance, force=False, identifier=None, tags={}
        )
        self.instance.report_dagster_event(
            dg.DagsterEvent("PIPELINE_START", run.job_name, message=""), run_id=run.run_id
        )
        return run

    def whole_run(self, version: str = "1", recipe: Recipe = RECIPE) -> None:
        """A run of all stages."""
        self.end(self.run(recipe), *STAGES, version=version)

    def end(self, run: dg.DagsterRun, *made: str, version: str, failed: bool = False) -> None:
        """The run ends, having materialised these."""
        for asset in made:
            event = dg.AssetMaterialization(
                asset,
                partition=run.tags["dagster/partition"],
                tags={"dagster/data_version": f"{asset}-{version}"},
            )
            self.instance.report_dagster_event(_materialized(run, event), run_id=run.run_id)
        kind = "PIPELINE_FAILURE" if failed else "PIPELINE_SUCCESS"
        event = dg.DagsterEvent(kind, run.job_name, message="")
        self.instance.report_dagster_event(event, run_id=run.run_id)


def _materialized(run: dg.DagsterRun, event: dg.AssetMaterialization) -> dg.DagsterEvent:
    return dg.DagsterEvent(
        "ASSET_MATERIALIZATION",
        run.job_name,
        event_specific_data=StepMaterializationData(event),
    )


@pytest.fixture
def automation() -> Iterator[Automation]:
    with dg.DagsterInstance.ephemeral() as instance:
        automation = Automation(instance)
        automation.register(RECIPE)
        yield automation


@pytest.fixture
def complete(automation: Automation) -> Automation:
    """The recipe was run, and automation has nothing to do."""
    automation.tick()
    automation.whole_run()
    automation.settled()
    return automation


def bumped(asset: str) -> dg.Definitions:
    """The definitions with another code version of one asset."""
    assets = dg.map_asset_specs(
        lambda spec: (
            spec.replace_attributes(code_version=f"{spec.code_version}-next")
            if spec.key == dg.AssetKey(asset)
            else spec
        ),
        defs.assets or (),  # type: ignore[arg-type]
    )
    return dg.Definitions(assets, resources=defs.resources)


def test_a_thousand_registered_recipes_that_nobody_ran_start_nothing(
    automation: Automation,
) -> None:
    automation.tick()
    automation.instance.add_dynamic_partitions("config_hash", [f"{n:064x}" for n in range(1000)])
    assert automation.tick() == {}
    automation.definitions = bumped("processed_data")
    assert automation.tick() == {}


def test_first_look_ever_at_what_stands_requests_none_of_it(automation: Automation) -> None:
    """As after an upgrade that gave a condition another shape: its memory is gone."""
    automation.whole_run()
    automation.materialize("raw_data", "processed_data", version="made one by one")
    for _ in range(3):
        assert automation.tick().keys() <= {"all"}


def test_first_run_of_a_recipe_is_followed_by_the_overview_alone(automation: Automation) -> None:
    automation.tick()
    automation.whole_run()
    assert automation.tick() == {"all": {"champions"}}


def test_new_raw_content_brings_all_stages_of_the_recipe_up_to_date_in_one_run(
    complete: Automation,
) -> None:
    complete.materialize("raw_data", version="2")
    assert complete.tick() == {HASH: set(STAGES) - {"raw_data"}}
    assert complete.tick() == {}, "asked for once"


def test_raw_data_materialised_again_with_the_same_content_starts_nothing(
    complete: Automation,
) -> None:
    complete.materialize("raw_data")
    assert complete.tick() == {}


def test_new_content_of_one_recipe_leaves_others_alone(complete: Automation) -> None:
    other = RECIPE.for_station("ElBorn")
    complete.register(other)
    complete.whole_run(recipe=other)
    complete.settled()
    complete.materialize("raw_data", version="2", recipe=other)
    assert complete.tick().keys() == {other.config_hash}


@pytest.mark.parametrize("stage", ["raw_data", "processed_data", "gru_model", "leaderboard"])
def test_another_code_version_of_a_stage_requests_it_and_what_follows(
    complete: Automation, stage: str
) -> None:
    following = {
        "raw_data": set(STAGES),
        "processed_data": set(STAGES) - {"raw_data"},
        "gru_model": {"gru_model", "leaderboard", "promoted_model", "verification_report"},
        "leaderboard": {"leaderboard", "promoted_model", "verification_report"},
    }
    complete.definitions = bumped(stage)
    assert complete.tick() == {HASH: following[stage]}
    assert complete.tick() == {}


def test_stages_that_a_recipe_does_not_ask_for_hold_nothing_up_and_are_not_made(
    complete: Automation,
) -> None:
    assert not {"trees_model", "ensemble_model", "backtest"} & set(STAGES)
    complete.definitions = bumped("leaderboard")
    assert complete.tick() == {HASH: {"leaderboard", "promoted_model", "verification_report"}}


def test_stage_that_says_not_in_recipe_again_changes_nothing_after_it(
    complete: Automation,
) -> None:
    complete.materialize("trees_model", version="not-in-recipe")
    complete.tick()
    complete.materialize("leaderboard", "promoted_model", "verification_report")
    complete.settled()
    complete.materialize("trees_model", version="not-in-recipe")
    assert complete.tick() == {}


@pytest.mark.parametrize("failed", [False, True])
def test_new_content_beside_a_run_is_followed_after_it_which_may_not_have_read_it(
    complete: Automation, failed: bool
) -> None:
    run = complete.run()
    complete.materialize("raw_data", version="2")
    assert complete.tick() == {}, "the run is waited for"
    assert complete.tick() == {}
    made = set() if failed else set(STAGES) - {"raw_data"}
    complete.end(run, *made, version="1", failed=failed)
    complete.settled_but({HASH: set(STAGES) - {"raw_data"}})


def test_new_content_in_the_moment_a_run_ends_is_followed(complete: Automation) -> None:
    run = complete.run()
    complete.end(run, *STAGES, version="1")
    complete.materialize("raw_data", version="2")
    complete.settled_but({HASH: set(STAGES) - {"raw_data"}})


@pytest.mark.parametrize("failed", [False, True])
def test_run_is_left_to_itself(complete: Automation, failed: bool) -> None:
    run = complete.run()
    assert complete.tick() == {}
    made = STAGES[:2] if failed else STAGES
    complete.end(run, *made, version="2", failed=failed)
    complete.settled()
    assert complete.tick() == {}


@pytest.mark.parametrize("failed", [False, True])
def test_runs_of_two_recipes_at_once_are_left_to_themselves(
    complete: Automation, failed: bool
) -> None:
    other = RECIPE.for_station("ElBorn")
    complete.register(other)
    complete.whole_run(recipe=other)
    complete.settled()
    made = STAGES[:2] if failed else STAGES
    complete.end(complete.run(), *made, version="2", failed=failed)
    complete.whole_run("2", recipe=other)
    complete.settled()


def test_stages_that_a_person_makes_one_by_one_are_left_to_that_person(
    automation: Automation,
) -> None:
    automation.tick()
    for stage in STAGES:
        automation.materialize(stage)
        assert set(automation.tick()) <= {"all"}


def test_tick_that_sees_a_run_end_before_it_sees_its_last_asset_leaves_that_to_the_run(
    complete: Automation,
) -> None:
    """A tick reads assets first and runs seconds later; in between a run may end."""
    run = complete.run()
    complete.end(run, *set(STAGES) - {"verification_report"}, version="2")
    complete.settled()
    complete.materialize("verification_report", version="2")
    assert complete.tick() == {}


def test_new_content_during_a_run_is_taken_up_after_it(complete: Automation) -> None:
    run = complete.run()
    complete.end(run, *STAGES, version="2")
    complete.settled()
    complete.materialize("raw_data", version="3")
    assert complete.tick() == {HASH: set(STAGES) - {"raw_data"}}


def test_failed_run_is_not_repeated_until_something_changes_again(complete: Automation) -> None:
    complete.materialize("raw_data", version="2")
    assert complete.tick()
    run = complete.run()
    assert complete.tick() == {}
    complete.end(run, "raw_data", "processed_data", version="2", failed=True)
    for _ in range(3):
        assert complete.tick() == {}
    complete.materialize("raw_data", version="3")
    assert complete.tick() == {HASH: set(STAGES) - {"raw_data"}}


def test_champion_that_changed_without_its_checks_is_looked_at_once(complete: Automation) -> None:
    complete.materialize("promoted_model", version="by hand")
    complete.tick()
    assert complete.checks == LOOKS
    complete.tick()
    assert complete.checks == frozenset(), "one that ends without a result is not asked for again"
    complete.look_at_champions()
    complete.tick()
    assert complete.checks == frozenset()


def test_champion_whose_own_run_looks_at_it_is_left_alone(complete: Automation) -> None:
    run = complete.run()
    complete.tick()
    complete.end(run, *STAGES, version="2")
    complete.look_at_champions(run)
    for _ in range(2):
        complete.tick()
        assert complete.checks == frozenset()


def test_no_check_is_asked_for_before_anything_was_promoted(automation: Automation) -> None:
    automation.materialize("raw_data", "processed_data")
    for _ in range(3):
        automation.tick()
        assert automation.checks == frozenset()


def test_promotions_of_many_recipes_are_followed_by_one_overview(complete: Automation) -> None:
    others = [RECIPE.for_station(name) for name in ("A", "B", "C")]
    complete.register(*others)
    for other in others:
        complete.materialize("promoted_model", recipe=other)
    assert complete.tick() == {"all": {"champions"}}
    complete.materialize("champions")
    assert complete.tick() == {}


def test_promotion_beside_an_overview_that_is_being_made_is_followed_by_another(
    complete: Automation,
) -> None:
    others = [RECIPE.for_station(name) for name in ("A", "B")]
    complete.register(*others)
    complete.materialize("promoted_model", recipe=others[0])
    assert complete.tick() == {"all": {"champions"}}
    complete.materialize("champions")
    complete.materialize("promoted_model", recipe=others[1])  # which that one had not read
    assert complete.tick() == {"all": {"champions"}}
    complete.materialize("champions")
    assert [complete.tick() for _ in range(3)] == [{}] * 3


def test_changed_raw_content_shows_as_stale_until_what_follows_was_made_again(
    home: Path,
) -> None:
    deployment = Deployment(home, in_memory=True)
    store = deployment.platform.store
    recipe = load_recipe(PROJECT / "recipes" / "demo.yaml")
    for file, frame in zip(("DemoCell", "DemoCell_test"), demo_cell(300, 60, 0), strict=True):
        store.put(DATASET, f"{file}.csv", to_csv(frame))

    def status() -> StaleStatus:
        with deployment.environment():
            resolver = CachingStaleStatusResolver(
                deployment.instance,
                defs.resolve_asset_graph(),
                LoadingContextForTest(deployment.instance),
            )
            return resolver.get_status(dg.AssetKey("processed_data"), recipe.config_hash)

    with deployment.instance:
        deployment.run(recipe, "raw_data", "processed_data")
        assert status() == StaleStatus.FRESH
        store.put(DATASET, "DemoCell.csv", to_csv(demo_cell(300, 60, 1)[0]))
        deployment.run(recipe, "raw_data")
        assert status() == StaleStatus.STALE
        deployment.run(recipe, "processed_data")
        assert status() == StaleStatus.FRESH
