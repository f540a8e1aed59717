"""The real `dagster dev`: what happens when files are copied and nobody touches anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.scheduler.instigation import InstigatorType

from flts_assets.assets.stage import run_tags
from flts_assets.automation.launch import stages_of
from flts_assets.cli.platform import open_instance
from flts_assets.recipe import Recipe, parse_recipe
from flts_assets.stores.object_store import MODEL_PROMOTION
from flts_assets_tests.assets.deployment import Deployment
from flts_assets_tests.automation.dagster_dev import running_dev, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(5400)]

TEMPLATE = """
data: {train_file: Any.csv, test_file: Any_test.csv, sample_train_rows: 300, sample_test_rows: 60}
auto: true
models: [TREES]
trees: {max_iter: 5}
"""
DEADLINE_S = 900.0
"""Slack for a machine that does much else; two free cores need a minute or two."""


class Watched:
    """A home under `dagster dev`, looked at from outside."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.deployment = Deployment(home)
        with self.deployment.environment():
            self.instance = open_instance(self.deployment.platform)

    def until(self, what: str, true: Callable[[], bool]) -> None:
        try:
            wait_until(true, DEADLINE_S, what)
        except TimeoutError as late:
            pytest.fail(f"{late}\n{self._log()}")

    def runs(self, *started_by: str) -> list[dg.DagsterRun]:
        """All runs, or those that one of these sensors started, oldest first."""
        found = self.instance.get_runs()[::-1]
        return [
            run for run in found if not started_by or run.tags.get("flts/started_by") in started_by
        ]

    def settled(self) -> bool:
        """Every run has ended."""
        return all(run.is_finished for run in self.instance.get_runs())

    def promotions(self, recipe: Recipe) -> int:
        return len(list(self.deployment.platform.pointer(recipe.config_hash).history()))

    def looks(self, sensor: str = "raw_data_sensor") -> int:
        """Ticks that a sensor has had."""
        return sum(
            len(self.instance.get_ticks(state.instigator_origin_id, state.selector_id))
            for state in self.instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
            if state.instigator_name == sensor
        )

    def look_again(self, times: int = 3, sensor: str = "raw_data_sensor") -> None:
        seen = self.looks(sensor)
        self.until("more looks", lambda: self.looks(sensor) >= seen + times)

    def until_nothing_follows(self) -> None:
        """Every run has ended, and automation has looked at that and asked for none."""
        while True:
            self.until("all runs ended", self.settled)
            runs = len(self.runs())
            self.look_again(2, "keep_up_to_date")
            if self.settled() and len(self.runs()) == runs:
                return

    def _log(self) -> str:
        log = (self.home / "dev.log").read_text(errors="replace")[-6000:]
        return f"{log}\n{[(run.job_name, run.status, run.tags) for run in self.runs()]}"


def copy(source: Path, target: Path, rows: int) -> None:
    """The first rows of a file, copied as `cp` does: it stands there while it grows."""
    lines = source.read_text().splitlines(keepends=True)[: rows + 1]
    target.parent.mkdir(exist_ok=True)
    with target.open("w") as file:
        file.writelines(lines)


def test_copied_files_become_promoted_models_and_a_changed_one_its_own_again(
    tmp_path: Path, real_data: Path
) -> None:
    home, templates = tmp_path / "home", tmp_path / "templates"
    home.mkdir()
    templates.mkdir()
    (templates / "quick.yaml").write_text(TEMPLATE)
    template = parse_recipe(TEMPLATE, source="test", default_name="quick")
    elborn, poblesec = (template.for_station(name) for name in ("ElBorn", "PobleSec"))
    watched = Watched(home)

    # Killed before it has seen anything complete: nothing is lost.
    with running_dev(home, templates) as dev:
        watched.until("first look", lambda: watched.looks() >= 1)
        for station in ("ElBorn", "PobleSec"):
            for part, rows in (("", 400), ("_test", 80)):
                file = f"{station}{part}.csv"
                copy(real_data / file, home / "dataset" / file, rows)
        dev.kill()

    with running_dev(home, templates) as dev:
        for recipe in (elborn, poblesec):
            watched.until(recipe.name, lambda recipe=recipe: watched.promotions(recipe) == 1)  # type: ignore[misc]
        watched.until("overview", lambda: champions(watched) == {"ElBorn", "PobleSec"})
        watched.until_nothing_follows()
        dev.kill()

    first = watched.runs("raw_data_sensor")
    assert {run.tags["flts/station"] for run in first} == {"ElBorn", "PobleSec"}
    assert [run.status for run in watched.runs()] == [dg.DagsterRunStatus.SUCCESS] * len(
        watched.runs()
    )
    for run in first:
        recipe = {"ElBorn": elborn, "PobleSec": poblesec}[run.tags["flts/station"]]
        assert run.tags.items() >= run_tags(recipe).items()
        assert run.tags["dagster/partition"] == recipe.config_hash
        stages = {key.to_user_string() for key in run.asset_selection or ()}
        assert stages == set(stages_of(recipe))
    before = {run.run_id for run in watched.runs()}

    # Started again after the kill: nothing is repeated. Then one file of one station changes; no template
    # asks for it any more, so raw_data alone is requested, and automation does the rest.
    (templates / "quick.yaml").write_text(TEMPLATE.replace("auto: true", "auto: false"))
    with running_dev(home, templates):
        watched.look_again()
        assert {run.run_id for run in watched.runs()} == before
        altered = (home / "dataset" / "ElBorn.csv").read_text().splitlines(keepends=True)
        (home / "dataset" / "ElBorn.csv").write_text("".join(altered[:-1]))
        watched.until("ElBorn again", lambda: watched.promotions(elborn) == 2)
        watched.until_nothing_follows()

    new = [run for run in watched.runs() if run.run_id not in before]
    assert {run.status for run in new} == {dg.DagsterRunStatus.SUCCESS}
    about_recipes = [run for run in new if "dagster/partition" in run.tags]
    assert {run.tags["dagster/partition"] for run in about_recipes} == {elborn.config_hash}
    told = [(run.tags["flts/started_by"], run.tags["flts/recipe"]) for run in about_recipes]
    assert told == [("raw_data_sensor", elborn.name), ("keep_up_to_date", elborn.name)]
    assert watched.promotions(poblesec) == 1
    watched.instance.dispose()


def champions(watched: Watched) -> set[str]:
    """Stations of the overview."""
    store = watched.deployment.platform.store
    if store.head(MODEL_PROMOTION, "global/champions.json") is None:
        return set()
    rows = json.loads(store.get(MODEL_PROMOTION, "global/champions.json"))
    return {row["station"] for row in rows}
