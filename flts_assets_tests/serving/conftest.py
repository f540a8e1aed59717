"""What the tests of this folder share: a champion of each kind, and the service over them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from starlette.testclient import TestClient

from flts_assets.stores.directory import DirectoryStore
from flts_assets_tests.serving.deployed import KINDS, application, later_rows, promote

TOKEN = "a-secret-of-the-tests"


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> DirectoryStore:
    """Read it; who writes uses `own_store`. The newest champion is the last of KINDS."""
    store = DirectoryStore(tmp_path_factory.mktemp("served"))
    for kind in KINDS:
        promote(store, kind)
    return store


@pytest.fixture
def own_store(tmp_path: Path) -> DirectoryStore:
    """Holds one champion: TREES."""
    store = DirectoryStore(tmp_path)
    promote(store, "TREES")
    return store


@pytest.fixture(scope="session")
def client(store: DirectoryStore) -> Iterator[TestClient]:
    """Talks to the service; an error inside it that is no answer is raised."""
    with TestClient(application(store)) as client:
        yield client


@pytest.fixture
def own_client(own_store: DirectoryStore) -> Iterator[TestClient]:
    """Of a service with a token, which it sends."""
    with TestClient(application(own_store, token=TOKEN)) as client:
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        yield client


@pytest.fixture(scope="session")
def rows() -> pd.DataFrame:
    """Raw rows [160, 11] after those that the champions were trained on."""
    return later_rows()
