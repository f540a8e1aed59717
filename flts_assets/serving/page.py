"""The page at `/` and what it shows: champions, the leaderboard each was chosen from, recent rows.

The files of `page/` are served as they are. A browser that reads them talks to this service alone.
"""

from __future__ import annotations

import asyncio
import csv
import math
import re
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response

from flts_assets.errors import ObjectNotFoundError, RawDataError
from flts_assets.forecasting.limits import MAX_STEPS
from flts_assets.recipe import RAW_COLUMNS
from flts_assets.recipe.columns import TIME_COLUMN
from flts_assets.serving import schemas
from flts_assets.serving.answers import champion_for
from flts_assets.serving.champions import Champion, Champions
from flts_assets.serving.requests import RequestError
from flts_assets.serving.tokens import require_token
from flts_assets.stores.artifacts import Artifacts
from flts_assets.stores.object_store import DATASET, MODELS, ObjectStore

__all__ = ["page_router"]

BOARD_FILE: Final = "leaderboard.json"
FOLDER: Final = Path(__file__).with_name("page")
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def page_router(champions: Champions, token: str | None) -> APIRouter:
    """The page, its files, and its JSON beyond /model and /predict. `token` guards recent rows."""
    router = APIRouter()
    _add_files(router)
    _add_stations(router, champions, token)
    return router


def _add_files(router: APIRouter) -> None:
    files = {path.name: path for path in FOLDER.iterdir() if path.suffix in MEDIA_TYPES}

    @router.get("/", include_in_schema=False)
    async def index() -> Response:
        return _file(files["index.html"])

    @router.get("/page/{name}", include_in_schema=False)
    async def file(name: str) -> Response:
        if name not in files:
            raise ObjectNotFoundError(
                "the page has no such file", received=name[:200], allowed=", ".join(sorted(files))
            )
        return _file(files[name])


def _file(path: Path) -> Response:
    return Response(path.read_bytes(), headers=HEADERS, media_type=MEDIA_TYPES[path.suffix])


def _add_stations(router: APIRouter, champions: Champions, token: str | None) -> None:
    recent_rows = lru_cache(8)(partial(_recent_rows, champions.store))
    board = lru_cache(32)(partial(_board, champions.store))

    @router.get("/stations", tags=["operation"])
    async def stations() -> dict[str, Any]:
        """All champions, newest first, and the pointers that are refused with the reason."""
        served = champions.served
        newest_first = sorted(
            served.by_hash.values(), key=lambda one: one.promotion.timestamp, reverse=True
        )
        return {
            "champions": [_summary(one) for one in newest_first],
            "refused": dict(served.refused),
        }

    @router.get("/stations/{station}/recent", tags=["operation"], **schemas.RECENT)
    async def recent(request: Request, station: str, config_hash: str | None = None) -> Response:
        """The last rows of the test file of the station's champion, as `data` of /predict.

        null stands for an empty cell.
        """
        require_token(request, token)
        rows = _rows_in(request.query_params.get("rows", "720"))
        champion = champion_for(champions.served, station, config_hash)
        file = champion.recipe.data.test_file

        def read() -> bytes:
            head = champions.store.head(DATASET, file)
            return recent_rows(file, rows, "" if head is None else head.version)

        return Response(await asyncio.to_thread(read), media_type="application/json")

    @router.get(
        "/stations/{station}/leaderboard", tags=["operation"], responses=schemas.MODEL_ERRORS
    )
    async def leaderboard(station: str, config_hash: str | None = None) -> Response:
        """The leaderboard that the station's champion was chosen from, best first."""
        promotion = champion_for(champions.served, station, config_hash).promotion
        content = await asyncio.to_thread(board, promotion.config_hash, promotion.leaderboard)
        return Response(content, media_type="application/json")


def _rows_in(text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or not 2 <= int(text) <= MAX_STEPS:
        raise RequestError(
            "rows", "must be a whole number of rows", received=text, allowed=f"2 to {MAX_STEPS}"
        )
    return int(text)


def _summary(champion: Champion) -> dict[str, Any]:
    promotion = champion.promotion
    return {
        "station": champion.station,
        "model_type": promotion.model_type,
        "recipe": promotion.recipe,
        "score": promotion.score,
        "skill": promotion.skill,
        "since": promotion.timestamp.isoformat(),
        "config_hash": promotion.config_hash,
    }


def _recent_rows(store: ObjectStore, file: str, rows: int, _version: str) -> bytes:
    """Raises ObjectNotFoundError, and RawDataError for last rows that are not eleven columns of numbers.

    The version is what the answer is remembered by.
    """
    header, *lines = store.get(DATASET, file).decode("utf-8-sig", "replace").splitlines() or [""]
    try:
        names, *cells = csv.reader([header, *lines[-rows:]])
        columns = dict(zip(names, zip(*cells, strict=True), strict=True))
        data: dict[str, Any] = {TIME_COLUMN: columns[TIME_COLUMN]}
        data |= {name: [_number(cell) for cell in columns[name]] for name in RAW_COLUMNS}
    except (ValueError, LookupError, csv.Error) as error:
        raise RawDataError(
            file,
            "its last rows cannot be read",
            received=str(error)[:200],
            allowed=", ".join((TIME_COLUMN, *RAW_COLUMNS)),
        ) from error
    return orjson.dumps({"file": file, "rows": len(cells), "data": data})


def _number(cell: str) -> float | None:
    number = float(cell or "nan")
    return number if math.isfinite(number) else None


def _board(store: ObjectStore, config_hash: str, identity: str) -> bytes:
    """leaderboard.json of this identity, which says what is in it: it can be remembered for ever."""
    artifacts = Artifacts(store)
    manifest = artifacts.of_identity(MODELS, config_hash, "leaderboard", identity)
    if manifest is not None:
        return artifacts.read(manifest, BOARD_FILE)
    raise ObjectNotFoundError(
        "the leaderboard that the champion was chosen from is not kept any more",
        received=identity,
        remedy="run the recipe again: flts run RECIPE --force",
    )
