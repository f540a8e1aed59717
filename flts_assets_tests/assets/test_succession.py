"""Promotion and rollback by a person, between two models that a real run of the main job left."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from unittest import mock

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from flts_assets.assets.evidence import Evidence
from flts_assets.assets.platform import Platform
from flts_assets.assets.promotion_event import PROMOTION, materialization
from flts_assets.assets.report_claims import write_report
from flts_assets.assets.stage import LEADERBOARD
from flts_assets.assets.succession import (
    Decision,
    promote,
    roll_back,
    saved_model,
    version_of,
)
from flts_assets.definitions import defs
from flts_assets.errors import ArtifactError, PromotionError, TrackingError
from flts_assets.forecasting.demo_cell import demo_cell, to_csv
from flts_assets.logs import EventLog, event_log
from flts_assets.recipe import Recipe
from flts_assets.report.model import Claim
from flts_assets.stores.artifacts import Manifest
from flts_assets.stores.object_store import DATASET, MODEL_PROMOTION, MODELS
from flts_assets.stores.pointer import Promotion
from flts_assets.stores.tracking import Tracking
from flts_assets_tests.assets.deployment import Deployment, Run

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy",  # MLflow's own
    "ignore:.*Any type hint is inferred as AnyType",  # MLflow's own
    "ignore:.*is currently in beta:dagster_shared.utils.warnings.BetaWarning",  # dagster-mlflow
)

LOG = event_log(logging.getLogger("test"))
RECIPE = Recipe.model_validate(
    {
        "name": "successors",
        "data": {"train_file": "Cell.csv", "test_file": "Cell_test.csv"},
        "models": ["GRU", "LSTM"],
        "recurrent": {"hidden_size": 4, "num_layers": 1, "max_epochs": 2},
        "promotion": {"tie": "rank"},
    }
)


@dataclass(frozen=True)
class Seat:
    """A pointer of a test's own over the models that one run of the main job left."""

    deployment: Deployment
    recipe: Recipe
    identifier: str

    @property
    def platform(self) -> Platform:
        with self.deployment.environment():
            platform = Platform(identifier=self.identifier)
            assert platform.settings.home == self.deployment.home
        return platform

    @property
    def champion(self) -> Promotion:
        current = self.platform.pointer(self.recipe.config_hash).read()
        assert current is not None
        return current[0]

    @property
    def other(self) -> str:
        """The model that is not champion."""
        return "LSTM" if self.champion.model_type == "GRU" else "GRU"

    @property
    def history(self) -> list[Promotion]:
        return list(self.platform.pointer(self.recipe.config_hash).history())

    @property
    def alias_run(self) -> str:
        """Where MLflow's alias stands."""
        client = self.platform.tracking.client
        name = self.champion.registered_name
        return str(client.get_model_version_by_alias(name, "champion").run_id)

    def run(self, *assets: str, **config: object) -> Run:
        """The asset decides, after these others."""
        run = self.deployment.run(
            self.recipe, *assets, "promoted_model", identifier=self.identifier, **config
        )
        assert run.result.success, run.failures
        return run

    def promote(self, run: str, reason: str = "why not") -> Promotion:
        decision = Decision(self.recipe, "somebody@here", reason)
        return promote(decision, run, self.platform, self.deployment.instance, LOG)

    def roll_back(self) -> Promotion:
        decision = Decision(self.recipe, "somebody@here", "worse than it looked")
        return roll_back(decision, self.platform, self.deployment.instance, LOG)

    def claims(self) -> dict[str, Claim]:
        """statement -> claim, of a report written now; those that failed, and the section Promotion."""
        with self.deployment.environment():
            report = write_report(Evidence(self.platform, self.deployment.instance, self.recipe))
        (decided,) = (one.claims for one in report.sections if one.title == "Promotion")
        return {claim.statement: claim for claim in (*decided, *report.failed)}

    @contextmanager
    def recorded_otherwise(self, **changes: object) -> Iterator[None]:
        """The pointer and the champion's record both say something else."""
        store, champion = self.platform.store, self.champion
        pointer = self.platform.pointer(self.recipe.config_hash)
        keys = (pointer.key, str(pointer.key_of(champion)))
        for key in keys:
            told = champion.model_copy(update=changes).model_dump_json()
            store.put(MODEL_PROMOTION, key, told.encode())
        yield
        for key in keys:
            store.put(MODEL_PROMOTION, key, champion.model_dump_json().encode())


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    deployment = Deployment(tmp_path_factory.mktemp("succession"))
    put_data(deployment, seed=0)
    with deployment.instance:
        run = deployment.run(RECIPE)
        assert run.result.success, run.failures
        yield deployment


