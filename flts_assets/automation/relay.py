"""From Dagster's event log to the broker: each event at least once, in the order of the log.

    event log  1 2 3 4 5 6 7 …          4 was acknowledged: the next tick begins after it,
               ───────┤ cursor           whatever became of 5

Nothing is written down between the log and the broker: whoever stops the relay, and whenever, the cursor
stands at an event that the broker has, and those after it come again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Final

import dagster as dg

from flts_assets.automation.complete_log import complete_up_to
from flts_assets.automation.outbox import dead_letter, messages_of, still_open
from flts_assets.errors import BrokerUnavailableError, EventError, MessageRefusedError
from flts_assets.logs import EventLog
from flts_assets.stores.events import Broker, Message

__all__ = ["Relayed", "owed", "relay"]

MOST_EVENTS: Final = 1000
TICK_S: Final = 20.0
"""A sensor's tick is ended from outside after 60 s; one message more may take 6 s."""

_ASSET_EVENTS: Final = (
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_OBSERVATION,
)
_ENDINGS: Final = (dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_CANCELED)


@dataclass(frozen=True)
class Relayed:
    """What a tick did; `cursor` is the id of the last event that is done with."""

    cursor: int
    events: int = 0
    messages: int = 0
    dead_letters: int = 0
    lost: int = 0
    """neither the broker nor its topic of dead letters would take"""
    waiting: str | None = None
    """why the relay stopped before the end"""

    def __str__(self) -> str:
        told = f"{self.messages} messages of {self.events} events"
        if self.dead_letters:
            told += f", {self.dead_letters} dead letters"
        if self.lost:
            told += f", {self.lost} lost"
        return told if self.waiting is None else f"{told}; the next one waits: {self.waiting}"


def relay(
    instance: dg.DagsterInstance,
    broker: Callable[[], AbstractContextManager[Broker]],
    cursor: int,
    log: EventLog,
    *,
    tick_s: float = TICK_S,
) -> Relayed:
    """Tell the events after the cursor. A broker that does not answer ends the tick, not the relay."""
    started = time.monotonic()
    done = Relayed(cursor)
    try:
        records = owed(instance, cursor, MOST_EVENTS)
    except EventError as error:
        log.warning("relay_waits", message=str(error))
        return replace(done, waiting=str(error))
    if not records:
        return done
    with broker() as open_broker:
        for record in records:
            try:
                done = _told(instance, open_broker, record, done, log)
            except BrokerUnavailableError as error:
                log.warning("relay_waits", event_id=record.storage_id, message=str(error))
                return replace(done, waiting=str(error))
            if time.monotonic() - started > tick_s:
                break
    log.info(
        "relayed",
        cursor=done.cursor,
        events=done.events,
        messages=done.messages,
        dead_letters=done.dead_letters,
        lost=done.lost,
    )
    return done


def owed(instance: dg.DagsterInstance, after: int, limit: int) -> list[dg.EventLogRecord]:
    """The next events that may be worth telling, by their ids; at most `limit`.

    The log is asked kind by kind. Where a kind had more than `limit`, later ids of the others wait too.
    Raises EventError while nobody can tell which ids are still to come.
    """
    seen = complete_up_to(instance)  # before they are read
    kinds = list(_kinds(instance, after, limit))
    read = [kind[-1].storage_id for kind in kinds if len(kind) == limit]
    complete = min(read if seen is None else [*read, seen], default=None)
    records = sorted((one for kind in kinds for one in kind), key=lambda one: one.storage_id)
    return [one for one in records if complete is None or one.storage_id <= complete][:limit]


def _kinds(
    instance: dg.DagsterInstance, after: int, limit: int
) -> Iterator[Sequence[dg.EventLogRecord]]:
    # Of the storage itself: the instance's methods ask once for each asset.
    storage = instance.event_log_storage
    for kind in _ASSET_EVENTS:
        wanted = dg.EventRecordsFilter(kind, after_cursor=after)
        yield storage.get_event_records(wanted, limit=limit, ascending=True)
    for ending in _ENDINGS:
        filtered = dg.RunStatusChangeRecordsFilter(ending, after_storage_id=after)
        yield instance.fetch_run_status_changes(filtered, limit=limit, ascending=True).records


def _told(
    instance: dg.DagsterInstance,
    broker: Broker,
    record: dg.EventLogRecord,
    done: Relayed,
    log: EventLog,
) -> Relayed:
    """Everything about one event. Raises BrokerUnavailableError."""
    left_open = _left_open(instance, record)
    try:
        messages = messages_of(record, left_open)
    except Exception as error:  # whatever is wrong with one record, those behind it must not wait
        messages = []
        done = _dead(broker, dead_letter(record, error), done, log)
    for message in messages:
        try:
            broker.publish(message)
        except MessageRefusedError as error:
            done = _dead(broker, dead_letter(record, error, message), done, log)
        else:
            done = replace(done, messages=done.messages + 1)
    return replace(done, cursor=record.storage_id, events=done.events + 1)


def _left_open(instance: dg.DagsterInstance, record: dg.EventLogRecord) -> list[dg.EventLogEntry]:
    if record.event_log_entry.dagster_event_type not in _ENDINGS:
        return []
    return still_open(instance.all_logs(record.run_id, of_type=set(_ASSET_EVENTS)))


def _dead(broker: Broker, letter: Message, done: Relayed, log: EventLog) -> Relayed:
    told = letter.value.decode()
    try:
        broker.publish(letter)
    except MessageRefusedError as error:
        log.error("dead_letter_lost", letter=told, message=str(error))
        return replace(done, lost=done.lost + 1)
    log.error("dead_letter", letter=told)
    return replace(done, dead_letters=done.dead_letters + 1)
