"""A sign of life from the process of a `flts run`, for those who see neither the process nor its lock.

Containers and pods come back under another name, and a restored data directory holds no locks. The time
stands in the key-value table that Dagster's daemons keep cursors in: beside the run's record, not in it,
which others write to.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event
from typing import TYPE_CHECKING, Final

from flts_assets.automation.background import in_background

if TYPE_CHECKING:
    import dagster as dg

__all__ = ["SILENT_S", "giving_signs", "silent_s"]

EVERY_S: Final = 20.0
SILENT_S: Final = 120.0
"""without a sign for so long it is dead; clocks of machines may differ by some seconds"""


@contextmanager
def giving_signs(run_id: str, instance: dg.DagsterInstance) -> Iterator[None]:
    """One now, and one every EVERY_S until the context ends; a database that is away is asked again."""
    _give(run_id, instance)

    def give_more(ended: Event) -> None:
        while not ended.wait(EVERY_S):
            # Of any database driver; too many in a row, and it counts as dead.
            with suppress(Exception):
                _give(run_id, instance)

    with in_background(give_more, "sign-of-life"):
        yield


def silent_s(run_id: str, instance: dg.DagsterInstance) -> float | None:
    """Seconds since its last sign; None if it never gave one."""
    key = _key(run_id)
    last = instance.run_storage.get_cursor_values({key}).get(key)
    return None if last is None else time.time() - float(last)


def _give(run_id: str, instance: dg.DagsterInstance) -> None:
    instance.run_storage.set_cursor_values({_key(run_id): str(time.time())})


def _key(run_id: str) -> str:
    return f"flts/sign_of_life/{run_id}"
