"""Where exactly a raw CSV's text is faulty: what is fine passes, what is not is a RawDataError.

`check_encoding` and `check_header` are cheap and run on every file. `raise_first_row_fault` walks
line by line and runs only once the bulk reader has refused a file, to find the place.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from flts_assets.errors import RawDataError

__all__ = ["check_encoding", "check_header", "raise_first_row_fault", "split_cells"]

LINE_END = re.compile(rb"\r\n|\n|\r")

TIMESTAMPS = "ISO 8601 without a time zone, for example 2018-02-05 23:40:00"
NUMBERS = "a decimal number such as 12.5 or 4.5e-08, or an empty cell"

# The shapes the bulk reader takes; both halves must agree, or a fault would have no place.
_TIME = r"\d{4}-\d\d-\d\d(?:[ T]\d\d(?::\d\d(?::\d\d(?:\.\d{1,9})?)?)?)?"
_NUMBER = r"[ \t]*[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?[ \t]*"
_EMPTY = r"(?:[+-]?[nN][aA][nN])?"
_ZONED = re.compile(r"\d{4}-\d\d-\d\d[ T].*(?:[zZ]|[+-]\d\d(?::?\d\d)?)", re.ASCII)
_INFINITE = re.compile(r"[ \t]*[+-]?inf(?:inity)?[ \t]*", re.IGNORECASE)
_NANOSECOND_YEARS = range(1678, 2262)
"""The whole years that a datetime64[ns] can hold."""


class _Place(NamedTuple):
    file: str
    row: int
    cut: bool
    """the file's last line, without a line end: it may have been cut off in transfer"""


def check_encoding(data: bytes, file: str) -> None:
    """Raises RawDataError with row and byte unless `data` is UTF-8."""
    if data.isascii():
        return
    try:
        data.decode()
    except UnicodeDecodeError as error:
        lines_before = len(LINE_END.findall(data[: error.start]))
        where = "" if lines_before else " in the header line"
        raise RawDataError(
            file,
            f"the byte at offset {error.start}{where} is not UTF-8",
            row=lines_before or None,
            received=data[error.start : error.start + 1],
            allowed="UTF-8, with or without a byte order mark",
            remedy="save the file again as UTF-8",
        ) from None


def split_cells(line: str) -> list[str]:
    """The line's cells, without their quotes; with them where a quote does not close."""
    if '"' not in line:
        return line.split(",")
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error:
        return line.split(",")


def check_header(header: Sequence[str], expected: Sequence[str], file: str) -> None:
    """Raises RawDataError unless `header` holds each expected name exactly once, in any order."""
    received = _shorten(",".join(header))
    allowed = f"the columns {','.join(expected)} in any order"
    missing = [name for name in expected if name not in header]
    extra = [name for name in header if name not in expected]
    repeated = [name for name in expected if header.count(name) > 1]
    if missing:
        what, remedy = _describe_missing(missing, extra, expected)
        raise RawDataError(
            file, what, column=missing[0], received=received, allowed=allowed, remedy=remedy
        )
    if repeated:
        raise RawDataError(
            file,
            f"the header has this name {header.count(repeated[0])} times",
            column=repeated[0],
            received=received,
            allowed=allowed,
            remedy="rename or remove all but one",
        )
    if extra:
        raise RawDataError(
            file,
            "the header has columns that a raw file does not have: " + _names(extra),
            column=extra[0],
            received=received,
            allowed=allowed,
            remedy=f"remove {_names(extra)}; a nameless column is the index that pandas writes",
        )


def _describe_missing(
    missing: Sequence[str], extra: Sequence[str], expected: Sequence[str]
) -> tuple[str, str]:
    if len(missing) == len(expected):
        return (
            "the first line is not the header",
            f"make the first line {','.join(expected)}, with commas between the cells",
        )
    lookalike = _lookalike(missing[0], extra)
    if lookalike is not None:
        return (
            f"the header has {_shorten(lookalike)!r} instead",
            f"rename {_shorten(lookalike)!r} to {missing[0]!r}",
        )
    return (
        f"the header lacks {_names(missing)}",
        "export the file again with all its columns",
    )


