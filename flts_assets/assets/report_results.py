"""Sections of the verification report: models, scores, and why the champion is one."""

import json
from datetime import datetime, timezone

from flts_assets.assets.evidence import Evidence
from flts_assets.assets.leaderboard import BOARD_FILE, FORECASTS_FILE, rescored_board
from flts_assets.assets.models import MODEL_STAGES
from flts_assets.assets.report_lookup import (
    entries_of,
    expect_same,
    expect_same_score,
    listed,
    number,
    object_of,
    piece_of,
    when,
)
from flts_assets.assets.stage import LEADERBOARD
from flts_assets.errors import EvidenceError, FltsError, PromotionError
from flts_assets.forecasting.forecaster import EXAMPLE_FILE, check_example, load_forecaster
from flts_assets.forecasting.gate import choose
from flts_assets.forecasting.leaderboard import Entry
from flts_assets.forecasting.verification import agrees, same_score, scores_on_test
from flts_assets.recipe import CandidateType
from flts_assets.report import Writer
from flts_assets.stores.object_store import MODEL_PROMOTION
from flts_assets.stores.pointer import Promotion
from flts_assets.stores.tracked import artifact_of, champion_run

__all__ = ["models_section", "previous_section", "promotion_section", "scoreboard_section"]

MEASURES = ("score", "rmse", "mae", "skill")


def models_section(writer: Writer, evidence: Evidence) -> None:
    writer.section("Models")
    for name in evidence.candidates:
        writer.claim(
            f"{name} in the store forecasts what it was scored for",
            object_of(evidence, MODEL_STAGES[name], ""),
            lambda name=name: _model_line(evidence, name),  # type: ignore[misc]
        )
    rows, links = [], {}
    for name in evidence.candidates:
        try:
            run = evidence.run_of(name)
        except FltsError:  # its own line above tells
            continue
        uri = evidence.platform.tracking.uri
        if uri.startswith("http"):
            links[run.run_id] = (
                f"{uri.rstrip('/')}/#/experiments/{run.experiment_id}/runs/{run.run_id}"
            )
        shown = {key: run.metrics.get(key) for key in ("validation_score", "test_score")}
        times = (_moment(run.started_ms), number(run.seconds, "{:.1f} s"))
        scores = (number(one, "{:.5g}") for one in shown.values())
        rows.append((name, run.run_id, run.status, *times, *scores))
    writer.table(
        "MLflow runs",
        ("model", "run", "status", "started", "took", "validation score", "test score"),
        rows,
        links,
    )
    if rows and not links:
        writer.text(
            "The runs stand in MLflow's own database: `mlflow ui --backend-store-uri URI`, with the"
            " URI that `flts doctor` prints."
        )


def _model_line(evidence: Evidence, name: CandidateType) -> str:
    """Files as their manifest says, loaded, the recorded forecast, and the leaderboard's test score."""
    platform = evidence.platform
    files = platform.artifacts.read_all(evidence.model(name))
    forecaster = load_forecaster(files, platform.settings.step_threads)
    check_example(forecaster, files[EXAMPLE_FILE])
    again = scores_on_test(forecaster, evidence.data, evidence.recipe).score
    recorded = evidence.board.entry(name).scores.score
    if not same_score(again, recorded):
        raise EvidenceError("its test score is another", received=again, allowed=str(recorded))
    return f"{len(files)} files unaltered; recorded forecast given; test score {again:.6g} again"


def _moment(milliseconds: int) -> str:
    return when(datetime.fromtimestamp(milliseconds / 1000, timezone.utc))


def scoreboard_section(writer: Writer, evidence: Evidence) -> None:
    writer.section("Scoreboard")
    artifacts = evidence.platform.artifacts

    def reproduced() -> str:
        board, manifest = evidence.board, evidence.manifest(LEADERBOARD)
        again = rescored_board(artifacts, manifest, board, evidence.recipe, evidence.data)
        wrong = [entry.name for entry in board.entries if not agrees(again[entry.name], entry)]
        if wrong:
            raise EvidenceError(f"scores of {listed(wrong)} are others than recorded")
        return f"{len(again)} entries over {board.forecasts:,} test windows"

    def in_mlflow() -> str:
        models = {
            evidence.run_of(name).tags.get("mlflow.parentRunId") for name in evidence.candidates
        }
        if len(models) != 1:
            told = listed(sorted(str(one) for one in models)) or "none"
            raise EvidenceError("the models' runs have not one parent", received=told)
        (parent,) = models
        kept = artifact_of(evidence.platform.tracking, str(parent), "leaderboard.json")
        stands = artifacts.read(evidence.manifest(LEADERBOARD), BOARD_FILE)
        expect_same(json.loads(kept), json.loads(stands), "MLflow's copy is another")
        for name in evidence.candidates:
            logged = evidence.run_of(name).metrics.get("test_score")
            score = evidence.board.entry(name).scores.score
            if not same_score(score, logged):
                raise EvidenceError(f"{name}: MLflow says {logged}, the leaderboard {score}")
        return f"pipeline run {parent}"

    writer.claim(
        "Every score is that of the stored forecasts",
        object_of(evidence, LEADERBOARD, FORECASTS_FILE),
        reproduced,
    )
    writer.claim("MLflow holds the same leaderboard and test scores", "MLflow", in_mlflow)
    writer.table(
        "Lower is better, in units of the train range",
        ("rank", "name", "kind", "score", "RMSE", "MAE", "skill", "coverage", "fit", "predict"),
        (_score_row(entry) for entry in entries_of(evidence)),
    )


