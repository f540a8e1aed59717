"""The object store over HTTP: objects out of every bucket, and into the two that people write.

Raw measurements (`dataset`) may be replaced: new content makes every stage after them new. What clients
logged (`inference-logs`) may be added to, but a log object once written stays. All other buckets are
records of the platform's own work, immutable by convention: manifests hold their sha256, pointers move
by compare-and-swap, recipes are named by their hash. An upload could only break that, and is refused.
"""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import Callable
from typing import Final

from fastapi import APIRouter, Request, Response

from flts_assets.errors import InvalidKeyError, ObjectNotFoundError
from flts_assets.serving import schemas
from flts_assets.serving.answers import champion_for
from flts_assets.serving.champions import Champion
from flts_assets.serving.requests import RequestError
from flts_assets.serving.service import Service
from flts_assets.serving.tokens import ForbiddenError, require_token
from flts_assets.serving.uploads import upload_of
from flts_assets.stores.artifacts import Artifacts, FileRecord
from flts_assets.stores.object_store import (
    DATASET,
    INFERENCE_LOGS,
    PROCESSED_DATA,
    ObjectHead,
    ObjectStore,
    validate_bucket,
    validate_key,
)

__all__ = ["gateway_router"]

WRITABLE: Final = (DATASET, INFERENCE_LOGS)

_PROCESSED_STAGE: Final = "processed_data"
_CHAMPIONS_ROWS: Final = (PROCESSED_DATA, "processed_data.parquet")
"""Nothing stands there: who asks for it means the rows that the champion was trained on."""

_PARQUET: Final = "application/vnd.apache.parquet"


def gateway_router(service: Service) -> APIRouter:
    """Download, its HEAD, and upload."""
    router = APIRouter(tags=["objects"])
    store = service.champions.store

    async def found(request: Request, bucket: str, key: str) -> tuple[str, str]:
        require_token(request, service.settings.token)
        _check_place(bucket, key)
        if (bucket, key) != _CHAMPIONS_ROWS:
            return bucket, key
        query = request.query_params
        champion = champion_for(
            service.champions.served, query.get("station"), query.get("config_hash")
        )
        return bucket, (await asyncio.to_thread(_rows_of, store, champion)).key

    @router.get("/download/{bucket}/{object:path}", **schemas.DOWNLOAD)
    async def download(request: Request, bucket: str, object: str) -> Response:
        """An object's bytes; `processed-data/processed_data.parquet`: the champion's train rows."""
        place = await found(request, bucket, object)
        try:
            content = await asyncio.to_thread(store.get, *place)
        except ObjectNotFoundError:
            # The store's own words name its place on this machine.
            raise _nothing_under(bucket, object) from None
        return Response(content, headers=_headers(object, len(content)))

    @router.head("/download/{bucket}/{object:path}", include_in_schema=False)
    async def describe(request: Request, bucket: str, object: str) -> Response:
        place = await found(request, bucket, object)
        head = await asyncio.to_thread(store.head, *place)
        if head is None:
            raise _nothing_under(bucket, object)
        return Response(headers=_headers(object, head.size))

    @router.post("/upload/{bucket}/{object:path}", status_code=201, **schemas.UPLOAD)
    async def upload(request: Request, bucket: str, object: str) -> dict[str, str | int]:
        """Store the body, or the first file of a form. Only raw data and logs; needs the token."""
        _require_uploads(request, service.settings.token)
        _check_place(bucket, object)
        write = _writer(store, bucket)
        with service.gate:
            content = (await upload_of(request, service.settings.max_body)).content
            head = await asyncio.to_thread(write, bucket, object, content)
        return {"status": "SUCCESS", "bucket": bucket, "object": object, "size": head.size}

    return router


def _nothing_under(bucket: str, key: str) -> ObjectNotFoundError:
    return ObjectNotFoundError(f"no object stands under {bucket}/{key}")


def _rows_of(store: ObjectStore, champion: Champion) -> FileRecord:
    """The train parquet that the champion's manifest names as its input."""
    artifacts = Artifacts(store)
    promotion = champion.promotion
    model = artifacts.get(promotion.model, promotion.attempt)
    identity = model.inputs[_PROCESSED_STAGE]
    processed = artifacts.of_identity(
        PROCESSED_DATA, promotion.config_hash, _PROCESSED_STAGE, identity
    )
    if processed is None:
        raise ObjectNotFoundError(
            "the rows that the champion was trained on are not kept any more",
            received=identity,
            remedy="run the recipe again: flts run RECIPE --force",
        )
    return processed.files["train.parquet"]


def _require_uploads(request: Request, token: str | None) -> None:
    if token is None:
        raise ForbiddenError(
            "this service takes no uploads: it has no token",
            remedy="start it with FLTS_SERVING_TOKEN, and send Authorization: Bearer <token>",
        )
    require_token(request, token)


def _writer(store: ObjectStore, bucket: str) -> Callable[[str, str, bytes], ObjectHead]:
    if bucket not in WRITABLE:
        raise ForbiddenError(
            "nothing is uploaded to this bucket: its objects are never changed",
            received=bucket,
            allowed=", ".join(WRITABLE),
        )
    return store.put if bucket == DATASET else store.create


def _check_place(bucket: str, key: str) -> None:
    for field, value, check in (
        ("bucket", bucket, validate_bucket),
        ("object", key, validate_key),
    ):
        try:
            check(value)
        except InvalidKeyError as error:
            raise RequestError(field, error.what, received=value, allowed=error.allowed) from error


def _headers(key: str, size: int) -> dict[str, str]:
    name = key.rpartition("/")[2]
    guessed = _PARQUET if name.endswith(".parquet") else mimetypes.guess_type(name)[0]
    return {
        "Content-Type": guessed or "application/octet-stream",
        "Content-Length": str(size),
        "Content-Disposition": f'attachment; filename="{name}"',
        "X-Content-Type-Options": "nosniff",
    }