def _lookalike(name: str, candidates: Sequence[str]) -> str | None:
    import difflib

    by_plain_name = {candidate.strip().lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(name, by_plain_name, n=1)
    return by_plain_name[close[0]] if close else None


def raise_first_row_fault(text: bytes, time_column: str, file: str) -> None:
    """Raises RawDataError for the first faulty cell in reading order; returns if there is none.

    Args:
        text: the whole file in UTF-8, its header already checked; its last line end not removed,
            because a missing one tells a file that was cut off.
    """
    lines = [line.decode() for line in LINE_END.split(text.rstrip(b"\r\n"))]
    unterminated = not text.endswith((b"\n", b"\r"))
    header = split_cells(lines[0])
    fine = _pattern_of_fine_line(header, time_column)
    for row, line in enumerate(lines[1:], start=1):
        match = fine.fullmatch(line)
        if match is None or not _is_date(match["time"]):
            place = _Place(file, row, cut=unterminated and row == len(lines) - 1)
            _check_line(line, header, time_column, place)


def _pattern_of_fine_line(header: Sequence[str], time_column: str) -> re.Pattern[str]:
    """Sieves a million lines in seconds; what it lets fall need not be faulty, only looked at."""
    cell = rf"(?:{_NUMBER}|{_EMPTY})"
    cells = (rf"(?P<time>{_TIME})" if name == time_column else cell for name in header)
    return re.compile(",".join(cells), re.ASCII)


def _check_line(line: str, header: Sequence[str], time_column: str, place: _Place) -> None:
    cells = split_cells(line)
    _check_field_count(line, cells, header, place)
    for name, cell in zip(header, cells, strict=True):
        if name == time_column:
            _check_timestamp(cell, name, place)
        else:
            _check_number(cell, name, place, last=name == header[-1])


def _check_field_count(
    line: str, cells: Sequence[str], header: Sequence[str], place: _Place
) -> None:
    if len(cells) == len(header):
        return
    few = len(cells) < len(header)
    if few and place.cut:
        what, remedy = _describe_cut("before")
    elif not line.strip():
        what, remedy = "the line is blank", "remove the blank line"
    elif few:
        what = f"the row ends after {len(cells)} of {len(header)} cells"
        remedy = "write every comma of the row, also around empty cells"
    else:
        what = f"the row has {len(cells)} cells, {len(cells) - len(header)} too many"
        remedy = "remove the surplus commas; a decimal sign is a point"
    raise RawDataError(
        place.file,
        what,
        column=header[len(cells)] if few else None,
        row=place.row,
        received=_shorten(line),
        allowed=f"{len(header)} cells, as in the header",
        remedy=remedy,
    )


def _check_timestamp(cell: str, name: str, place: _Place) -> None:
    if re.fullmatch(_TIME, cell, re.ASCII) and _is_date(cell):
        return
    if re.fullmatch(_EMPTY, cell.strip()):
        what, remedy = "the timestamp is empty", "write the timestamp of this row"
    elif _ZONED.fullmatch(cell.strip()):
        what = "the timestamp has a time zone"
        remedy = "convert the whole column to one zone, UTC say, and write it without the zone"
    else:
        what = "this is not a timestamp that can be read"
        remedy = f"write it as {TIMESTAMPS}"
    raise RawDataError(
        place.file,
        what,
        column=name,
        row=place.row,
        received=_shorten(cell),
        allowed=TIMESTAMPS,
        remedy=remedy,
    )


def _check_number(cell: str, name: str, place: _Place, *, last: bool) -> None:
    if re.fullmatch(rf"{_NUMBER}|{_EMPTY}", cell, re.ASCII) or _INFINITE.fullmatch(cell):
        return  # infinity is a number here; that it is refused is the schema's business
    if place.cut and last:
        what, remedy = _describe_cut("within")
    else:
        what, remedy = "this is not a number", "correct the cell, or leave it empty if unmeasured"
    raise RawDataError(
        place.file,
        what,
        column=name,
        row=place.row,
        received=_shorten(cell),
        allowed=NUMBERS,
        remedy=remedy,
    )


def _describe_cut(where: str) -> tuple[str, str]:
    return (
        f"the file's last line is cut off {where} this cell and has no line end",
        "copy the complete file again from its source, or remove the last line",
    )


def _is_date(cell: str) -> bool:
    try:
        return datetime.fromisoformat(cell[:19]).year in _NANOSECOND_YEARS
    except ValueError:
        return False


def _names(names: Sequence[str]) -> str:
    return _shorten(", ".join(repr(name) for name in names))


def _shorten(text: str, longest: int = 160) -> str:
    return text if len(text) <= longest else text[: longest - 3] + "..."