@pytest.fixture
def seat(deployment: Deployment, request: pytest.FixtureRequest) -> Seat:
    seat = Seat(deployment, RECIPE, request.node.name)
    seat.run()
    return seat


def put_data(deployment: Deployment, seed: int) -> None:
    for name, frame in zip(("Cell.csv", "Cell_test.csv"), demo_cell(80, 40, seed), strict=True):
        deployment.platform.store.put(DATASET, name, to_csv(frame))


@contextmanager
def altered(seat: Seat, model: Manifest) -> Iterator[None]:
    """A model with one file that holds something else."""
    record = next(iter(model.files.values()))
    store = seat.platform.store
    content = store.get(MODELS, record.key)
    store.put(MODELS, record.key, b"something else")
    yield
    store.put(MODELS, record.key, content)


def same_model(one: Promotion, another: Promotion) -> bool:
    return (one.run_id, one.model, one.attempt) == (another.run_id, another.model, another.attempt)


def test_model_is_promoted_by_its_type_or_its_run_and_recorded_with_actor_and_reason(
    seat: Seat,
) -> None:
    first = seat.champion
    second = seat.promote(seat.other.lower(), "a hunch")
    assert seat.champion == second
    assert second.model_type != first.model_type
    assert (second.actor, second.reason) == ("somebody@here", "a hunch")
    assert seat.alias_run == second.run_id
    third = seat.promote(first.run_id)
    assert same_model(third, first)
    assert seat.alias_run == first.run_id
    assert seat.history == [third, second, first]


def test_unknown_model_and_the_champion_itself_are_refused(seat: Seat) -> None:
    before = seat.champion
    with pytest.raises(PromotionError, match=r"no such model.*'persistence'.*allowed: .*GRU \("):
        seat.promote("persistence")
    with pytest.raises(PromotionError, match="is the champion already"):
        seat.promote(before.run_id)
    assert seat.history == [before]


def test_decision_without_a_reason_is_refused(seat: Seat) -> None:
    before = seat.history
    for reason in ("", " \n"):
        with pytest.raises(PromotionError, match=r"without a reason.*remedy: say why"):
            seat.promote(seat.other, reason)
    assert seat.history == before


def test_model_whose_files_were_altered_is_refused_and_the_pointer_stays(seat: Seat) -> None:
    before = seat.champion
    board = seat.deployment.board(RECIPE)
    model = saved_model(board.entry(seat.other), RECIPE, seat.platform.artifacts)
    with altered(seat, model), pytest.raises(ArtifactError, match="no complete outputs"):
        seat.promote(seat.other)
    assert seat.champion == before
    assert seat.alias_run == before.run_id


def test_champion_whose_files_were_altered_is_not_put_back(seat: Seat) -> None:
    first = seat.champion
    model = seat.platform.artifacts.get(first.model, first.attempt)
    second = seat.promote(seat.other)
    with altered(seat, model), pytest.raises(ArtifactError, match="no complete outputs"):
        seat.roll_back()
    assert seat.champion == second


def test_decision_stands_in_the_next_run_and_force_lets_the_leaderboard_decide_again(
    seat: Seat,
) -> None:
    first = seat.champion
    chosen = seat.promote(seat.other)
    told = seat.run("leaderboard").metadata("promoted_model")
    assert (told["cached"], told["reason"]) == (True, "why not")
    assert seat.champion == chosen

    assert seat.run(force=True).metadata("promoted_model")["cached"] is False
    assert same_model(seat.champion, first)
    assert seat.champion.overrides is None


def test_decision_ends_with_another_leaderboard(seat: Seat) -> None:
    seat.promote(seat.other)
    put_data(seat.deployment, seed=1)
    stages = ("raw_data", "processed_data", "gru_model", "lstm_model", "leaderboard")
    assert seat.run(*stages).metadata("promoted_model")["cached"] is False
    assert seat.champion.overrides is None
    assert seat.champion.leaderboard != seat.history[1].leaderboard


OF_BOARD = "The promotion's score is the leaderboard's"
OF_FIRST = "The restored promotion's score is that of its first promotion"
BY_GATE = "The gate, asked again, chooses the champion"
BY_PERSON = "A person decided, whatever the gate says"
MIRRORED = "MLflow's alias champion mirrors the pointer"


