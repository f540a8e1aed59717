"""What was done for a recipe, and proof of it: a report whose lines are looked up as they are written."""

import dataclasses
import hashlib
import json
from typing import Any

import dagster as dg

from flts_assets.assets.checks import check_spec, checked
from flts_assets.assets.evidence import Evidence
from flts_assets.assets.partitions import CONFIG_HASH
from flts_assets.assets.platform import Platform
from flts_assets.assets.promotion import promoted_model
from flts_assets.assets.report_claims import write_report
from flts_assets.assets.report_lookup import piece_of
from flts_assets.assets.stage import Stage, stage_run
from flts_assets.report import Report, to_html, to_markdown
from flts_assets.stores.artifacts import Outputs
from flts_assets.stores.object_store import MODEL_PROMOTION

__all__ = ["HTML_FILE", "MARKDOWN_FILE", "PROMOTION_FACT", "REPORT", "verification_report"]

REPORT = Stage("verification_report", "1", MODEL_PROMOTION)
MARKDOWN_FILE, HTML_FILE, CLAIMS_FILE = "report.md", "report.html", "claims.json"
CLAIMS_HOLD = "all_claims_hold"
PROMOTION_FACT = "promotion"
"""key of the promotion in force when the report was written"""


@dg.asset(
    partitions_def=CONFIG_HASH,
    deps=[promoted_model],
    group_name="promotion",
    owners=["team:ml"],
    kinds={"markdown", "html"},
    code_version=REPORT.code_version,
    check_specs=[
        check_spec(
            REPORT.name,
            CLAIMS_HOLD,
            "Every claim of the report is borne out by its evidence; those that are not say FAILED.",
        )
    ],
)
def verification_report(
    context: dg.AssetExecutionContext, platform: Platform
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # as Dagster knows a result with checks
    """What was asked, what came of it, and proof: Markdown and one HTML page (`flts report HASH`).

    Rows, sizes, the one recipe hash through files, manifests, MLflow and pointer, scores, promotion,
    durations, pictures. Each claim is held against its evidence while the report is written; one whose
    evidence is missing or says otherwise reads FAILED. Equal evidence gives the report that stands.
    """
    with stage_run(context, platform, REPORT) as step:
        evidence = Evidence(platform, context.instance, step.recipe)
        report = write_report(evidence)
        markdown = to_markdown(report)
        outcome = step.outputs(
            {"evidence": _digest(report)},
            lambda _place, _attempt: Outputs(
                {
                    MARKDOWN_FILE: markdown.encode(),
                    HTML_FILE: to_html(report).encode(),
                    CLAIMS_FILE: _claims(report),
                },
                {
                    "claims": len(report.claims),
                    "failed": len(report.failed),
                    PROMOTION_FACT: _promotion_of(evidence),
                },
            ),
        )
        step.log.info("report_written", verdict=report.verdict, failed=len(report.failed))
        html = outcome.manifest.files[HTML_FILE]
        return step.result(
            outcome,
            {
                "report": dg.MetadataValue.md(markdown),
                "verdict": report.verdict,
                "claims": len(report.claims),
                "failed": len(report.failed),
                "page": f"{REPORT.bucket}/{html.key}",
                "command": f"flts report {step.config_hash[:12]} --open",
            },
            [_check(report)],
        )


def _promotion_of(evidence: Evidence) -> str | None:
    promotion = piece_of(evidence, "promotion")
    return None if promotion is None else evidence.pointer.key_of(promotion)


def _digest(report: Report) -> str:
    """Of everything that the report says and shows."""
    pictures = [
        hashlib.sha256(picture.png).hexdigest()
        for section in report.sections
        for picture in section.pictures
    ]
    content = "\n".join([to_markdown(report), *pictures])
    return hashlib.sha256(content.encode()).hexdigest()


def _claims(report: Report) -> bytes:
    return json.dumps([dataclasses.asdict(claim) for claim in report.claims], indent=1).encode()


def _check(report: Report) -> dg.AssetCheckResult:
    failed = [f"{claim.statement}: {claim.found}" for claim in report.failed]
    facts: dict[str, Any] = {"claims": len(report.claims), "failed": len(failed)}
    return checked(CLAIMS_HOLD, not failed, "; ".join([report.verdict, *failed]), facts)
