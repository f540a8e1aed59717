"""Each fault is told once, not at every look that a sensor has."""

from __future__ import annotations

from collections.abc import Collection

from flts_assets.automation.dataset_watch import short_digest
from flts_assets.logs import EventLog

__all__ = ["Complaints"]


class Complaints:
    """Those of one look; `before` holds the digests of those that were made before."""

    def __init__(self, log: EventLog, before: Collection[str]) -> None:
        self._log = log
        self._before = frozenset(before)
        self._made: set[str] = set()

    def __call__(self, message: str) -> None:
        """About a recipe."""
        self.about(message, "recipe_unusable", message=message)

    def about(self, fault: str, event: str, **fields: object) -> None:
        """Tell of this fault, unless that was done."""
        digest = short_digest(fault)
        if digest not in self._before | self._made:
            self._log.error(event, **fields)
        self._made.add(digest)

    def keep(self, fault: str) -> None:
        """It was not looked at; if it was told before, it is not told again."""
        self._made |= self._before & {short_digest(fault)}

    def keep_all(self) -> None:
        """Whatever was told before stays so: not everything was looked at."""
        self._made |= self._before

    @property
    def made(self) -> frozenset[str]:
        """Digests of all that is at fault now, for the next look."""
        return frozenset(self._made)
