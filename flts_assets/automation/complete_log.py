"""Up to which id nothing is missing from Dagster's event log.

On PostgreSQL an id is given out before its event can be seen, and who writes beside it may be faster:

    writer A   id 7 ───────────────── seen
    writer B        id 8 ── seen
                            └ who reads on from 8 never meets 7

A writer holds a lock on the table from before it has an id until its event can be seen. So what stands
below an id that can be seen is complete once those who wrote at that moment have ended.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from flts_assets.errors import EventError

if TYPE_CHECKING:
    import dagster as dg

__all__ = ["complete_up_to"]

WAIT_S: Final = 1.0
"""for writes under way, which take milliseconds"""
_WRITERS: Final = """
    SELECT virtualtransaction FROM pg_locks
    WHERE relation = 'event_logs'::regclass AND mode = 'RowExclusiveLock' AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def complete_up_to(instance: dg.DagsterInstance, wait_s: float = WAIT_S) -> int | None:
    """An id up to which every event can be seen; None: all that can be seen, now and whenever.

    Raises EventError where a write goes on for longer than `wait_s`.
    """
    from sqlalchemy import text

    with instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
        if connection.dialect.name != "postgresql":
            return None
        newest = int(
            connection.execute(text("SELECT coalesce(max(id), 0) FROM event_logs")).scalar()
        )
        writing = _writers(connection)
        deadline = time.monotonic() + wait_s
        while writing:
            if time.monotonic() > deadline:
                raise EventError(
                    f"a write to Dagster's event log has not ended for {wait_s:g} s",
                    received=", ".join(sorted(writing)),
                    remedy=(
                        "wait; if a transaction was left open, pg_locks has this virtualtransaction"
                        " with its pid"
                    ),
                )
            time.sleep(0.02)
            writing &= _writers(connection)
        return newest


def _writers(connection: Any) -> set[str]:
    from sqlalchemy import text

    return {str(row[0]) for row in connection.execute(text(_WRITERS))}
