"""What the verification report claims, section by section."""

from flts_assets.assets.evidence import Evidence
from flts_assets.assets.report_lineage import asked_section, data_section, one_hash_section
from flts_assets.assets.report_record import (
    durations_section,
    environment_section,
    pictures_section,
    timeline_section,
)
from flts_assets.assets.report_results import (
    models_section,
    previous_section,
    promotion_section,
    scoreboard_section,
)
from flts_assets.report import Report, Writer

__all__ = ["write_report"]

SECTIONS = (
    asked_section,
    data_section,
    one_hash_section,
    models_section,
    scoreboard_section,
    promotion_section,
    previous_section,
    durations_section,
    timeline_section,
    pictures_section,
    environment_section,
)


def write_report(evidence: Evidence) -> Report:
    """All sections, each claim looked up now."""
    writer = Writer(evidence.recipe.name, evidence.config_hash)
    for section in SECTIONS:
        section(writer, evidence)
    return writer.report()
