"""A report as Markdown and as one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import re
from functools import cache
from typing import TYPE_CHECKING

from flts_assets.report.model import Report

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["to_html", "to_markdown"]

_MARKUP = re.compile(r"[\\`*|<>!\[\]]")


def to_markdown(report: Report) -> str:
    """For terminals and Dagster's page. Pictures are named by the object they stand in."""
    return _templates().get_template("report.md").render(report=report)


def to_html(report: Report) -> str:
    """A page with its pictures inside; it follows the reader's light or dark theme and asks no host."""
    return _templates().get_template("report.html").render(report=report)


@cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("flts_assets.report"),
        autoescape=lambda name: bool(name and name.endswith(".html")),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    templates.filters["data_uri"] = _data_uri
    templates.filters["plain"] = _plain
    return templates


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _plain(text: str) -> str:
    """Text that is no markup and ends no cell of a Markdown table, whoever wrote it."""
    return _MARKUP.sub(r"\\\g<0>", text)
