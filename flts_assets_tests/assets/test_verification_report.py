"""An honest run's report holds no FAILED; evidence that is altered fails its own line and no other."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import dagster as dg
import pyarrow.parquet as pq
import pytest

from flts_assets.assets.evidence import Evidence
from flts_assets.assets.models import MODEL_STAGES
from flts_assets.assets.report_claims import write_report
from flts_assets.assets.stage import LEADERBOARD, PROCESSED, Stage
from flts_assets.assets.verification_report import CLAIMS_FILE, HTML_FILE, MARKDOWN_FILE, REPORT
from flts_assets.forecasting.demo_cell import demo_cell, to_csv
from flts_assets.recipe import Recipe
from flts_assets.stores.object_store import DATASET, MODEL_PROMOTION
from flts_assets_tests.assets.deployment import Deployment, Run

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy",  # MLflow's own
    "ignore:.*Any type hint is inferred as AnyType",  # MLflow's own
    "ignore:.*is currently in beta:dagster_shared.utils.warnings.BetaWarning",  # dagster-mlflow
)

RECIPE = Recipe.model_validate(
    {
        "name": "proven",
        "data": {"train_file": "Cell.csv", "test_file": "Cell_test.csv"},
        "models": ["GRU"],
        "recurrent": {"hidden_size": 4, "num_layers": 1, "max_epochs": 2},
    }
)
GRU = MODEL_STAGES["GRU"]


@dataclass(frozen=True)
class Reported:
    deployment: Deployment
    first: Run

    def again(self) -> Run:
        """The report alone, written anew."""
        run = self.deployment.run(RECIPE, "verification_report")
        assert run.result.success, run.failures
        return run

    def file(self, name: str) -> bytes:
        manifest = self.deployment.manifest(RECIPE, REPORT)
        return self.deployment.platform.artifacts.read(manifest, name)

    def failed(self) -> dict[str, str]:
        """statement -> what is wrong, of a report written now."""
        deployment = self.deployment
        with deployment.environment():
            report = write_report(Evidence(deployment.platform, deployment.instance, RECIPE))
        return {claim.statement: claim.found for claim in report.failed}

    def key(self, stage: Stage, name: str) -> str:
        """Of a file in the stage's outputs, or of their manifest."""
        manifest = self.deployment.manifest(RECIPE, stage)
        return manifest.key if name == "manifest.json" else manifest.files[name].key

    @property
    def pointer(self) -> str:
        return f"global/{RECIPE.config_hash}/current.json"

    @property
    def run_id(self) -> str:
        current = self.deployment.platform.pointer(RECIPE.config_hash).read()
        assert current is not None
        return current[0].run_id

    @contextmanager
    def altered(self, bucket: str, key: str, change: Callable[[bytes], bytes]) -> Iterator[None]:
        store = self.deployment.platform.store
        before = store.get(bucket, key)
        store.put(bucket, key, change(before))
        yield
        store.put(bucket, key, before)

    @contextmanager
    def without(self, bucket: str, key: str) -> Iterator[None]:
        store = self.deployment.platform.store
        before = store.get(bucket, key)
        store.delete(bucket, key)
        yield
        store.put(bucket, key, before)


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reported]:
    deployment = Deployment(tmp_path_factory.mktemp("reported"))
    for name, frame in zip(("Cell.csv", "Cell_test.csv"), demo_cell(60, 40), strict=True):
        deployment.platform.store.put(DATASET, name, to_csv(frame))
    with deployment.instance:
        run = deployment.run(RECIPE)
        assert run.result.success, run.failures
        yield Reported(deployment, run)


def json_with(change: Callable[[dict[str, object]], object]) -> Callable[[bytes], bytes]:
    def changed(content: bytes) -> bytes:
        value = json.loads(content)
        change(value)
        return json.dumps(value).encode()

    return changed


def named_otherwise(content: bytes) -> bytes:
    """The same rows in a parquet file that names another recipe."""
    table = pq.read_table(io.BytesIO(content))
    metadata = {**(table.schema.metadata or {}), b"config_hash": b"0" * 64}
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), buffer)
    return buffer.getvalue()


def with_better_forecasts(content: bytes) -> bytes:
    frame = pq.read_table(io.BytesIO(content)).to_pandas()
    buffer = io.BytesIO()
    frame.assign(GRU=frame["actual"]).to_parquet(buffer)
    return buffer.getvalue()


@contextmanager
def mlflow_run_deleted(reported: Reported) -> Iterator[None]:
    client = reported.deployment.platform.tracking.client
    client.delete_run(reported.run_id)
    yield
    client.restore_run(reported.run_id)


@contextmanager
def mlflow_tag_changed(reported: Reported) -> Iterator[None]:
    client = reported.deployment.platform.tracking.client
    client.set_tag(reported.run_id, "flts.config_hash", "0" * 64)
    yield
    client.set_tag(reported.run_id, "flts.config_hash", RECIPE.config_hash)