def test_report_of_a_persons_choice_says_whom_the_gate_would_choose(seat: Seat) -> None:
    chosen_by_gate = seat.champion.model_type
    assert seat.claims().keys() == {OF_BOARD, BY_GATE, MIRRORED}
    chosen = seat.promote(seat.other, "a hunch")
    claims = seat.claims()
    assert claims.keys() == {OF_BOARD, BY_PERSON, MIRRORED}
    assert all(claim.holds for claim in claims.values())
    found = claims[BY_PERSON].found
    assert found.startswith(f"the gate would choose {chosen_by_gate}: ")
    assert found.endswith(f"; somebody@here chose {chosen.model_type}: a hunch")
    with seat.recorded_otherwise(score=chosen.score / 2):
        failed = {one.statement: one.found for one in seat.claims().values() if not one.holds}
    assert failed.keys() == {OF_BOARD}
    assert "the leaderboard says otherwise" in failed[OF_BOARD]


def test_report_of_a_rollback_holds_it_against_the_promotion_that_it_restores(seat: Seat) -> None:
    first = seat.champion
    put_data(seat.deployment, seed=2)
    seat.run("raw_data", "processed_data", "gru_model", "lstm_model", "leaderboard")
    assert seat.champion.score != first.score
    back = seat.roll_back()
    assert same_model(back, first)
    claims = seat.claims()
    assert claims.keys() == {OF_FIRST, BY_PERSON, MIRRORED}
    assert all(claim.holds for claim in claims.values())
    for changes, told in (
        ({"score": first.score / 2}, "its first promotion says otherwise"),
        ({"restores": "global/nowhere.json"}, "the record is missing"),
        ({"attempt": "another"}, "it restores another model"),
    ):
        with seat.recorded_otherwise(**changes):
            failed = {one.statement: one.found for one in seat.claims().values() if not one.holds}
        assert failed.keys() == {OF_FIRST}
        assert told in failed[OF_FIRST]


def test_report_names_the_parents_of_models_that_two_pipeline_runs_claim(seat: Seat) -> None:
    client, run_id = seat.platform.tracking.client, seat.champion.run_id
    parent = client.get_run(run_id).data.tags["mlflow.parentRunId"]
    client.set_tag(run_id, "mlflow.parentRunId", "0" * 32)
    failed = {one.statement: one.found for one in seat.claims().values() if not one.holds}
    client.set_tag(run_id, "mlflow.parentRunId", parent)
    assert failed.keys() == {"MLflow holds the same leaderboard and test scores"}
    (told,) = failed.values()
    assert told.startswith("the models' runs have not one parent; received: '" + "0" * 32)
    assert parent in told


def test_rollbacks_walk_back_through_the_champions_and_never_toggle(seat: Seat) -> None:
    a = seat.champion
    b = seat.promote(seat.other)
    stages = ("gru_model", "lstm_model", "leaderboard")
    seat.deployment.run(RECIPE, *stages, force=True)
    c = seat.promote(a.model_type)  # the same type, trained again
    assert not same_model(c, a)

    for expected in (b, a):
        restored = seat.roll_back()
        assert same_model(restored, expected)
        assert restored.score == expected.score
        assert seat.alias_run == expected.run_id
    with pytest.raises(PromotionError, match="no champion before the current one"):
        seat.roll_back()

    seat.promote(c.model_type)
    assert same_model(seat.roll_back(), a), "what was in force before it, not what was rolled back"
    assert len(seat.history) == 7
    # The run that finds the same leaderboard leaves what the rollback put back.
    assert seat.run().metadata("promoted_model")["cached"] is True
    assert same_model(seat.champion, a)


@contextmanager
def mlflow_away() -> Iterator[None]:
    gone = TrackingError("MLflow refused or went away", remedy="then run again")
    with mock.patch.object(Tracking, "mirror_champion", side_effect=gone):
        yield


def test_decision_while_mlflow_is_away_stands_and_warns_and_naming_it_again_repairs_the_alias(
    seat: Seat, caplog: pytest.LogCaptureFixture
) -> None:
    first = seat.champion
    with mlflow_away():
        second = seat.promote(seat.other)
    assert seat.history == [second, first]
    (line,) = [one.message for one in caplog.records if one.levelname == "WARNING"]
    assert "the pointer HAS moved" in line
    assert seat.alias_run == first.run_id

    assert seat.promote(second.model_type) == second
    assert seat.alias_run == second.run_id
    with pytest.raises(PromotionError, match="is the champion already"):
        seat.promote(second.model_type)
    with mlflow_away():
        assert same_model(seat.roll_back(), first)
    assert len(seat.history) == 3


