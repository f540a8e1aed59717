"""Structured logs: one JSON object a line, in the step's output and in Dagster's run log alike."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Protocol

__all__ = ["EventLog", "event_log"]


class EventLog(Protocol):
    """Takes events by name, with fields."""

    def info(self, event: str, **fields: object) -> Any: ...

    def warning(self, event: str, **fields: object) -> Any: ...

    def error(self, event: str, **fields: object) -> Any: ...


def event_log(run_log: logging.Logger, **bound: Any) -> EventLog:
    """A log that writes each event to stdout and to `run_log`; `bound` fields stand on every line."""
    import structlog

    log: EventLog = structlog.wrap_logger(
        _Both(run_log),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
            _event_first,
            structlog.processors.JSONRenderer(),
        ],
        **bound,
    )
    return log


def _event_first(
    _logger: object, _method: str, fields: MutableMapping[str, Any]
) -> Mapping[str, Any]:
    first = {name: fields.pop(name) for name in ("timestamp", "level", "event")}
    return {**first, **fields}


class _Both:
    """Where rendered lines go."""

    def __init__(self, run_log: logging.Logger) -> None:
        self._run_log = run_log

    def _write(self, level: int, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        self._run_log.log(level, line)

    def info(self, line: str) -> None:
        self._write(logging.INFO, line)

    def warning(self, line: str) -> None:
        self._write(logging.WARNING, line)

    def error(self, line: str) -> None:
        self._write(logging.ERROR, line)