@contextmanager
def mlflow_score_changed(reported: Reported) -> Iterator[None]:
    client = reported.deployment.platform.tracking.client
    score = client.get_run(reported.run_id).data.metrics["test_score"]
    client.log_metric(reported.run_id, "test_score", score / 2)
    yield
    client.log_metric(reported.run_id, "test_score", score)


@contextmanager
def alias_removed(reported: Reported) -> Iterator[None]:
    platform = reported.deployment.platform
    current = platform.pointer(RECIPE.config_hash).read()
    assert current is not None
    name = current[0].registered_name
    version = platform.tracking.client.get_model_version_by_alias(name, "champion").version
    platform.tracking.client.delete_registered_model_alias(name, "champion")
    yield
    platform.tracking.client.set_registered_model_alias(name, "champion", version)


ALTERATIONS: dict[str, tuple[Callable[[Reported], AbstractContextManager[None]], str, str]] = {
    "raw file grew": (
        lambda of: of.altered(DATASET, "Cell.csv", lambda content: content + b"\n"),
        "Cell.csv is still what raw_data saw",
        "other bytes",
    ),
    "parquet names another recipe": (
        lambda of: of.altered(
            PROCESSED.bucket, of.key(PROCESSED, "train.parquet"), named_otherwise
        ),
        "train.parquet names this recipe in its own metadata",
        "not what its manifest says",
    ),
    "manifest names another recipe": (
        lambda of: of.altered(
            PROCESSED.bucket,
            of.key(PROCESSED, "manifest.json"),
            json_with(lambda one: one["place"].update(config_hash="0" * 64)),  # type: ignore[attr-defined]
        ),
        "processed_data was made for this recipe, from what stands before it",
        "made for another recipe",
    ),
    "manifest of a model edited": (
        lambda of: of.altered(
            GRU.bucket,
            of.key(GRU, "manifest.json"),
            json_with(lambda one: one["facts"].update(fit_s=0.001)),  # type: ignore[attr-defined]
        ),
        "gru_model was made for this recipe, from what stands before it",
        "copy that MLflow keeps",
    ),
    "leaderboard made from another model": (
        lambda of: of.altered(
            LEADERBOARD.bucket,
            of.key(LEADERBOARD, "manifest.json"),
            json_with(lambda one: one["inputs"].update(gru_model="0" * 64)),  # type: ignore[attr-defined]
        ),
        "leaderboard was made for this recipe, from what stands before it",
        "made from another gru_model",
    ),
    "weights altered": (
        lambda of: of.altered(GRU.bucket, of.key(GRU, "model.onnx"), lambda one: one[:-1] + b"x"),
        "GRU in the store forecasts what it was scored for",
        "not what its manifest says",
    ),
    "recorded example gone": (
        lambda of: of.without(GRU.bucket, of.key(GRU, "example.json")),
        "GRU in the store forecasts what it was scored for",
        "is missing",
    ),
    "MLflow run deleted": (
        mlflow_run_deleted,
        "MLflow's run of GRU names this recipe and the training in the store",
        "the run was deleted",
    ),
    "MLflow tag of another recipe": (
        mlflow_tag_changed,
        "MLflow's run of GRU names this recipe and the training in the store",
        "tag flts.config_hash",
    ),
    "MLflow holds another score": (
        mlflow_score_changed,
        "MLflow holds the same leaderboard and test scores",
        "GRU: MLflow says",
    ),
    "alias removed": (
        alias_removed,
        "MLflow's alias champion mirrors the pointer",
        "is another run",
    ),
    "stored forecasts better than they were": (
        lambda of: of.altered(
            LEADERBOARD.bucket, of.key(LEADERBOARD, "forecasts.parquet"), with_better_forecasts
        ),
        "Every score is that of the stored forecasts",
        "not what its manifest says",
    ),
    "pointer praises itself": (
        lambda of: of.altered(
            MODEL_PROMOTION, of.pointer, json_with(lambda one: one.update(score=0.0))
        ),
        "The pointer names this recipe, and its record in the history says the same",
        "pointer and record differ in score",
    ),
    "pointer of an unknown promotion": (
        lambda of: of.altered(
            MODEL_PROMOTION, of.pointer, json_with(lambda one: one.update(run_id="0" * 32))
        ),
        "The pointer names this recipe, and its record in the history says the same",
        "no such promotion",
    ),
    "pointer is no JSON": (
        lambda of: of.altered(MODEL_PROMOTION, of.pointer, lambda one: one[:100]),
        "The pointer names this recipe, and its record in the history says the same",
        "is no promotion record",
    ),
    "pointer gone": (
        lambda of: of.without(MODEL_PROMOTION, of.pointer),
        "The pointer names this recipe, and its record in the history says the same",
        "nothing stands at",
    ),
    "picture gone": (
        lambda of: of.without(LEADERBOARD.bucket, of.key(LEADERBOARD, "residuals.png")),
        "Picture: residuals",
        "is missing",
    ),
}