def test_model_is_chosen_from_the_leaderboard_that_stands_once_the_lock_is_held(
    seat: Seat, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = Platform.alone

    @contextmanager
    def after_another_run(platform: Platform, work: str, log: EventLog) -> Iterator[None]:
        monkeypatch.setattr(Platform, "alone", alone)
        stages = ("gru_model", "lstm_model", "leaderboard")
        assert seat.deployment.run(RECIPE, *stages, force=True).result.success
        with alone(platform, work, log):
            yield

    monkeypatch.setattr(Platform, "alone", after_another_run)
    before = seat.champion.leaderboard
    chosen = seat.promote(seat.other)
    assert chosen.leaderboard == seat.deployment.manifest(RECIPE, LEADERBOARD).identity != before


def test_alias_is_of_the_registered_name_whatever_the_file_calls_the_recipe(seat: Seat) -> None:
    renamed = replace(seat, recipe=RECIPE.updated({"name": "renamed"}))
    assert renamed.recipe.config_hash == RECIPE.config_hash
    first = seat.champion
    assert renamed.promote(seat.other).registered_name == first.registered_name


def test_decision_is_a_materialisation_with_a_version_that_the_next_run_repeats(
    seat: Seat,
) -> None:
    first, second = seat.champion, seat.promote(seat.other)
    instance = seat.deployment.instance
    event = materialization(second, seat.platform, instance)
    instance.report_runless_asset_event(event)
    promoted = dg.AssetKey("promoted_model")
    newest = instance.get_latest_materialization_event(promoted)
    assert newest is not None
    assert newest.asset_materialization == event
    versions = [version_of(PROMOTION, one) for one in (first, second)]
    assert versions[0] != versions[1] == (event.tags or {})["dagster/data_version"]

    resolver = CachingStaleStatusResolver(
        instance, defs.resolve_asset_graph(), LoadingContextForTest(instance)
    )
    assert resolver.get_status(promoted, RECIPE.config_hash) == StaleStatus.FRESH
    assert seat.run().data_versions["promoted_model"] == versions[1]


def test_job_reports_a_promotion_whose_alias_did_not_follow(seat: Seat) -> None:
    with mlflow_away(), seat.deployment.environment():
        done = defs.resolve_job_def("promote_model").execute_in_process(
            instance=seat.deployment.instance,
            run_config={
                "ops": {
                    "choose_champion": {
                        "config": {
                            "config_hash": RECIPE.config_hash,
                            "run": seat.other,
                            "reason": "asked for",
                        }
                    }
                },
                "resources": {"platform": {"config": {"identifier": seat.identifier}}},
            },
        )
    (event,) = done.get_asset_materialization_events()
    assert event.materialization.metadata["model_type"].value == seat.champion.model_type
    assert seat.champion.reason == "asked for"


def test_jobs_promote_and_roll_back_as_the_commands_do(seat: Seat) -> None:
    first, name = seat.champion, seat.other

    def execute(job: str, op: str, **config: str) -> dg.ExecuteInProcessResult:
        with seat.deployment.environment():
            return defs.resolve_job_def(job).execute_in_process(
                instance=seat.deployment.instance,
                run_config={
                    "ops": {op: {"config": {"config_hash": RECIPE.config_hash, **config}}},
                    "resources": {"platform": {"config": {"identifier": seat.identifier}}},
                },
                raise_on_error=False,
            )

    done = execute("promote_model", "choose_champion", run=name, reason="asked for")
    assert done.success
    promoted = seat.champion
    assert promoted.model_type == name
    assert (promoted.actor, promoted.reason) == (f"dagster run {done.run_id}", "asked for")
    (event,) = done.get_asset_materialization_events()
    assert event.asset_key == dg.AssetKey("promoted_model")
    assert event.partition == RECIPE.config_hash

    assert execute("roll_back_model", "restore_champion", reason="no good").success
    assert same_model(seat.champion, first)
    failed = execute("roll_back_model", "restore_champion", reason="no good")
    (failure,) = failed.filter_events(lambda one: one.is_step_failure)
    assert failure.step_failure_data.user_failure_data is not None
    assert "no champion before" in str(failure.step_failure_data.user_failure_data.description)
