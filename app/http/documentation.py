"""Building blocks of the OpenAPI description: the schemas of answers and errors, which tests compare with responses."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI

Responses = dict[int | str, dict[str, Any]]

_BINANCE_ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["code", "msg"],
    "additionalProperties": False,
    "properties": {"code": {"type": "integer"}, "msg": {"type": "string"}},
    "example": {"code": -1121, "msg": "Invalid symbol."},
}
_OWN_ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {"error": {"type": "string", "description": "What is wrong and what to do next."}},
}
INTEGER: Final[dict[str, Any]] = {"type": "integer"}
STRING: Final[dict[str, Any]] = {"type": "string"}
STRINGS: Final[dict[str, Any]] = {"type": "array", "items": STRING}


def json_doc(description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The OpenAPI description of a JSON answer."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def object_of(**properties: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of an object that has at least these properties."""
    return {"type": "object", "required": list(properties), "properties": properties}


def error_doc(description: str) -> dict[str, Any]:
    """The OpenAPI description of an error in Binance's shape, `{"code": …, "msg": …}`."""
    return json_doc(description, _BINANCE_ERROR)


def own_error_doc(description: str) -> dict[str, Any]:
    """The OpenAPI description of an error of the node's own routes, `{"error": …}`."""
    return json_doc(description, _OWN_ERROR)


_TOO_LONG: Final = {414: "The query string is too long.", 431: "The request headers are too large."}
BINANCE_LIMITS: Final[Responses] = {status: error_doc(text) for status, text in _TOO_LONG.items()}
OWN_LIMITS: Final[Responses] = {status: own_error_doc(text) for status, text in _TOO_LONG.items()}
_OF_FASTAPI: Final = ("HTTPValidationError", "ValidationError")


class DescribedApi(FastAPI):
    """FastAPI without the 422 that it describes for parameters: the node answers 400, which the routes describe."""

    def openapi(self) -> dict[str, Any]:
        """The description, which is made once."""
        if self.openapi_schema is None:
            described = super().openapi()
            for methods in described["paths"].values():
                for operation in methods.values():
                    operation["responses"].pop("422", None)
            for name in _OF_FASTAPI:
                described.get("components", {}).get("schemas", {}).pop(name, None)
        return super().openapi()
