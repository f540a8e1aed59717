"""Every error FLTS raises on purpose.

FltsError
├── EnvironmentValueError      an environment variable is empty or malformed
├── RecipeError                a recipe cannot be read or contradicts itself
│   └── UnknownRecipeError     a config hash that nobody registered
├── RawDataError               a CSV that cannot be used, with file, column and row
├── ObjectStoreError           the store of bytes refused or lost something
│   ├── InvalidKeyError
│   ├── ObjectNotFoundError
│   ├── ObjectExistsError      create-once met an existing object
│   └── ObjectChangedError     replace-if-unchanged met another version
├── ArtifactError              a stage's files are missing, truncated or altered
├── InstanceError              Dagster's storage cannot be opened, or a run cannot be started this way
├── UpstreamMissingError       a stage was asked for before what it is made from
├── EvidenceError              a claim of the verification report that its evidence contradicts
├── TrainingError              a model cannot be fitted
├── TrackingError              MLflow refused or lost something
├── PromotionError             nothing can be promoted, or the pointer may not move
└── EventError                 an event cannot be told to the message broker
    ├── BrokerUnavailableError   not now: trying later may help
    ├── MessageRefusedError      never: the broker will not take this message
    └── MalformedEventError      never: the record in the event log lacks what the message needs
"""

from __future__ import annotations


class FltsError(Exception):
    """What failed, and where known: the value received, what is allowed, what to do."""

    def __init__(
        self,
        what: str,
        *,
        received: object = None,
        allowed: str | None = None,
        remedy: str | None = None,
        local: str | None = None,
    ) -> None:
        """`local`: where on this machine; logs and terminals show it, who asks from afar is not told."""
        self.what = what
        self.received = received
        self.allowed = allowed
        self.remedy = remedy
        parts = [what.rstrip(".")]
        if received is not None:
            parts.append(f"received: {received!r}")
        if allowed is not None:
            parts.append(f"allowed: {allowed}")
        if remedy is not None:
            parts.append(f"remedy: {remedy}")
        self.told = "; ".join(parts)
        super().__init__("; ".join([*parts, *([] if local is None else [f"here: {local}"])]))


class EnvironmentValueError(FltsError):
    """An environment variable is empty or malformed."""


class RecipeError(FltsError):
    """A recipe cannot be read or contradicts itself."""


class UnknownRecipeError(RecipeError):
    """A config hash that nobody registered."""


class RawDataError(FltsError):
    """A raw CSV that cannot be used.

    Attributes:
        file: its name. column, row: where the first fault stands; row counts data rows from 1, the
            header not counted. Each is None where the fault has no such place.
    """

    def __init__(
        self,
        file: str,
        what: str,
        *,
        column: str | None = None,
        row: int | None = None,
        received: object = None,
        allowed: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.file = file
        self.column = column
        self.row = row
        place = file
        if column is not None:
            place += f", column {column!r}"
        if row is not None:
            place += f", data row {row}"
        super().__init__(f"{place}: {what}", received=received, allowed=allowed, remedy=remedy)


class ObjectStoreError(FltsError):
    """The store of bytes refused or lost something."""


class InvalidKeyError(ObjectStoreError):
    """A bucket or key that no store accepts."""


class ObjectNotFoundError(ObjectStoreError):
    """No object stands under this bucket and key."""


class ObjectExistsError(ObjectStoreError):
    """Create-once met an existing object."""


class ObjectChangedError(ObjectStoreError):
    """Replace-if-unchanged met another version than the one that was read."""


class ArtifactError(FltsError):
    """A stage's files are missing, truncated or altered."""


class InstanceError(FltsError):
    """Dagster's storage cannot be opened, or a run of it cannot be started this way."""


class UpstreamMissingError(FltsError):
    """A stage was asked for before what it is made from."""


class EvidenceError(FltsError):
    """A claim of the verification report that its evidence contradicts."""


class TrainingError(FltsError):
    """A model cannot be fitted."""


class TrackingError(FltsError):
    """MLflow refused or lost something."""


class PromotionError(FltsError):
    """Nothing can be promoted, or the pointer may not move."""


class EventError(FltsError):
    """An event cannot be told to the message broker."""


class BrokerUnavailableError(EventError):
    """The broker did not acknowledge in time; whether the message arrived is not known."""


class MessageRefusedError(EventError):
    """The broker will never take this message, such as one that is too large."""


class MalformedEventError(EventError):
    """A record in Dagster's event log lacks what its message needs."""
