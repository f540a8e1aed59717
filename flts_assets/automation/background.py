"""A thread beside what a process does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

__all__ = ["in_background"]


@contextmanager
def in_background(work: Callable[[Event], None], name: str) -> Iterator[None]:
    """`work` in a thread of this name; the event it is given says that the context has ended."""
    ended = Event()
    thread = Thread(target=work, args=(ended,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
