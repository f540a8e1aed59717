"""Sections of the verification report: how long it took, when, with which versions; pictures."""

from datetime import datetime

import dagster as dg

from flts_assets.assets.evidence import Evidence
from flts_assets.assets.leaderboard import PICTURES
from flts_assets.assets.models import MODEL_STAGES
from flts_assets.assets.promotion_event import PROMOTION
from flts_assets.assets.report_lookup import entries_of, object_of, piece_of, when
from flts_assets.assets.stage import LEADERBOARD, Stage
from flts_assets.errors import EvidenceError, FltsError
from flts_assets.forecasting.plots import small
from flts_assets.forecasting.training import LOSS_PICTURE
from flts_assets.report import Writer

__all__ = ["durations_section", "environment_section", "pictures_section", "timeline_section"]


def durations_section(writer: Writer, evidence: Evidence) -> None:
    writer.section("Durations")
    found: list[tuple[str, str]] = []

    def steps() -> str:
        run_id = _dagster_run(evidence)
        names = {PROMOTION.name, *(stage.name for stage in evidence.stages)}
        for one in evidence.instance.get_run_step_stats(run_id):
            if one.step_key in names and one.start_time and one.end_time:
                found.append((one.step_key, f"{one.end_time - one.start_time:.1f} s"))
        if not found:
            raise EvidenceError("Dagster holds no steps of the run", received=run_id)
        return f"run {run_id}, {len(found)} steps"

    promotion = piece_of(evidence, "promotion")
    what = "made the leaderboard" if promotion and promotion.by_hand else "promoted"
    writer.claim(f"Dagster holds the run that {what}", "Dagster's event log", steps)
    writer.table("Steps of that run", ("step", "took"), found)
    fits = [
        (entry.name, f"{entry.fit_s:.2f} s", f"{entry.predict_s:.3f} s")
        for entry in entries_of(evidence)
        if entry.kind == "model"
    ]
    writer.table("Models alone", ("model", "fit", "forecast of all test windows"), fits)


def _dagster_run(evidence: Evidence) -> str:
    """The run that chose the champion; where a person did, the one that made the leaderboard."""
    if not evidence.promotion.by_hand:
        return evidence.promotion.actor.rsplit(" ", 1)[-1]
    wanted = dg.AssetRecordsFilter(
        asset_key=dg.AssetKey(LEADERBOARD.name), asset_partitions=[evidence.config_hash]
    )
    return evidence.instance.fetch_materializations(wanted, limit=1).records[0].run_id


def timeline_section(writer: Writer, evidence: Evidence) -> None:
    writer.section("Timeline")
    moments: list[tuple[datetime, str]] = []
    for stage in evidence.stages:
        try:
            moments.append((evidence.manifest(stage).created_at, f"{stage.name} written"))
        except FltsError:  # its own line above tells
            continue
    if (promotion := piece_of(evidence, "promotion")) is not None:
        moments.append((promotion.timestamp, f"{promotion.model_type} promoted"))
    rows = ((when(moment), what) for moment, what in sorted(moments))
    writer.table("UTC", ("when", "what"), rows)


def pictures_section(writer: Writer, evidence: Evidence) -> None:
    writer.section("Pictures")
    artifacts = evidence.platform.artifacts

    def show(title: str, stage: Stage, name: str) -> None:
        writer.picture(
            title,
            object_of(evidence, stage, name),
            lambda: small(artifacts.read(evidence.manifest(stage), name)),
        )

    for title, name in PICTURES.items():
        show(title, LEADERBOARD, name)
    for model in evidence.candidates:
        if model in ("GRU", "LSTM"):
            show(f"losses of {model}", MODEL_STAGES[model], LOSS_PICTURE)


def environment_section(writer: Writer, evidence: Evidence) -> None:
    writer.section("Environment")
    made: dict[str, dict[str, str]] = {}
    for stage in evidence.stages:
        try:
            manifest = evidence.manifest(stage)
        except FltsError:  # its own line above tells
            continue
        made[stage.name] = {"Python": manifest.python, **manifest.libraries}
    libraries = sorted({name for one in made.values() for name in one}, key=str.lower)
    writer.table(
        "Versions that the stages ran with",
        ("library", "version"),
        ((name, _versions(made, name)) for name in libraries),
    )


def _versions(made: dict[str, dict[str, str]], library: str) -> str:
    """One version, or which stage had which."""
    found = {stage: one.get(library, "none") for stage, one in made.items()}
    if len(set(found.values())) == 1:
        return next(iter(found.values()))
    return ", ".join(f"{version} ({stage})" for stage, version in found.items())
