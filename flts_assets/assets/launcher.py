"""A step lives no longer than the process that launched it."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait

__all__ = ["end_with_launcher", "end_with_parent"]

GRACE_S = 10.0
LOOK_S = 1.0


def end_with_launcher() -> None:
    """In a step's own process: interrupt the step as soon as its launcher is gone.

    Otherwise a killed run leaves its trainers behind, and the next run shares the cores with them.
    Nothing happens where the step runs in the launching process itself.
    """
    launcher = multiprocessing.parent_process()
    if launcher is None:
        return
    sentinel = launcher.sentinel
    _end_after(lambda: wait([sentinel]))


def end_with_parent() -> None:
    """In a process that another library forked, of which `multiprocessing` knows no parent: the same."""
    parent = os.getppid()

    def parent_gone() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_S)

    _end_after(parent_gone)


def _end_after(gone: Callable[[], object]) -> None:
    def watch() -> None:
        gone()
        # Dagster turns SIGTERM into an interrupt, which closes the MLflow run on its way out.
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(GRACE_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="end-with-launcher", daemon=True).start()
