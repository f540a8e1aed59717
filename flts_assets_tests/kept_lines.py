"""A log handler that keeps what is logged, for tests that read it."""

from __future__ import annotations

import logging

__all__ = ["KeptLines"]


class KeptLines(logging.Handler):
    """Adds each message to a list of the test's own."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())
