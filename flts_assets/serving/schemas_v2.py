"""What the OpenAPI document says of the Open Inference Protocol."""

from __future__ import annotations

from typing import Any, Final

from flts_assets.recipe import RAW_COLUMNS

__all__ = ["INFER", "PROTOCOL_ERRORS"]

Schema = dict[str, Any]

_PROTOCOL_ERROR: Final[Schema] = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
}
_PARAMETERS: Final[Schema] = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number", "boolean"]},
}
_TENSOR: Final[Schema] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "enum": ["time", "rows", *RAW_COLUMNS]},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"type": "string", "enum": ["FP64", "FP32", "BYTES"]},
        "parameters": _PARAMETERS,
        "data": {"type": "array", "items": {"type": ["number", "string", "array"]}},
    },
    "required": ["name", "shape", "datatype", "data"],
}
INFER: Final[Schema] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "id": {"type": "string"},
                        "parameters": {
                            **_PARAMETERS,
                            "description": "inference_length: steps; levels: such as `0.5,0.9`",
                        },
                        "inputs": {"type": "array", "items": _TENSOR, "minItems": 2},
                        "outputs": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "properties": {"name": {"type": "string"}},
                                "required": ["name"],
                            },
                        },
                    },
                    "required": ["inputs"],
                }
            }
        },
    }
}
PROTOCOL_ERRORS: Final[dict[int | str, Schema]] = {
    status: {
        "description": text,
        "content": {"application/json": {"schema": _PROTOCOL_ERROR}},
    }
    for status, text in {
        "400": "The request at fault, in words",
        "401": "No valid token",
        "404": "No such model",
        "413": "Too large a body",
        "503": "No champion yet, or too many requests",
    }.items()
}
