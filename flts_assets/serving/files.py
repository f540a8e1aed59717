"""`POST /predict/file`: rows as CSV or parquet, answered in the same format."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from flts_assets.serving import schemas
from flts_assets.serving.requests import ask_of, options_in
from flts_assets.serving.service import Service
from flts_assets.serving.tokens import require_token
from flts_assets.serving.uploads import upload_of

__all__ = ["files_router"]


def files_router(service: Service) -> APIRouter:
    """The one route, answered through the service."""
    router = APIRouter(tags=["forecast"])

    @router.post("/predict/file", **schemas.PREDICT_FILE)
    async def predict_file(request: Request) -> Response:
        """Forecasts for the steps after the file's last row: ts, targets, and bands where asked.

        The file is the body itself or the first file of a form; its name or content type tells the
        format. The answer's headers name who forecast.
        """
        # With pandas and pyarrow: a service that is never sent a file need not hold them.
        from flts_assets.serving.tabular import MEDIA_TYPES, forecast_file, format_of, series_in

        require_token(request, service.settings.token)
        with service.gate:
            options = options_in(request.query_params)
            upload = await upload_of(request, service.settings.max_body)
            kind = format_of(upload)
            async with service.gate.turn():
                series = await asyncio.to_thread(
                    series_in, upload.content, upload.name or "body", kind
                )
            (answer,) = await service.answers([ask_of(series, options)])
            content = await asyncio.to_thread(forecast_file, answer["predictions"], kind)
            headers = {
                "Content-Disposition": f'attachment; filename="forecast.{kind}"',
                "X-FLTS-Run-Id": answer["run_id"],
                "X-FLTS-Config-Hash": answer["config_hash"],
            }
            return Response(content, headers=headers, media_type=MEDIA_TYPES[kind])

    return router
