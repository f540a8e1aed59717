"""The Open Inference Protocol, version 2, over REST: tensors in, tensors out.

    POST /v2/models/PobleSec/infer
    {"inputs": [{"name": "time", "datatype": "BYTES", "shape": [R], "data": ["2018-03-05T15:16:00", …]},
                {"name": "rows", "datatype": "FP64", "shape": [R, 11], "data": [[1.0, …], …]}],
     "parameters": {"inference_length": 3, "levels": "0.5,0.9"}}

A model is a station, or a config hash. `rows` holds the eleven raw columns in their order, row by row,
nested or flat; one tensor [R] (or [R, 1]) for each column says the same. Outputs are `ts` and the
targets, [steps] each, in raw units, with `down-lo-90` and `down-hi-90` for a level of 0.9.

Parameters of other names are passed over, as the protocol leaves names to each server: clients send those
of theirs unasked (Triton's `binary_data_output`).

Source: github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md. Versions of
models and binary tensors, both optional there, are not offered. Every error is {"error": "…"}.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from importlib.metadata import version
from math import prod
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from flts_assets.errors import FltsError
from flts_assets.recipe import RAW_COLUMNS
from flts_assets.recipe.columns import TIME_COLUMN
from flts_assets.serving.answers import champion_for
from flts_assets.serving.champions import Champion, Served
from flts_assets.serving.limits import body_of
from flts_assets.serving.requests import Ask, RequestError, ask_of, json_in, series_of, shares_in
from flts_assets.serving.schemas_v2 import INFER, PROTOCOL_ERRORS
from flts_assets.serving.service import Service
from flts_assets.serving.statuses import headers_of, status_of
from flts_assets.serving.tokens import require_token

__all__ = ["inference_v2_router"]

ROWS: Final = "rows"
FLOATS: Final = ("FP64", "FP32")

_Responses = dict[int | str, dict[str, Any]]
_MODEL_ERRORS: Final[_Responses] = {status: PROTOCOL_ERRORS[status] for status in ("404", "503")}
_NOT_READY: Final[_Responses] = {503: {"description": "There is no champion"}}


class _ProtocolRoute(APIRoute):
    """Tells errors as the protocol does."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def told(request: Request) -> Response:
            try:
                return await handle(request)
            except FltsError as error:
                status = 400 if isinstance(error, RequestError) else status_of(error)
                return _json({"error": error.told}, status, headers_of(status))

        return told


def inference_v2_router(service: Service) -> APIRouter:
    """All routes of the protocol."""
    router = APIRouter(prefix="/v2", tags=["open inference protocol"], route_class=_ProtocolRoute)
    champions = service.champions

    @router.get("")
    async def server() -> Response:
        """Who serves."""
        return _json({"name": "flts", "version": version("flts"), "extensions": []})

    @router.get("/health/live")
    async def live() -> Response:
        """The process lives."""
        return _json({"live": True})

    @router.get("/health/ready", responses=_NOT_READY)
    async def ready() -> Response:
        """There is a champion."""
        is_ready = bool(champions.served.by_hash)
        return _json({"ready": is_ready}, 200 if is_ready else 503)

    @router.get("/models/{name}", responses=_MODEL_ERRORS)
    async def model(name: str) -> Response:
        """The tensors that a model takes and gives."""
        return _json(_metadata(name, _champion(champions.served, name)))

    @router.get("/models/{name}/ready", responses=_MODEL_ERRORS)
    async def model_ready(name: str) -> Response:
        """The model is served; a champion that was refused is not."""
        served = champions.served
        is_ready = name in served.by_hash or name not in served.refused
        if is_ready:
            _champion(served, name)
        return _json({"name": name, "ready": is_ready}, 200 if is_ready else 503)

    @router.post("/models/{name}/infer", openapi_extra=INFER, responses=PROTOCOL_ERRORS)
    async def infer(request: Request, name: str) -> Response:
        """Forecasts for the steps after the last row."""
        require_token(request, service.settings.token)
        with service.gate:
            champion = _champion(champions.served, name)
            body = json_in(await body_of(request, service.settings.max_body))
            ask, wanted, known_as = _asked(body, champion)
            (answer,) = await service.answers([ask])
        told = {name_: answer[name_] for name_ in ("run_id", "model_type", "config_hash")}
        outputs = _outputs(answer["predictions"], wanted)
        return _json({"model_name": name, **known_as, "parameters": told, "outputs": outputs})

    return router


def _champion(served: Served, name: str) -> Champion:
    """Raises UnknownModelError, NoChampionError."""
    config_hash = name if name in served.by_hash else None
    return champion_for(served, None if config_hash else name, config_hash)


def _metadata(name: str, champion: Champion) -> dict[str, Any]:
    targets = champion.forecaster.card.window.targets
    return {
        "name": name,
        "platform": f"flts_{champion.promotion.model_type.lower()}",
        "inputs": [
            {"name": TIME_COLUMN, "datatype": "BYTES", "shape": [-1]},
            {"name": ROWS, "datatype": "FP64", "shape": [-1, len(RAW_COLUMNS)]},
        ],
        "outputs": [
            {"name": "ts", "datatype": "BYTES", "shape": [-1]},
            *({"name": target, "datatype": "FP64", "shape": [-1]} for target in targets),
        ],
    }


