"""What a report is made of. It knows nothing of where evidence lies; callers look and tell.

writer = Writer("sample50", config_hash)
writer.section("Data")
writer.claim("train file unchanged", "dataset/X.csv", look)   look() tells what was found, or raises
report = writer.report()                                      report.failed: claims without proof
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Claim", "Picture", "Report", "Section", "Table", "Writer"]


@dataclass(frozen=True)
class Claim:
    """One line: what is said, where that was looked up, and what was found there."""

    statement: str
    evidence: str
    holds: bool
    found: str
    """where the claim does not hold: what is wrong"""


@dataclass(frozen=True)
class Table:
    """Rows under a caption; cells are text, `links` leads a cell's text to an address."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """A PNG and the object it stands in."""

    title: str
    key: str
    png: bytes


@dataclass
class Section:
    title: str
    text: list[str] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    name: str
    """of the recipe"""
    config_hash: str
    sections: tuple[Section, ...]

    @property
    def claims(self) -> tuple[Claim, ...]:
        return tuple(claim for section in self.sections for claim in section.claims)

    @property
    def failed(self) -> tuple[Claim, ...]:
        return tuple(claim for claim in self.claims if not claim.holds)

    @property
    def verdict(self) -> str:
        if self.failed:
            return f"FAILED: {len(self.failed)} of {len(self.claims)} claims are not borne out"
        return f"all {len(self.claims)} claims are borne out"


class Writer:
    """Builds a report section by section."""

    def __init__(self, name: str, config_hash: str) -> None:
        self._name = _one_line(name)
        self._config_hash = config_hash
        self._sections: list[Section] = []

    def section(self, title: str) -> None:
        """What follows belongs to it."""
        self._sections.append(Section(title))

    def text(self, line: str) -> None:
        self._sections[-1].text.append(line)

    def claim(self, statement: str, evidence: str, look: Callable[[], str]) -> bool:
        """Holds if `look` returns what it found; whatever it raises is why it does not.

        Each text is one line, whatever a person wrote that stands in it.
        """
        try:
            holds, found = True, look()
        except (
            Exception
        ) as error:  # evidence that cannot be read, for whatever reason, proves nothing
            holds, found = False, _told(error)
        claim = Claim(_one_line(statement), _one_line(evidence), holds, _one_line(found))
        self._sections[-1].claims.append(claim)
        return claim.holds

    def table(
        self,
        caption: str,
        columns: Sequence[str],
        rows: Iterable[Sequence[object]],
        links: Mapping[str, str] | None = None,
    ) -> None:
        """Cells become text; None is an empty cell. Nothing is shown without rows."""
        filled = tuple(
            tuple("" if cell is None else _one_line(str(cell)) for cell in row) for row in rows
        )
        if filled:
            self._sections[-1].tables.append(Table(caption, tuple(columns), filled, links or {}))

    def picture(self, title: str, key: str, read: Callable[[], bytes]) -> None:
        """A claim that the picture stands, and the picture if it does."""
        found: list[bytes] = []

        def look() -> str:
            found.append(read())
            return f"{len(found[0]):,} bytes"

        if self.claim(f"Picture: {title}", key, look):
            self._sections[-1].pictures.append(Picture(title, key, found[0]))

    def report(self) -> Report:
        return Report(self._name, self._config_hash, tuple(self._sections))


def _told(error: Exception) -> str:
    kind = type(error).__name__
    return str(error) if kind.endswith("EvidenceError") else f"{kind}: {error}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
