from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from flts_assets.forecasting.demo_cell import to_csv
from flts_assets.serving import page
from flts_assets.stores.directory import DirectoryStore
from flts_assets.stores.object_store import MODELS
from flts_assets_tests.serving.deployed import KINDS, application, columns_of, recipe_of
from flts_assets_tests.serving.deployed import later_rows as station_rows
from flts_assets_tests.serving.page_store import NAMES, add_rows, promote_from_board, write_board

FILES = sorted(path.name for path in page.FOLDER.iterdir())


# --- the files -----------------------------------------------------------------------------------


def test_page_stands_at_the_root_with_a_policy_that_admits_this_service_alone(
    client: TestClient,
) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'self';")
    assert "unsafe" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize("name", FILES)
def test_everything_that_a_file_of_the_page_names_is_served(client: TestClient, name: str) -> None:
    answer = client.get(f"/page/{name}")
    assert answer.status_code == 200
    assert answer.headers["x-content-type-options"] == "nosniff"
    named = re.findall(r'(?:src|href)="page/([^"]+)"|from "\./([^"]+)"', answer.text)
    for one in (first or second for first, second in named):
        assert client.get(f"/page/{one}").status_code == 200, one


@pytest.mark.parametrize("name", FILES)
def test_no_file_of_the_page_names_another_host(name: str) -> None:
    text = (page.FOLDER / name).read_text()
    assert set(re.findall(r"https?://[^\"' )]+", text)) <= {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fpage.py", "%2Fetc%2Fpasswd"])
def test_files_that_are_not_the_pages_are_not_served(client: TestClient, name: str) -> None:
    assert client.get(f"/page/{name}").status_code == 404


def test_page_is_part_of_the_package() -> None:
    setup = Path(__file__).parents[2].joinpath("setup.py").read_text()
    assert '"flts_assets.serving": ["page/*"]' in setup


# --- stations ------------------------------------------------------------------------------------


def test_stations_tell_every_champion_newest_first(client: TestClient) -> None:
    told = client.get("/stations").json()
    assert told["refused"] == {}
    assert [one["station"] for one in told["champions"]] == [*reversed(KINDS)]
    newest, model = told["champions"][0], client.get("/model").json()["champion"]
    assert newest == {
        "station": KINDS[-1],
        "model_type": model["model_type"],
        "recipe": model["recipe"],
        "score": model["score"],
        "skill": model["skill"],
        "since": model["timestamp"].replace("Z", "+00:00"),
        "config_hash": model["config_hash"],
    }


def test_stations_are_an_empty_list_before_the_first_promotion(tmp_path: Path) -> None:
    with TestClient(application(DirectoryStore(tmp_path))) as client:
        answer = client.get("/stations")
    assert (answer.status_code, answer.json()) == (200, {"champions": [], "refused": {}})


# --- recent rows ---------------------------------------------------------------------------------


def test_recent_rows_are_the_last_of_the_test_file(
    own_client: TestClient, own_store: DirectoryStore
) -> None:
    add_rows(own_store, "TREES")
    answer = own_client.get("/stations/TREES/recent", params={"rows": 30})
    told, expected = answer.json(), columns_of(station_rows().iloc[-30:])
    assert (told["file"], told["rows"]) == ("TREES_test.csv", 30)
    assert [text.replace(" ", "T") for text in told["data"].pop("time")] == expected.pop("time")
    assert told["data"] == expected


def test_recent_rows_can_be_asked_a_forecast_of_as_they_are(
    own_client: TestClient, own_store: DirectoryStore
) -> None:
    add_rows(own_store, "TREES")
    data = own_client.get("/stations/TREES/recent").json()["data"]
    answer = own_client.post("/predict", json={"data": data, "levels": [0.9]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"][0]["ts"] > data["time"][-1].replace(" ", "T")


def test_new_content_of_the_test_file_is_seen_at_once(
    own_client: TestClient, own_store: DirectoryStore
) -> None:
    add_rows(own_store, "TREES")
    assert own_client.get("/stations/TREES/recent").json()["rows"] == 160
    add_rows(own_store, "TREES", to_csv(station_rows().iloc[:50]))
    assert own_client.get("/stations/TREES/recent").json()["rows"] == 50


def test_empty_cell_is_null(own_client: TestClient, own_store: DirectoryStore) -> None:
    rows = station_rows()
    rows.iloc[-2, 1] = float("nan")
    add_rows(own_store, "TREES", to_csv(rows))
    up = own_client.get("/stations/TREES/recent", params={"rows": 3}).json()["data"]["up"]
    assert [value is None for value in up] == [False, True, False]


@pytest.mark.parametrize(
    "content",
    [b"", b"time,down\n2024-01-01,1\n", b"\x00\xff\n1,2\n", to_csv(station_rows()) + b"1\n"],
)
def test_test_file_that_is_none_is_told_with_its_name(
    own_client: TestClient, own_store: DirectoryStore, content: bytes
) -> None:
    add_rows(own_store, "TREES", content)
    answer = own_client.get("/stations/TREES/recent")
    assert answer.status_code == 422
    assert "TREES_test.csv" in answer.json()["error"]["message"]


def test_recent_rows_of_a_missing_file_are_not_found(own_client: TestClient) -> None:
    answer = own_client.get("/stations/TREES/recent")
    assert answer.status_code == 404
    assert "dataset/TREES_test.csv" in answer.json()["error"]["message"]


@pytest.mark.parametrize("rows", ["0", "-1", "10001", "9" * 5000, "many", ""])
def test_impossible_count_of_rows_is_refused(own_client: TestClient, rows: str) -> None:
    answer = own_client.get("/stations/TREES/recent", params={"rows": rows})
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "rows")


def test_recent_rows_need_the_token(own_client: TestClient, own_store: DirectoryStore) -> None:
    add_rows(own_store, "TREES")
    del own_client.headers["Authorization"]
    assert own_client.get("/stations/TREES/recent").status_code == 401


@pytest.mark.parametrize("path", ["recent", "leaderboard"])
def test_champion_of_another_station_is_not_found(client: TestClient, path: str) -> None:
    other = recipe_of("LSTM").config_hash
    for place, query in (("nowhere", {}), ("GRU", {"config_hash": other})):
        answer = client.get(f"/stations/{place}/{path}", params=query)
        assert answer.status_code == 404
        assert answer.json()["error"]["kind"] == "UnknownModelError"


# --- leaderboard ---------------------------------------------------------------------------------


def test_leaderboard_is_the_one_that_the_champion_was_chosen_from(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    promote_from_board(store, "TREES")
    write_board(store, "TREES", best=0.5)  # a later one, from which nobody was promoted yet
    with TestClient(application(store)) as client:
        board = client.get("/stations/TREES/leaderboard").json()
    assert [entry["name"] for entry in board["entries"]] == list(NAMES)
    assert board["entries"][0]["scores"]["score"] == 0.02


def test_leaderboard_that_is_gone_or_altered_is_told(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    promote_from_board(store, "TREES")
    keys = [head.key for head in store.list(MODELS) if "/leaderboard/" in head.key]
    (board,) = (key for key in keys if key.endswith("leaderboard.json"))
    (manifest,) = (key for key in keys if key.endswith("manifest.json"))
    with TestClient(application(store)) as client:
        store.put(MODELS, board, b"{}")
        altered = client.get("/stations/TREES/leaderboard")
        store.put(MODELS, manifest, b"no manifest")
        gone = client.get("/stations/TREES/leaderboard")
    assert (altered.status_code, altered.json()["error"]["kind"]) == (503, "ArtifactError")
    assert (gone.status_code, gone.json()["error"]["kind"]) == (404, "ObjectNotFoundError")
