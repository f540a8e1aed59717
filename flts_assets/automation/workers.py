"""Whether the process that works on a run still lives.

    flts run               the process itself; while it lives it holds workers/<run id>.lock, as all see
                           that share its data directory, and gives signs of life to the others
    UI, queue, sensors     a process that a code server started; the run's log tells its number

Asked for a run whose worker cannot be seen from here, the answer is `UNKNOWN`, never a guess.
"""

from __future__ import annotations

import enum
import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from flts_assets.automation.sign_of_life import SILENT_S, silent_s

if TYPE_CHECKING:
    import dagster as dg

__all__ = ["WORKER_TAG", "Worker", "worker_lock", "worker_of"]

WORKER_TAG = "flts/worker"
"""the machine that the run's worker was started on"""

STARTED = "Started process for run (pid: "
"""how the record begins by which a run's process tells its number"""


class Worker(enum.Enum):
    """What is known of a run's worker."""

    ALIVE = enum.auto()
    GONE = enum.auto()
    UNKNOWN = enum.auto()


def worker_of(run: dg.DagsterRun, instance: dg.DagsterInstance, folder: Path) -> Worker:
    """The worker of a run that has not ended; `folder` is the deployment's data directory."""
    from dagster._core.storage.tags import GRPC_INFO_TAG

    code_server = run.tags.get(GRPC_INFO_TAG)
    if code_server is None:
        lock = worker_lock(run.run_id, folder)
        return _of_lock(lock) if lock.exists() else _of_signs(run.run_id, instance)
    here = run.tags.get(WORKER_TAG) == socket.gethostname()
    return _of_process(run, instance) if here else _of_server(run.run_id, code_server)


def worker_lock(run_id: str, folder: Path) -> Path:
    """The file that the process of a `flts run` holds."""
    return folder / "workers" / f"{run_id}.lock"


def _of_lock(path: Path) -> Worker:
    from filelock import FileLock, Timeout

    try:
        with FileLock(path, timeout=0):
            return Worker.GONE
    except Timeout:
        return Worker.ALIVE


def _of_signs(run_id: str, instance: dg.DagsterInstance) -> Worker:
    silent = silent_s(run_id, instance)
    if silent is None:
        return Worker.UNKNOWN
    return Worker.GONE if silent > SILENT_S else Worker.ALIVE


def _of_process(run: dg.DagsterRun, instance: dg.DagsterInstance) -> Worker:
    """Alive if the process with the recorded number is the one that wrote the record."""
    import dagster as dg
    import psutil

    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        message = entry.get_dagster_event().message or ""
        if message.startswith(STARTED):
            number = int(message.removeprefix(STARTED).partition(")")[0])
            try:
                process = psutil.Process(number)
                born, status = process.create_time(), process.status()
            except psutil.NoSuchProcess:
                return Worker.GONE
            # A number is given out again; the clocks of the two differ by less than a second.
            is_it = born <= entry.timestamp + 1 and status != psutil.STATUS_ZOMBIE
            return Worker.ALIVE if is_it else Worker.GONE
    return Worker.UNKNOWN


def _of_server(run_id: str, code_server: str) -> Worker:
    """What the code server on another machine says. One that does not answer may be restarting."""
    from dagster._core.errors import DagsterUserCodeUnreachableError
    from dagster._grpc.client import DagsterGrpcClient
    from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
    from dagster_shared.serdes import deserialize_value

    where = json.loads(code_server)
    client = DagsterGrpcClient(
        host=where.get("host"),
        port=where.get("port"),
        socket=where.get("socket"),
        use_ssl=bool(where.get("use_ssl")),
    )
    try:
        answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run_id), timeout=5)
    except DagsterUserCodeUnreachableError:
        return Worker.UNKNOWN
    known = deserialize_value(answer, CanCancelExecutionResult).can_cancel
    return Worker.ALIVE if known else Worker.GONE
