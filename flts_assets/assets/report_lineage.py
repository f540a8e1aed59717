"""Sections of the verification report: what was asked, the data, one recipe through every stage."""

import hashlib
from typing import Any

import pyarrow.parquet as pq

from flts_assets.assets.evidence import Evidence
from flts_assets.assets.models import MODEL_STAGES
from flts_assets.assets.processed import ROLES
from flts_assets.assets.report_lookup import (
    expect_none,
    expect_same,
    listed,
    number,
    object_of,
    piece_of,
    run_id_of,
)
from flts_assets.assets.stage import PROCESSED, RAW_DATA, Stage
from flts_assets.errors import EvidenceError, FltsError
from flts_assets.forecasting.verification import fault_of_parquet, fault_of_rows, leakage
from flts_assets.recipe import CandidateType
from flts_assets.report import Writer
from flts_assets.stores.artifacts import MANIFEST, Manifest, size_and_sha256
from flts_assets.stores.object_store import DATASET, MODEL_PROMOTION, RECIPES
from flts_assets.stores.pointer import Promotion
from flts_assets.stores.tracked import artifact_of
from flts_assets.stores.tracking import ATTEMPT_TAG, CONFIG_HASH_TAG, FINGERPRINT_TAG

__all__ = ["asked_section", "data_section", "one_hash_section"]


def asked_section(writer: Writer, evidence: Evidence) -> None:
    writer.section("What was asked")
    recipe = evidence.recipe

    def named_after() -> str:
        found = evidence.platform.registry.get(evidence.config_hash)
        digest = hashlib.sha256(found.canonical_json.encode()).hexdigest()
        expect_same(digest, evidence.config_hash, "the recipe hashes to another partition")
        return f"SHA-256 of its canonical JSON is {digest}"

    writer.claim(
        "The partition is named after its recipe",
        f"{RECIPES}/{evidence.config_hash}.json",
        named_after,
    )
    data, window = recipe.data, recipe.window
    rows = {role: getattr(data, f"sample_{role}_rows") or "all" for role in ROLES}
    writer.table(
        "The recipe",
        ("what", "asked for"),
        (
            ("station", recipe.station),
            ("files", f"{data.train_file}, {data.test_file}"),
            ("rows", f"{rows['train']} train, {rows['test']} test ({data.sample_strategy})"),
            ("scaling", recipe.scaling.method),
            (
                "window",
                f"{window.size} rows, the next {window.horizon} of {listed(window.targets)}",
            ),
            ("models", listed(evidence.candidates)),
            ("ranked by", f"{recipe.evaluation.rank_by} on the {recipe.evaluation.rank_on} rows"),
            ("canonical JSON", recipe.canonical_json),
        ),
    )


def data_section(writer: Writer, evidence: Evidence) -> None:
    writer.section("Data")
    data = evidence.recipe.data
    files = {"train": data.train_file, "test": data.test_file}
    sampled, sizes = [], []
    for role in ROLES:
        before: dict[str, Any] = {}

        def unchanged(role: str = role, before: dict[str, Any] = before) -> str:
            with evidence.dataset_file(role) as file:
                size, sha256 = size_and_sha256(file)
            pinned = evidence.manifest(RAW_DATA).facts["files"][role]
            expect_same(sha256, pinned["sha256"], "other bytes than pinned")
            before.update(rows=pinned["rows"], size=size)
            return f"{size:,} bytes, SHA-256 {pinned['sha256'][:16]}…"

        def as_asked(role: str = role, before: dict[str, Any] = before) -> str:
            stands = evidence.manifest(RAW_DATA).facts["files"][role]["rows"]
            fault = fault_of_rows(role, evidence.rows[role], stands, evidence.recipe)
            if fault:
                raise EvidenceError(fault)
            return f"{stands:,} rows -> {len(evidence.rows[role].processed):,} rows"

        writer.claim(
            f"{files[role]} is still what raw_data saw", f"{DATASET}/{files[role]}", unchanged
        )
        writer.claim(
            f"As many {role} rows as the recipe asks for", f"{role}.parquet, counted", as_asked
        )
        parquet = _size(evidence, PROCESSED, f"{role}.parquet")
        after = _rows(evidence, role)
        counts = (number(rows, "{:,}") for rows in (before.get("rows"), after))
        sampled.append((role, *counts, data.sample_strategy))
        sizes.append((files[role], f"{role}.parquet", before.get("size"), parquet))

    def not_leaked() -> str:
        expect_none(leakage(evidence.rows, evidence.recipe))
        return "both splits come out equal"

    writer.claim(
        "No row of the test file was known when the train rows were scaled",
        "parquet rows, scaled again by numbers fitted on the stored train rows",
        not_leaked,
    )
    writer.table("Sampling", ("split", "rows before", "rows after", "strategy"), sampled)
    writer.table(
        "Sizes in bytes",
        ("raw file", "processed file", "before", "after", "reduction"),
        (
            (*names, number(before, "{:,}"), number(after, "{:,}"), _reduction(before, after))
            for *names, before, after in sizes
        ),
    )


