"""What became of the files in the dataset bucket from one look to the next.

    look 1   X.csv v1                     new: waits
    look 2   X.csv v2  X_test.csv v1      both changed since look 1: both wait
    look 3   X.csv v2  X_test.csv v1      unchanged since look 2: settled, the pair is due
    look 4   X.csv v2  X_test.csv v1      nothing

A file that `cp` still writes has another version at every look. A pair is looked at once its two files
stand still; the one that settles last brings the other along, so a half pair waits for nothing.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

__all__ = [
    "ENDING",
    "DatasetCursor",
    "DatasetWatch",
    "Pair",
    "short_digest",
    "stations_in",
    "unpaired_in",
]

ENDING = ".csv"
TEST_ENDING = "_test.csv"


def short_digest(text: str) -> str:
    """Eight hex digits that tell texts apart in a cursor, which is stored at every tick.

    Texts may hold names of files that are not UTF-8, as Python reads them.
    """
    return sha256(text.encode(errors="backslashreplace")).hexdigest()[:8]


@dataclass(frozen=True, order=True)
class Pair:
    """The two files of a request."""

    train: str
    test: str

    @classmethod
    def of_station(cls, station: str) -> Pair:
        return cls(f"{station}{ENDING}", f"{station}{TEST_ENDING}")

    @property
    def station(self) -> str | None:
        """The station whose files these are, by their names."""
        station = self.train.removesuffix(ENDING)
        return station if self == Pair.of_station(station) else None

    @property
    def files(self) -> tuple[str, str]:
        return self.train, self.test


def stations_in(files: Collection[str]) -> list[str]:
    """Every X with X.csv and X_test.csv, sorted. A test file's own test file makes no station."""
    return sorted(
        station
        for file in files
        if file.endswith(TEST_ENDING)
        for station in (file.removesuffix(TEST_ENDING),)
        if f"{station}{ENDING}" in files
        and not (station.endswith("_test") and f"{station.removesuffix('_test')}{ENDING}" in files)
    )


def unpaired_in(files: Collection[str]) -> list[str]:
    """Files whose name makes no pair with another's, sorted."""
    paired = {file for station in stations_in(files) for file in Pair.of_station(station).files}
    return sorted(set(files) - paired)


@dataclass(frozen=True)
class DatasetCursor:
    """What is remembered between two looks, as compact JSON."""

    seen: Mapping[str, str] = field(default_factory=dict)
    """file -> digest of the version at the last look"""
    waiting: tuple[str, ...] = ()
    """files that changed and were not worked off yet, those that wait longest first"""
    told: tuple[str, ...] = ()
    """digests of complaints already made"""
    templates: Mapping[str, bool] = field(default_factory=dict)
    """digest of an auto template -> whether it stood still, and thus counted, at the last look"""

    @classmethod
    def parsed(cls, text: str | None) -> DatasetCursor:
        """One that cannot be read counts as none: every file is then new, and nothing runs twice."""
        try:
            content = json.loads(text or "{}")
            return cls(
                {str(file): str(version) for file, version in content.get("seen", {}).items()},
                tuple(map(str, content.get("waiting", ()))),
                tuple(map(str, content.get("told", ()))),
                {str(one): bool(still) for one, still in content.get("templates", {}).items()},
            )
        except (ValueError, AttributeError, TypeError):
            return cls()

    def __str__(self) -> str:
        content = dataclasses.asdict(self)
        return json.dumps(
            {name: value for name, value in content.items() if value}, separators=(",", ":")
        )


class DatasetWatch:
    """One look at the bucket, after the one that `cursor` tells of."""

    def __init__(self, cursor: DatasetCursor, versions: Mapping[str, str]) -> None:
        self.versions = versions
        """file -> version as the store knows it"""
        self._now = {file: short_digest(version) for file, version in versions.items()}
        changed = {file for file in self._now if cursor.seen.get(file) != self._now[file]}
        self._settled = self._now.keys() - changed
        earlier = [file for file in cursor.waiting if file in self._now]
        self._waiting = list(dict.fromkeys([*earlier, *sorted(changed)]))

    @property
    def waiting(self) -> tuple[str, ...]:
        return tuple(self._waiting)

    @property
    def due(self) -> list[str]:
        """Files that changed and now stand still, those that wait longest first."""
        return [file for file in self._waiting if file in self._settled]

    def is_settled(self, pair: Pair) -> bool:
        """Both files are there and stand still."""
        return all(file in self._settled for file in pair.files)

    def done(self, file: str) -> None:
        """Nothing more is to do for this version of the file."""
        self._waiting.remove(file)

    def postpone(self, file: str) -> None:
        """Behind all others, so that one busy recipe holds up nobody."""
        self._waiting.remove(file)
        self._waiting.append(file)

    def again(self, files: Iterable[str]) -> None:
        """These are due though they did not change, after all others."""
        self._waiting = list(dict.fromkeys([*self._waiting, *files]))

    def cursor(
        self, told: Iterable[str] = (), templates: Mapping[str, bool] | None = None
    ) -> DatasetCursor:
        """What the next look needs."""
        return DatasetCursor(self._now, self.waiting, tuple(sorted(set(told))), templates or {})
