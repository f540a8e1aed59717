"""What the OpenAPI document says of requests and answers; `requests.py` checks the same by hand."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Response

from flts_assets.forecasting.limits import LARGEST, MAX_STEPS
from flts_assets.recipe import RAW_COLUMNS
from flts_assets.serving.requests import MAX_BATCH, MAX_BATCH_STEPS
from flts_assets.serving.series import TIME

__all__ = [
    "DOWNLOAD",
    "MODEL_ERRORS",
    "NOT_READY",
    "PREDICT",
    "PREDICT_FILE",
    "RECENT",
    "UPLOAD",
]

Schema = dict[str, Any]

_EXAMPLE_TIMES: Final = [f"2018-03-05T15:{minute:02d}:00" for minute in range(16, 36, 2)]

_TIME: Final[Schema] = {
    "type": "string",
    "pattern": f"^{TIME.pattern}$",
    "description": "ISO 8601, no zone",
}
_NUMBER: Final[Schema] = {"type": "number", "minimum": 0, "maximum": LARGEST}
_COLUMNS: Final[Schema] = {
    "type": "object",
    "description": "Columns of equal length: the times, and all eleven raw columns",
    "additionalProperties": {"type": "array", "items": {"type": ["number", "string"]}},
    "required": ["time", *RAW_COLUMNS],
}
_RECORDS: Final[Schema] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"time": _TIME, **dict.fromkeys(RAW_COLUMNS, _NUMBER)},
        "required": ["time", *RAW_COLUMNS],
    },
}
_ASK: Final[Schema] = {
    "type": "object",
    "properties": {
        "index_col": {"type": "string", "default": "time"},
        "data": {"anyOf": [_COLUMNS, _RECORDS]},
        "inference_length": {
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_STEPS,
            "default": 1,
            "description": "how many steps after the last row",
        },
        "levels": {
            "type": "array",
            "items": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            "description": "prediction intervals; GET /model tells which there are",
        },
        "station": {"type": ["string", "null"], "description": "whose champion; none: the newest"},
        "config_hash": {"type": ["string", "null"]},
    },
    "required": ["data"],
    "additionalProperties": False,
}
_BATCH: Final[Schema] = {
    "type": "object",
    "properties": {
        "batch": {
            "type": "array",
            "items": _ASK,
            "minItems": 1,
            "maxItems": MAX_BATCH,
            "description": f"at most {MAX_BATCH_STEPS} steps, all together",
        }
    },
    "required": ["batch"],
    "additionalProperties": False,
}
_ANSWER: Final[Schema] = {
    "type": "object",
    "properties": {
        "status": {"const": "SUCCESS"},
        "identifier": {"type": "string"},
        "run_id": {"type": "string"},
        "model_type": {"type": "string"},
        "config_hash": {"type": "string"},
        "station": {"type": "string"},
        "predictions": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"ts": _TIME},
                "additionalProperties": {"type": "number"},
            },
        },
        "results": {"type": "array", "items": {"type": "object"}},
    },
    "required": ["status"],
}
_ERROR: Final[Schema] = {
    "type": "object",
    "properties": {
        "status": {"const": "ERROR"},
        "error": {
            "type": "object",
            "properties": {
                "kind": {"type": "string"},
                "message": {"type": "string"},
                "field": {"type": ["string", "null"]},
                "received": {},
                "allowed": {"type": ["string", "null"]},
            },
            "required": ["kind", "message"],
        },
    },
    "required": ["status", "error"],
}


def _response(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _errors(**descriptions: str) -> dict[int | str, Schema]:
    return {name.strip("_"): _response(text, _ERROR) for name, text in descriptions.items()}


PREDICT: Final[Schema] = {
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"anyOf": [_ASK, _BATCH]},
                    "example": {
                        "index_col": "time",
                        "data": {
                            "time": _EXAMPLE_TIMES,
                            **{name: [1.0] * len(_EXAMPLE_TIMES) for name in RAW_COLUMNS},
                        },
                        "inference_length": 3,
                    },
                }
            },
        }
    },
    "responses": {
        200: _response("Forecasts", _ANSWER),
        **_errors(
            _401="No valid token",
            _404="A station or config hash without a champion",
            _413="Too large a body",
            _422="A field at fault: its name, what was received and what is allowed",
            _503="No champion yet, or too many requests; try again after Retry-After seconds",
        ),
    },
}
MODEL_ERRORS: Final = _errors(_404="No such champion", _503="No champion yet")
NOT_READY: Final[dict[int | str, Schema]] = {
    503: _response("There is no champion", {"type": "object", "properties": {"status": {}}})
}


def _parameter(name: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": "query", "schema": schema, "description": description}


RECENT: Final[Schema] = {
    "openapi_extra": {
        "parameters": [
            _parameter(
                "rows",
                {"type": "integer", "minimum": 2, "maximum": MAX_STEPS, "default": 720},
                "how many at most; 720 is a day of two-minute steps",
            )
        ]
    },
    "responses": _errors(
        _401="No valid token",
        _404="No such champion, or no file of its station's rows",
        _422="An impossible count of rows, or a file that cannot be read",
        _503="No champion yet",
    ),
}
_FILE: Final[Schema] = {"type": "string", "format": "binary"}
_FORM: Final[Schema] = {
    "multipart/form-data": {
        "schema": {"type": "object", "properties": {"file": _FILE}, "required": ["file"]}
    }
}
_TABLES: Final[Schema] = {
    "text/csv": {"schema": {"type": "string"}},
    "application/vnd.apache.parquet": {"schema": _FILE},
}
_WHOSE: Final = [
    _parameter("station", {"type": "string"}, "whose champion; none: the newest"),
    _parameter("config_hash", {"type": "string"}, "which recipe's champion"),
]

PREDICT_FILE: Final[Schema] = {
    "openapi_extra": {
        "parameters": [
            _parameter(
                "inference_length",
                {"type": "integer", "minimum": 1, "maximum": MAX_STEPS, "default": 1},
                "how many steps after the last row",
            ),
            _parameter("levels", {"type": "string", "example": "0.5,0.9"}, "prediction intervals"),
            *_WHOSE,
        ],
        "requestBody": {"required": True, "content": {**_TABLES, **_FORM}},
    },
    "response_class": Response,
    "responses": {
        200: {"description": "Forecasts in the format of the request", "content": _TABLES},
        **{status: told for status, told in PREDICT["responses"].items() if status != 200},
    },
}
DOWNLOAD: Final[Schema] = {
    "openapi_extra": {"parameters": _WHOSE},
    "response_class": Response,
    "responses": {
        200: {"description": "The object", "content": {"*/*": {"schema": _FILE}}},
        **_errors(
            _401="No valid token",
            _404="No such object",
            _422="No such bucket, or a key that cannot be",
            _503="No champion yet",
        ),
    },
}
UPLOAD: Final[Schema] = {
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": _FILE}, **_FORM},
        }
    },
    "responses": _errors(
        _401="No valid token",
        _403="No uploads without a token, nor to this bucket",
        _404="A path that cannot be a key",
        _409="A log object of this name stands already",
        _413="Too large a body",
        _422="No such bucket, or a key that cannot be",
        _503="Too many requests, or the store refused",
    ),
}