def one_hash_section(writer: Writer, evidence: Evidence) -> None:
    writer.section("One recipe through every stage")
    artifacts = evidence.platform.artifacts
    for stage in evidence.stages:
        writer.claim(
            f"{stage.name} was made for this recipe, from what stands before it",
            object_of(evidence, stage, MANIFEST),
            lambda stage=stage: _manifest_line(evidence, stage),  # type: ignore[misc]
        )
    for name in (f"{role}{kind}.parquet" for role in ROLES for kind in ("", "_measured")):

        def parquet(name: str = name) -> str:
            with artifacts.open(evidence.manifest(PROCESSED), name) as file:
                expect_none(fault_of_parquet(file, evidence.recipe))
                rows = pq.read_metadata(file).num_rows
            return f"config_hash {evidence.config_hash[:16]}…, {rows:,} rows"

        where = object_of(evidence, PROCESSED, name)
        writer.claim(f"{name} names this recipe in its own metadata", where, parquet)
    for name in evidence.candidates:
        writer.claim(
            f"MLflow's run of {name} names this recipe and the training in the store",
            f"MLflow {run_id_of(evidence, name)}",
            lambda name=name: _run_line(evidence, name),  # type: ignore[misc]
        )
    writer.claim(
        "The pointer names this recipe, and its record in the history says the same",
        f"{MODEL_PROMOTION}/{evidence.pointer.key}",
        lambda: _pointer_line(evidence),
    )


def _manifest_line(evidence: Evidence, stage: Stage) -> str:
    manifest = evidence.manifest(stage)
    place = manifest.place
    expect_same(place.config_hash, evidence.config_hash, "made for another recipe")
    expect_same(place.stage, stage.name, "of another stage")
    for other in evidence.stages:
        if other.name in manifest.inputs:
            stands = evidence.manifest(other).identity
            expect_same(manifest.inputs[other.name], stands, f"made from another {other.name}")
    names = {stage_of.name: name for name, stage_of in MODEL_STAGES.items()}
    if stage.name in names:
        name = names[stage.name]
        kept = artifact_of(
            evidence.platform.tracking, run_id_of(evidence, name), f"{name}/{MANIFEST}"
        )
        logged = Manifest.model_validate_json(kept)
        if logged != manifest:
            raise EvidenceError("it differs from the copy that MLflow keeps")
        return f"fingerprint {place.fingerprint[:16]}…, the same in MLflow"
    return f"fingerprint {place.fingerprint[:16]}…"


def _run_line(evidence: Evidence, name: CandidateType) -> str:
    run = evidence.run_of(name)
    trained = evidence.board.entry(name).trained
    if trained is None:
        raise EvidenceError(f"the leaderboard does not say which training of {name} it scored")
    if run.deleted:
        raise EvidenceError("the run was deleted")
    expect_same(run.status, "FINISHED", "the run has another status")
    expect_same(run.params.get("config_hash"), evidence.config_hash, "param config_hash")
    expect_same(run.tags.get(CONFIG_HASH_TAG), evidence.config_hash, f"tag {CONFIG_HASH_TAG}")
    expect_same(run.tags.get(FINGERPRINT_TAG), trained.fingerprint, f"tag {FINGERPRINT_TAG}")
    expect_same(run.tags.get(ATTEMPT_TAG), trained.attempt, f"tag {ATTEMPT_TAG}")
    return f"{run.status}, param and tag {evidence.config_hash[:16]}…"


def _pointer_line(evidence: Evidence) -> str:
    champion = evidence.at_pointer
    expect_same(champion.config_hash, evidence.config_hash, "the pointer is of another recipe")
    key = evidence.pointer.key_of(champion)
    record = evidence.pointer.records().get(str(key))
    if record is None:
        raise EvidenceError("the history holds no such promotion", received=key)
    differing = [
        name for name in Promotion.model_fields if getattr(champion, name) != getattr(record, name)
    ]
    if differing:
        raise EvidenceError(f"pointer and record differ in {listed(differing)}")
    return f"{champion.model_type}, run {champion.run_id}"


def _size(evidence: Evidence, stage: Stage, name: str) -> int | None:
    try:
        record = evidence.manifest(stage).files[name]
    except (FltsError, KeyError):
        return None
    head = evidence.platform.store.head(stage.bucket, record.key)
    return None if head is None else head.size


def _rows(evidence: Evidence, role: str) -> int | None:
    rows = piece_of(evidence, "rows")
    return None if rows is None else len(rows[role].processed)


def _reduction(before: int | None, after: int | None) -> str:
    return "" if not before or after is None else f"{1 - after / before:.1%}"
