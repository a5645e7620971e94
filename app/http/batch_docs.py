"""The OpenAPI description of the routes /v1/klines/batch and /v1/klines/rolling."""

from typing import Any, Final

from app.domain.interval import INTERVALS
from app.http.batch_params import ALL, FORMATS, SYMBOLS_MAX
from app.http.documentation import INTEGER, Responses, json_doc, own_error_doc
from app.http.params import INTEGER_MAX
from app.http.rolling_params import LENGTH_PATTERN
from app.querying.answer import LIMIT_DEFAULT, LIMIT_MAX

_TIME: Final[dict[str, Any]] = {"type": "integer", "format": "int64", "minimum": 0, "maximum": INTEGER_MAX}
_LENGTH: Final[dict[str, Any]] = {"type": "string", "pattern": f"^{LENGTH_PATTERN}$"}
_ROWS: Final[dict[str, Any]] = {"type": "array", "items": {"type": "array", "minItems": 12, "maxItems": 12}}
_ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["code", "msg"],
    "properties": {"code": INTEGER, "msg": {"type": "string"}},
}
_BY_SYMBOL: Final[dict[str, Any]] = {"type": "object", "additionalProperties": {"anyOf": [_ROWS, _ERROR]}}
_REFUSED: Final[dict[str, Any]] = {
    "anyOf": [_BY_SYMBOL, {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}]
}
_COUNTS: Final[dict[str, Any]] = {
    "description": "How many symbols were asked for, how many are whole, how many have an error instead, and how many "
    "of the whole ones have holes that are the exchange's own.",
    "schema": {"type": "string", "example": "symbols=600; whole=599; errors=1; holed=0"},
}


def _parameter(name: str, schema: dict[str, Any], description: str, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": required, "schema": schema, "description": description}


def _limit(most: str) -> dict[str, Any]:
    return _parameter("limit", {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT}, most)


BATCH_DOC: Final[dict[str, Any]] = {
    "parameters": [
        _parameter(
            "symbols",
            {"type": "string", "minLength": 1, "example": "BTCUSDT,ETHUSDT"},
            f"At most {SYMBOLS_MAX} symbols, separated by commas, in either case; `{ALL}`: those that the node is to "
            "hold.",
            required=True,
        ),
        _parameter("interval", {"type": "string", "enum": list(INTERVALS)}, "Case matters.", required=True),
        _parameter("startTime", _TIME, "Only klines that open at or after this time (ms); the oldest are kept."),
        _parameter("endTime", _TIME, "Only klines that open at or before this time (ms)."),
        _limit("How many klines of each symbol at most."),
        _parameter(
            "format",
            {"type": "string", "enum": list(FORMATS), "default": "json"},
            "`arrow`: an Arrow IPC stream; the same by `Accept: application/vnd.apache.arrow.stream`.",
        ),
    ]
}
BATCH_RESPONSES: Final[Responses] = {
    200: {
        "description": "By symbol: exactly the closed klines that /fapi/v1/klines gives, or `{code, msg}` if not all "
        "of them are held. At least one symbol is whole.",
        "headers": {"X-Klinenode-Batch": _COUNTS},
        "content": {
            "application/json": {"schema": _BY_SYMBOL},
            "application/vnd.apache.arrow.stream": {"schema": {"type": "string", "format": "binary"}},
        },
    },
    304: {"description": "The answer that If-None-Match names is still true."},
    400: json_doc("A parameter is wrong, the answer would be too large, or no symbol is listed.", _REFUSED),
    501: json_doc("This node cannot make Arrow; the text says what to install.", _REFUSED),
    503: json_doc("No symbol is whole, or as many batches are under way as may be.", _REFUSED),
}
ROLLING_DOC: Final[dict[str, Any]] = {
    "parameters": [
        _parameter(
            "symbol", {"type": "string", "minLength": 1, "example": "BTCUSDT"}, "In either case.", required=True
        ),
        _parameter("window", _LENGTH | {"example": "90m"}, "The length of a window: 1m to 7d.", required=True),
        _parameter(
            "step",
            _LENGTH | {"example": "1m", "default": "1m"},
            "From one window's begin to the next one's; at most the window. Windows begin at multiples of it since "
            "1970-01-01 UTC.",
        ),
        _parameter("startTime", _TIME, "Only windows that begin at or after this time (ms); the oldest are kept."),
        _parameter("endTime", _TIME, "Only windows that begin at or before this time (ms)."),
        _limit("How many windows at most; without it as many as one answer may have, up to the default."),
    ]
}
ROLLING_RESPONSES: Final[Responses] = {
    200: json_doc("A row for each window that is over, as /fapi/v1/klines has for a kline.", _ROWS),
    304: {"description": "The answer that If-None-Match names is still true."},
    400: own_error_doc("A parameter is missing or wrong, or the windows need too many minutes."),
    503: own_error_doc("Minutes of a window are not held; the text names their spans."),
}
