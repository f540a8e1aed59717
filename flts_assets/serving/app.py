"""The inference service: answers with the champion, says who it is, and swaps it while requests go on."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from flts_assets.errors import FltsError
from flts_assets.logs import EventLog
from flts_assets.serving import schemas
from flts_assets.serving.answers import champion_for
from flts_assets.serving.batching import Batcher
from flts_assets.serving.champions import Champions
from flts_assets.serving.files import files_router
from flts_assets.serving.gateway import gateway_router
from flts_assets.serving.inference_v2 import inference_v2_router
from flts_assets.serving.limits import Gate, body_of
from flts_assets.serving.metrics import Metrics
from flts_assets.serving.page import page_router
from flts_assets.serving.prediction_log import PredictionLog
from flts_assets.serving.requests import asks_in, json_in
from flts_assets.serving.service import Service
from flts_assets.serving.settings import ServingSettings
from flts_assets.serving.statuses import headers_of, status_of
from flts_assets.serving.tokens import require_token

__all__ = ["create_app"]


def create_app(settings: ServingSettings, champions: Champions, log: EventLog) -> FastAPI:
    """The ASGI application. It polls the pointers, and logs its forecasts, while it runs."""
    metrics = Metrics()
    predictions = None
    if settings.log_predictions:
        predictions = PredictionLog(champions.store, metrics, log)
    gate = Gate(settings.max_in_flight)
    service = Service(settings, champions, metrics, gate, Batcher(), log, predictions)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(_refresh, service)
        gc.freeze()  # what stands by now stays: no collection need walk it while requests wait
        poll = asyncio.create_task(_poll(service))
        if predictions:
            predictions.start()
        yield
        if predictions:
            await asyncio.to_thread(predictions.close)
        poll.cancel()
        with suppress(asyncio.CancelledError):
            await poll

    app = FastAPI(
        title="FLTS inference",
        summary="Forecasts by the promoted model",
        version="1",
        lifespan=lifespan,
        openapi_tags=[{"name": "forecast"}, {"name": "operation"}],
    )
    if settings.cors_origins:
        app.add_middleware(CORSMiddleware, allow_origins=list(settings.cors_origins))
    app.state.service = service
    _add_errors(app)
    _add_forecasts(app, service)
    _add_operation(app, service)
    app.include_router(page_router(champions, settings.token))
    app.include_router(files_router(service))
    app.include_router(gateway_router(service))
    app.include_router(inference_v2_router(service))
    return app


def _refresh(service: Service) -> None:
    try:
        service.champions.refresh()
    except Exception as error:  # whatever it is, the next look must come
        service.metrics.polls_failed.inc()
        service.log.error("poll_failed", message=str(error))
    else:
        served = service.champions.served
        service.metrics.champions.set(len(served.by_hash))
        service.metrics.refused.set(len(served.refused))


async def _poll(service: Service) -> None:
    while True:
        await asyncio.sleep(service.settings.poll_s)
        await asyncio.to_thread(_refresh, service)


def _add_forecasts(app: FastAPI, service: Service) -> None:
    @app.post("/predict", tags=["forecast"], **schemas.PREDICT)
    async def predict(request: Request) -> Response:
        """Forecasts for the steps after the last row, in raw units."""
        require_token(request, service.settings.token)
        with service.gate:
            body = await body_of(request, service.settings.max_body)
            started = time.perf_counter()
            asks, batch = asks_in(json_in(body))
            results = await service.answers(asks, batch)
            service.metrics.predict_s.observe(time.perf_counter() - started)
            content = {"status": "SUCCESS", "results": results} if batch else results[0]
            return Response(orjson.dumps(content), media_type="application/json")

    # Past FastAPI's own way to a handler a third more requests are answered (benchmarks/RESULTS.md);
    # its route stays behind this one for the documents.
    app.router.routes.insert(0, Route("/predict", predict, methods=["POST"]))


def _add_operation(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", tags=["operation"])
    async def healthz() -> dict[str, str]:
        """The process lives."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["operation"], responses=schemas.NOT_READY)
    async def readyz(response: Response) -> dict[str, Any]:
        """There is a champion; pointers that are refused are listed with the reason."""
        served = service.champions.served
        if not served.by_hash:
            response.status_code = 503
        return {
            "status": "ready" if served.by_hash else "no champion",
            "champions": len(served.by_hash),
            "refused": dict(served.refused),
        }

    @app.get("/metrics", tags=["operation"], response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Prometheus text."""
        return Response(service.metrics.text(), media_type=service.metrics.content_type)

    @app.get("/model", tags=["operation"], responses=schemas.MODEL_ERRORS)
    async def model(station: str | None = None, config_hash: str | None = None) -> dict[str, Any]:
        """Who is champion, since when, why, and who was before."""
        champion = champion_for(service.champions.served, station, config_hash)
        promotions = await asyncio.to_thread(service.champions.history, champion)
        window = champion.forecaster.card.window
        return {
            "champion": champion.promotion.model_dump(mode="json"),
            "station": champion.station,
            "window": window.model_dump(mode="json"),
            "rows_needed": champion.forecaster.rows_needed,
            "levels": champion.recipe.intervals.levels,
            "loaded_at": champion.loaded_at.isoformat(),
            "history": [one.model_dump(mode="json") for one in promotions],
            "others": sorted(
                one.station for one in service.champions.served.by_hash.values() if one != champion
            ),
        }


def _add_errors(app: FastAPI) -> None:
    async def told(_request: Request, error: Exception) -> Response:
        assert isinstance(error, FltsError)
        status = status_of(error)
        content = {
            "status": "ERROR",
            "error": {
                "kind": type(error).__name__,
                "message": str(error),
                "field": getattr(error, "field", getattr(error, "column", None)),
                "received": error.received,
                "allowed": error.allowed,
            },
        }
        body = orjson.dumps(content, default=repr)
        return Response(body, status, headers_of(status), media_type="application/json")

    async def routeless(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        content: dict[str, object] = {"error": error.detail}
        if not request.url.path.startswith("/v2"):
            content = {
                "status": "ERROR",
                "error": {"kind": "HTTPException", "message": error.detail},
            }
        return JSONResponse(content, error.status_code, error.headers)

    app.exception_handler(FltsError)(told)
    app.exception_handler(HTTPException)(routeless)
