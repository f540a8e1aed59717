from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from flts_assets.errors import EvidenceError
from flts_assets.report import Report, Writer, to_html, to_markdown

PNG = b"\x89PNG\r\n\x1a\n picture"


def refuse(error: Exception) -> str:
    raise error


def written(*errors: Exception) -> Report:
    """A claim that holds, then one for each error."""
    writer = Writer("cell", "ab" * 32)
    writer.section("Data")
    writer.text("What was read.")
    writer.claim("the file stands", "dataset/X.csv", lambda: "12 bytes")
    for place, error in enumerate(errors):
        writer.claim(f"claim {place}", f"object {place}", lambda error=error: refuse(error))  # type: ignore[misc]
    return writer.report()


class Page(HTMLParser):
    """Every address a page would ask for, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.failed = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.failed += tag == "li" and found.get("class") == "failed"
        if tag in ("img", "script", "link", "iframe", "source"):
            self.addresses.append(found.get("src") or found.get("href") or "")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_claim_holds_with_what_was_found() -> None:
    report = written()
    assert report.failed == ()
    assert report.verdict == "all 1 claims are borne out"
    assert "- ok: the file stands — 12 bytes [dataset/X.csv]\n" in to_markdown(report)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (EvidenceError("other bytes", received="1", allowed="2"), "other bytes; received: '1'"),
        (KeyError("score"), "KeyError: 'score'"),
        (ValueError("line one\nline two"), "ValueError: line one line two"),
    ],
)
def test_claim_whose_evidence_fails_in_any_way_reads_failed_on_its_own_line(
    error: Exception, told: str
) -> None:
    report = written(error)
    (claim,) = report.failed
    assert claim.found.startswith(told)
    markdown = to_markdown(report)
    (line,) = [line for line in markdown.splitlines() if line.startswith("- **FAILED** claim 0 —")]
    assert told in line
    assert line.endswith("[object 0]")
    assert "FAILED: 1 of 2 claims are not borne out" in markdown
    assert "- ok: the file stands" in markdown


def test_interrupt_is_no_missing_evidence() -> None:
    with pytest.raises(KeyboardInterrupt):
        written(KeyboardInterrupt())  # type: ignore[arg-type]


def test_page_marks_each_failed_claim_and_no_other() -> None:
    page = Page(to_html(written(EvidenceError("gone"), EvidenceError("altered"))))
    assert page.failed == 2
    assert Page(to_html(written())).failed == 0


def test_page_asks_no_host_and_holds_its_pictures() -> None:
    writer = Writer("cell", "ab" * 32)
    writer.section("Pictures")
    writer.picture("residuals", "models/residuals.png", lambda: PNG)
    html = to_html(writer.report())
    page = Page(html)
    assert [one.split(",")[0] for one in page.addresses] == ["data:image/png;base64"]
    assert not re.findall(r"url\(|@import", html)
    assert "prefers-color-scheme: dark" in html


def test_missing_picture_is_a_claim_that_failed() -> None:
    writer = Writer("cell", "ab" * 32)
    writer.section("Pictures")
    writer.picture("residuals", "models/residuals.png", lambda: refuse(EvidenceError("gone")))  # type: ignore[arg-type,return-value]
    report = writer.report()
    assert [claim.statement for claim in report.failed] == ["Picture: residuals"]
    assert report.sections[0].pictures == []


def test_what_evidence_says_is_text_and_never_markup() -> None:
    writer = Writer("<script>alert(1)</script>", "ab" * 32)
    writer.section("Data")
    writer.claim("a <b>bold</b> claim", "x", lambda: "<img src=http://elsewhere/x.png>")
    page = Page(to_html(writer.report()))
    assert page.addresses == []
    assert "<img src=http://elsewhere/x.png>" in " ".join(page.words)


def test_what_a_person_wrote_forges_no_line_and_no_markup_in_markdown() -> None:
    forged = "fine\n- ok: Every score was checked\n![x](http://elsewhere/x.png) <img> `code` \\<b>"
    writer = Writer("cell\n# other", "ab" * 32)
    writer.section("Promotion")
    writer.claim("a person\ndecided", "history\n", lambda: forged)
    writer.table("The record", ("field", "value"), [("reason", forged)])
    report = writer.report()
    lines = to_markdown(report).splitlines()
    shown = r"fine - ok: Every score was checked \!\[x\](http://elsewhere/x.png) \<img\> \`code\` \\\<b\>"
    assert lines[0] == "# Verification report: cell # other"
    assert [one for one in lines if one.startswith("- ")] == [
        f"- ok: a person decided — {shown} [history]"
    ]
    assert f"| reason | {shown} |" in lines
    assert "fine - ok: Every score" in to_html(report)


def test_table_is_one_line_a_row_with_links_and_empty_cells() -> None:
    writer = Writer("cell", "ab" * 32)
    writer.section("Runs")
    writer.table("MLflow", ("run", "score"), [("r1", None), ("a|b", 0.5)], {"r1": "http://m/r1"})
    writer.table("nothing", ("run",), [])
    markdown = to_markdown(writer.report())
    assert "| run | score |\n| --- | --- |\n| [r1](http://m/r1) |  |\n| a\\|b | 0.5 |\n" in markdown
    assert "nothing" not in markdown
    assert '<a href="http://m/r1">r1</a>' in to_html(writer.report())


def test_markdown_keeps_sections_apart() -> None:
    markdown = to_markdown(written())
    assert "\n\n## Data\n\nWhat was read.\n\n- ok: " in markdown
