"""The verification report: claims, each held against its evidence while it is written."""

from flts_assets.report.model import Claim, Picture, Report, Section, Table, Writer
from flts_assets.report.rendering import to_html, to_markdown

__all__ = ["Claim", "Picture", "Report", "Section", "Table", "Writer", "to_html", "to_markdown"]