def test_report_of_an_honest_run_holds_no_failed(reported: Reported) -> None:
    assert "FAILED" not in reported.file(MARKDOWN_FILE).decode()
    assert "FAILED" not in reported.file(HTML_FILE).decode()
    metadata = reported.first.metadata("verification_report")
    assert metadata["failed"] == 0
    assert metadata["claims"] >= 20
    assert metadata["report"] == reported.file(MARKDOWN_FILE).decode()
    assert metadata["page"] == f"model-promotion/{reported.key(REPORT, HTML_FILE)}"


def test_report_tells_rows_sizes_scores_durations_and_versions(
    reported: Reported,
) -> None:
    text = reported.file(MARKDOWN_FILE).decode()
    assert "| train | 60 | 60 | head |" in text
    assert "| test | 40 | 40 | head |" in text
    size = len(reported.deployment.platform.store.get(DATASET, "Cell.csv"))
    assert f"| Cell.csv | train.parquet | {size:,} |" in text
    assert f"| GRU | {reported.run_id} | FINISHED |" in text
    assert "| 1 | " in text
    for stage in ("raw_data", "processed_data", "gru_model", "leaderboard"):
        assert f"{stage} written" in text
    assert "| torch | 2." in text
    assert "There is no promotion before this one." in text


def test_same_evidence_gives_the_report_that_stands(reported: Reported) -> None:
    reported.again()
    objects = reported.deployment.objects()
    run = reported.again()
    assert run.metadata("verification_report")["cached"] is True
    assert reported.deployment.objects() == objects
    run = reported.deployment.run(RECIPE)
    assert run.metadata("verification_report")["cached"] is True


@pytest.mark.parametrize("name", ALTERATIONS)
def test_altered_evidence_fails_its_own_line_and_no_other(reported: Reported, name: str) -> None:
    alter, statement, told = ALTERATIONS[name]
    with alter(reported):
        failed = reported.failed()
    assert failed.keys() == {statement}
    assert told in failed[statement]


def test_report_is_whole_again_once_the_evidence_is(reported: Reported) -> None:
    assert reported.failed() == {}


def test_failed_claim_fails_the_check_and_not_the_step(reported: Reported) -> None:
    with mlflow_run_deleted(reported):
        run = reported.again()
        claims = json.loads(reported.file(CLAIMS_FILE))
        assert [one["statement"] for one in claims if not one["holds"]] == [
            "MLflow's run of GRU names this recipe and the training in the store"
        ]
        (check,) = run.result.get_asset_check_evaluations()
        assert (check.check_name, check.passed) == ("all_claims_hold", False)
        assert check.severity == dg.AssetCheckSeverity.ERROR
        assert "the run was deleted" in str(check.description)
        assert "**FAILED** MLflow's run of GRU" in run.metadata("verification_report")["report"]
        assert 'class="failed"' in reported.file(HTML_FILE).decode()


def test_every_line_that_rests_on_a_lost_manifest_fails_and_the_others_stand(
    reported: Reported,
) -> None:
    with reported.without(LEADERBOARD.bucket, reported.key(LEADERBOARD, "manifest.json")):
        failed = reported.failed()
    assert failed.keys() > {
        "leaderboard was made for this recipe, from what stands before it",
        "Every score is that of the stored forecasts",
        "The gate, asked again, chooses the champion",
        "Picture: scores",
    }
    for stands in (
        "Cell.csv is still what raw_data saw",
        "train.parquet names this recipe in its own metadata",
        "The pointer names this recipe, and its record in the history says the same",
    ):
        assert stands not in failed


def test_second_promotion_is_compared_with_the_one_before(reported: Reported) -> None:
    run = reported.deployment.run(RECIPE, "promoted_model", force=True)
    assert run.result.success, run.failures
    reported.again()
    text = reported.file(MARKDOWN_FILE).decode()
    assert "FAILED" not in text
    assert "- ok: The promotion before it is recorded — GRU" in text
    assert "| model | GRU | GRU |  |" in text
    current = reported.deployment.platform.pointer(RECIPE.config_hash).read()
    assert current is not None
    assert current[0].previous is not None
    with reported.without(MODEL_PROMOTION, current[0].previous):
        failed = reported.failed()
    assert failed.keys() == {"The promotion before it is recorded"}


def test_forgotten_dagster_run_is_missing_evidence(reported: Reported) -> None:
    """Last in this module: the run's events do not come back."""
    current = reported.deployment.platform.pointer(RECIPE.config_hash).read()
    assert current is not None
    reported.deployment.instance.delete_run(current[0].actor.rsplit(" ", 1)[-1])
    assert reported.failed().keys() == {"Dagster holds the run that promoted"}