def _asked(body: object, champion: Champion) -> tuple[Ask, list[str] | None, dict[str, str]]:
    """What is asked, the outputs that are wanted (None: all), and the request's id if it has one."""
    if not isinstance(body, Mapping):
        raise RequestError("body", "must be a JSON object", received=body)
    columns = _columns(body.get("inputs"))
    given = body.get("parameters", {})
    if not isinstance(given, Mapping):
        raise RequestError("parameters", "must be an object", received=given)
    options: dict[str, Any] = {
        name: given[name] for name in ("inference_length", "levels") if name in given
    }
    levels = options.get("levels")
    if isinstance(levels, str):
        options["levels"] = shares_in(levels)
    elif isinstance(levels, float):
        options["levels"] = (levels,)
    options["config_hash"] = champion.promotion.config_hash
    known_as = {}
    if "id" in body:
        if not isinstance(body["id"], str):
            raise RequestError("id", "must be text", received=body["id"])
        known_as["id"] = body["id"]
    ask = ask_of(series_of(columns, TIME_COLUMN, "inputs"), options)
    return ask, _wanted(body.get("outputs")), known_as


def _columns(inputs: object) -> dict[str, list[Any]]:
    """The tensors as columns by name."""
    columns: dict[str, list[Any]] = {}
    for place, tensor in enumerate(_objects(inputs, "inputs")):
        where = f"inputs[{place}]"
        name = tensor.get("name")
        if (
            not isinstance(name, str)
            or name in columns
            or (name == ROWS and columns.keys() - {TIME_COLUMN})
        ):
            raise RequestError(
                f"{where}.name",
                "must name a tensor that was not given before",
                received=name,
                allowed=", ".join((TIME_COLUMN, ROWS, *RAW_COLUMNS)),
            )
        kinds = ("BYTES",) if name == TIME_COLUMN else FLOATS
        if tensor.get("datatype") not in kinds:
            raise RequestError(
                f"{where}.datatype",
                f"does not fit {name[:200]}",
                received=tensor.get("datatype"),
                allowed=" or ".join(kinds),
            )
        width = len(RAW_COLUMNS) if name == ROWS else 1
        elements = _elements(tensor, width, where)
        if name == ROWS:
            columns |= {one: elements[at::width] for at, one in enumerate(RAW_COLUMNS)}
        else:
            columns[name] = elements
    return columns


def _elements(tensor: Mapping[str, Any], width: int, where: str) -> list[Any]:
    """Row-major, flat. Raises RequestError if the shape is not [R, width], or the data not of it."""
    shape, data = tensor.get("shape"), tensor.get("data")
    shapes = f"[R, {width}]" if width > 1 else "[R] or [R, 1]"
    if (
        not isinstance(shape, list)
        or not all(type(size) is int and size >= 0 for size in shape)
        or shape[1:] not in ([[width]] if width > 1 else [[], [1]])
        or not shape
    ):
        raise RequestError(f"{where}.shape", "is not usable", received=shape, allowed=shapes)
    if not isinstance(data, list):
        raise RequestError(f"{where}.data", "must be a list", received=data)
    if data and all(isinstance(row, list) for row in data):
        if len(shape) == 1 or any(len(row) != width for row in data):
            raise RequestError(f"{where}.data", "is not nested as its shape", received=data)
        data = [element for row in data for element in row]
    if len(data) != prod(shape):
        raise RequestError(
            f"{where}.data",
            "has another number of elements than its shape",
            received=len(data),
            allowed=f"{prod(shape)}" if shape[0] < 10**9 else "the shape's product",
        )
    return data


def _wanted(outputs: object) -> list[str] | None:
    """Names of outputs. None: all."""
    if outputs is None:
        return None
    names: dict[str, None] = {}
    for place, output in enumerate(_objects(outputs, "outputs")):
        name = output.get("name")
        if not isinstance(name, str) or name in names:
            raise RequestError(
                f"outputs[{place}].name",
                "must be a name that was not given before",
                received=name,
            )
        names[name] = None
    return list(names)


def _objects(value: object, where: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise RequestError(where, "must be a list of objects", received=value)
    return value


def _outputs(predictions: list[dict[str, Any]], wanted: list[str] | None) -> list[dict[str, Any]]:
    names = list(predictions[0])
    for name in wanted or ():
        if name not in names:
            raise RequestError("outputs", "no such output", received=name, allowed=", ".join(names))
    return [
        {
            "name": name,
            "datatype": "BYTES" if name == "ts" else "FP64",
            "shape": [len(predictions)],
            "data": [row[name] for row in predictions],
        }
        for name in wanted or names
    ]


def _json(
    content: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type="application/json")
