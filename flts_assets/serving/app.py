"""The inference service: answers with the champion, says who it is, and swaps it while requests go on."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from flts_assets.errors import FltsError, ObjectStoreError
from flts_assets.logs import EventLog
from flts_assets.serving import schemas
from flts_assets.serving.answers import champion_for
from flts_assets.serving.batching import Batcher
from flts_assets.serving.champions import Champions
from flts_assets.serving.docs import docs_router
from flts_assets.serving.files import files_router
from flts_assets.serving.gateway import gateway_router
from flts_assets.serving.inference_v2 import inference_v2_router
from flts_assets.serving.limits import Gate, StoppingError, body_of
from flts_assets.serving.metrics import Metrics
from flts_assets.serving.page import page_router
from flts_assets.serving.prediction_log import PredictionLog
from flts_assets.serving.requests import asks_in, json_in
from flts_assets.serving.selected import SelectedListener
from flts_assets.serving.service import Service
from flts_assets.serving.settings import ServingSettings
from flts_assets.serving.statuses import told
from flts_assets.serving.tokens import require_token
from flts_assets.serving.workers import Workers
from flts_assets.settings import KafkaSettings

__all__ = ["create_app"]

PREDICT: Final = "/predict"
STOPPING: Final = StoppingError(
    "the service is being stopped, and this request took too long to wait for",
    remedy="send it again, to a service that goes on",
)
"""uvicorn cancels what is not done when its time to close is over, and would call that a 500."""
GONE: Final = Response(status_code=499)
"""For nobody: the client left before it had sent all. nginx counts such under this status too."""


def create_app(
    settings: ServingSettings,
    champions: Champions,
    log: EventLog,
    kafka: KafkaSettings | None = None,
) -> FastAPI:
    """The ASGI application. It polls the pointers, and logs its forecasts, while it runs.

    `kafka`: where promotions are told, which it then looks at once; None: polling alone.
    """
    metrics = Metrics()
    predictions = None
    if settings.log_predictions:
        predictions = PredictionLog(champions.store, metrics, log)
    gate = Gate(settings.max_in_flight, metrics.overloads.inc)
    metrics.watch(gate, settings.max_in_flight)
    workers = Workers(settings.workers, metrics.text_as_worker) if settings.workers else None
    service = Service(settings, champions, metrics, gate, Batcher(), log, predictions, workers)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(_refresh, service)
        gc.freeze()  # what stands by now stays: no collection need walk it while requests wait
        wake, loop = asyncio.Event(), asyncio.get_running_loop()
        poll = asyncio.create_task(_poll(service, wake))
        listener = None
        if kafka:
            listener = SelectedListener(
                kafka, metrics, log, lambda: loop.call_soon_threadsafe(wake.set)
            )
            listener.start()
        if predictions:
            predictions.start()
        if workers:
            try:
                await workers.start()
            except OSError as error:  # forecasts go on
                log.error("metrics_not_shared", message=str(error))
        yield
        if listener:
            await asyncio.to_thread(listener.close)
        if predictions:
            await asyncio.to_thread(predictions.close)
        poll.cancel()
        with suppress(asyncio.CancelledError):
            await poll
        if workers:
            workers.close()

    app = _Application(
        title="FLTS inference",
        summary="Forecasts by the promoted model",
        version="1",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own load Swagger and Redoc from a host of others
        redoc_url=None,
        openapi_tags=[{"name": "forecast"}, {"name": "operation"}],
    )
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"],
        )
    app.state.service = service
    app.answered = metrics.answered
    _add_errors(app, service)
    _add_forecasts(app, service)
    _add_operation(app, service)
    app.include_router(docs_router(app.title))
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
        service.metrics.looked(service.champions.served)


async def _poll(service: Service, wake: asyncio.Event) -> None:
    while True:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(wake.wait(), service.settings.poll_s)
        wake.clear()
        await asyncio.to_thread(_refresh, service)


class _Application(FastAPI):
    """FastAPI, past whose middleware and router `POST /predict` may take a shorter way.

    That is a quarter of a small forecast's time. The route stays for the documents.
    """

    predict: Callable[[Request], Awaitable[Response]] | None = None
    """None: everything goes the long way"""
    answered: Callable[[str, int], object]
    """told of every response: its route's template and its status"""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
        elif scope["path"] == PREDICT and scope["method"] == "POST" and self.predict:
            await self._predict(self.predict, scope, receive, send)
        else:
            await self._route(scope, receive, send)

    async def _predict(
        self,
        predict: Callable[[Request], Awaitable[Response]],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        try:
            response = await predict(Request(scope, receive))
        except FltsError as error:
            response = told(error)
        except ClientDisconnect:
            response = GONE
        except asyncio.CancelledError:
            response = told(STOPPING)
        except Exception:
            self.answered(PREDICT, 500)  # uvicorn's answer
            raise
        self.answered(PREDICT, response.status_code)
        await response(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            if not begun:
                begun = True
                # Templates are few; a path is whatever a client thinks of.
                route = getattr(scope.get("route"), "path", "other")
                self.answered(route, message["status"])
            await send(message)

        try:
            await super().__call__(scope, receive, noting)
        except asyncio.CancelledError:
            if begun:
                raise
            await told(STOPPING)(scope, receive, noting)


def _add_forecasts(app: _Application, service: Service) -> None:
    @app.post(PREDICT, tags=["forecast"], **schemas.PREDICT)
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

    # Browsers of other origins need the middleware's headers.
    if not service.settings.cors_origins:
        app.predict = predict


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
        """Prometheus text; of all workers of this `flts serve`."""
        text = await service.workers.text() if service.workers else service.metrics.text()
        return Response(text, media_type=service.metrics.content_type)

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
            "library_differences": [one.as_dict() for one in champion.differences],
            "history": [one.model_dump(mode="json") for one in promotions],
            "others": sorted(
                one.station for one in service.champions.served.by_hash.values() if one != champion
            ),
        }


def _add_errors(app: FastAPI, service: Service) -> None:
    async def told_to(_request: Request, error: Exception) -> Response:
        assert isinstance(error, FltsError)
        return told(error)

    async def routeless(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        content: dict[str, object] = {"error": error.detail}
        if not request.url.path.startswith("/v2"):
            content = {
                "status": "ERROR",
                "error": {"kind": "HTTPException", "message": error.detail},
            }
        return JSONResponse(content, error.status_code, error.headers)

    async def gone(_request: Request, _error: Exception) -> Response:
        return GONE

    async def refused_by_the_machine(_request: Request, error: Exception) -> Response:
        service.log.error("store_failed", message=str(error))
        return told(ObjectStoreError("the store cannot be used now", remedy="try again later"))

    app.exception_handler(FltsError)(told_to)
    app.exception_handler(OSError)(refused_by_the_machine)
    app.exception_handler(ClientDisconnect)(gone)
    app.exception_handler(HTTPException)(routeless)