def _score_row(entry: Entry) -> tuple[object, ...]:
    scores = entry.scores
    covered = ", ".join(f"{float(level):.0%}: {one:.1%}" for level, one in entry.coverage.items())
    return (
        *(entry.rank, entry.name, entry.kind),
        *(f"{one:.5g}" for one in (scores.score, scores.rmse, scores.mae)),
        *(f"{entry.skill:+.3f}", covered, f"{entry.fit_s:.2f} s", f"{entry.predict_s:.3f} s"),
    )


def promotion_section(writer: Writer, evidence: Evidence) -> None:
    writer.section("Promotion")
    history = f"{MODEL_PROMOTION}/{evidence.pointer.key.rsplit('/', 1)[0]}/history/"

    def of_this_board() -> str:
        promotion = evidence.promotion
        stands = evidence.manifest(LEADERBOARD).identity
        if promotion.leaderboard != stands:
            raise EvidenceError("it was chosen from another leaderboard", received=stands)
        score = evidence.board.entry(promotion.model_type).scores.score
        expect_same_score(promotion, score, "the leaderboard says otherwise")
        return f"{promotion.model_type}, score {promotion.score:.6g}"

    def as_it_was_first() -> str:
        promotion = evidence.promotion
        first = evidence.pointer.records().get(str(promotion.restores))
        if first is None:
            raise EvidenceError("the record is missing", received=promotion.restores)
        now, then = ((one.model, one.attempt, one.run_id) for one in (promotion, first))
        expect_same(now, then, "it restores another model")
        expect_same_score(promotion, first.score, "its first promotion says otherwise")
        told = f"{promotion.model_type}, score {promotion.score:.6g}"
        return f"{told}, first promoted {when(first.timestamp)}"

    def gate() -> str:
        chosen, reason = choose(evidence.board, evidence.recipe.promotion)
        expect_same(chosen.name, evidence.promotion.model_type, "the gate chooses another model")
        return f"{chosen.name}: {reason}"

    def gate_overruled() -> str:
        promotion = evidence.promotion
        try:
            chosen, reason = choose(evidence.board, evidence.recipe.promotion)
            told = f"the gate would choose {chosen.name}: {reason}"
        except PromotionError as error:
            told = f"the gate would choose nobody: {error}"
        return f"{told}; {promotion.actor} chose {promotion.model_type}: {promotion.reason}"

    def mirrored() -> str:
        name = evidence.promotion.registered_name
        stands = champion_run(evidence.platform.tracking, name)
        expect_same(stands, evidence.promotion.run_id, f"models:/{name}@champion is another run")
        return f"models:/{name}@champion is run {stands}"

    promotion = piece_of(evidence, "promotion")
    if promotion is not None and promotion.restores is not None:
        restored = "The restored promotion's score is that of its first promotion"
        writer.claim(restored, history, as_it_was_first)
    else:
        writer.claim("The promotion's score is the leaderboard's", history, of_this_board)
    if promotion is not None and promotion.by_hand:
        writer.claim("A person decided, whatever the gate says", "leaderboard.json", gate_overruled)
    else:
        writer.claim("The gate, asked again, chooses the champion", "leaderboard.json", gate)
    writer.claim("MLflow's alias champion mirrors the pointer", "MLflow's registry", mirrored)
    if promotion is not None:
        shown = promotion.model_dump(mode="json", exclude={"model", "weights"})
        writer.table("The record", ("field", "value"), shown.items())


def previous_section(writer: Writer, evidence: Evidence) -> None:
    writer.section("Compared with the previous promotion")
    promotion = piece_of(evidence, "promotion")
    if promotion is None or promotion.previous is None:
        writer.text("There is no promotion before this one.")
        return
    before: list[Promotion] = []

    def stands() -> str:
        record = evidence.pointer.records().get(str(promotion.previous))
        if record is None:
            raise EvidenceError("the record is missing", received=promotion.previous)
        before.append(record)
        return f"{record.model_type}, run {record.run_id}"

    writer.claim(
        "The promotion before it is recorded", f"{MODEL_PROMOTION}/{promotion.previous}", stands
    )
    if before:
        old = before[0]
        rows = [
            ("model", old.model_type, promotion.model_type, ""),
            ("run", old.run_id, promotion.run_id, ""),
            ("promoted", when(old.timestamp), when(promotion.timestamp), ""),
        ]
        for name in MEASURES:
            values = getattr(old, name), getattr(promotion, name)
            rows.append((name, *(f"{one:.6g}" for one in values), f"{values[1] - values[0]:+.3g}"))  # type: ignore[arg-type]
        writer.table("Previous and now", ("", "previous", "now", "change"), rows)
