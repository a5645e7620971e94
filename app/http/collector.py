"""The routes /api/v1/…: the state of the collector, and what it follows."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.security import HTTPBearer
from starlette.responses import Response

from app.binance.unreadable import UNREADABLE
from app.collecting import choosing
from app.collecting.choosing import Unwishable
from app.collecting.collector import Collector
from app.collecting.wish import Item
from app.collecting.wished_feeds import NotYet
from app.domain.choice import TYPES_HELP, VENUES
from app.domain.followed import Market
from app.domain.reason import Reason
from app.http.admin_guard import AdminGuard
from app.http.documentation import INTEGER, OWN_LIMITS, STRING, STRINGS, json_doc, object_of, own_error_doc
from app.http.errors import ApiError, json_response, unavailable
from app.http.forward import forwarded
from app.http.headers import NO_STORE
from app.http.services import WriterLine
from app.ports.collector import CollectorStatus, ExchangeStats

BODY_BYTES_MAX: Final = 65_536  # SYMBOLS_MAX symbols take 15 kB
RETRY_AFTER_S: Final = 5  # a list of instruments is read within seconds
ERRORS_ECHO_MAX: Final = 50  # faults of one answer
SERVICE: Final = "market-data-collector"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BEARER: Final = HTTPBearer(auto_error=False, description="ADMIN_TOKEN, or the token beside the database.")
_ABSENT: Final = own_error_doc("There is no collector here, or it cannot do this at the moment; the text says why.")
_UNKNOWN: Final = own_error_doc("The collector follows no such exchange; the text names those that it follows.")


class _Wish(msgspec.Struct, forbid_unknown_fields=True):
    action: Literal["subscribe", "unsubscribe"]
    symbols: list[str]
    data_types: list[str]
    market: str | None = None


_decoder: Final = msgspec.json.Decoder(_Wish)
_LIST: Final = {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}}
_BODY_DOC: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["action", "symbols", "data_types"],
                    "additionalProperties": False,
                    "properties": {
                        "action": {"type": "string", "enum": ["subscribe", "unsubscribe"]},
                        "symbols": _LIST | {"maxItems": choosing.SYMBOLS_MAX, "example": ["BTC-USDT"]},
                        "data_types": _LIST | {"maxItems": choosing.TYPES_MAX, "description": TYPES_HELP},
                        "market": {
                            "type": ["string", "null"],
                            "enum": [*Market, None],
                            "description": "Without it: the swap, or the spot market where there is no swap; to "
                            "unsubscribe: every market of the symbol.",
                        },
                    },
                }
            }
        },
    }
}
_STATUS_DOC: Final = object_of(
    service=STRING,
    running={"const": True},
    start_time={"type": "string", "format": "date-time"},
    uptime_seconds=INTEGER,
    collector_metrics=object_of(messages_processed=INTEGER, messages_published=INTEGER, errors_count=INTEGER),
    exchanges={"type": "object"},
    outbox={"type": "object"},
    faults=STRINGS,
)
_STATS_DOC: Final = object_of(
    exchange=STRING,
    connected={"type": "boolean"},
    state=STRING,
    messages_count=INTEGER,
    messages_published=INTEGER,
    errors_count=INTEGER,
    types={"type": "object"},
)
_OUTCOME_DOC: Final = object_of(ok={"const": True}, exchange=STRING, added=STRINGS, removed=STRINGS, followed=STRINGS)


def collector_router(
    collector: Callable[[], Collector | None], guard: AdminGuard, line: WriterLine | None = None
) -> APIRouter:
    """The router; `collector` gives that of this process, and `line` asks the process that writes for its own."""
    router = APIRouter(prefix="/api/v1", tags=["collector"], responses={503: _ABSENT, **OWN_LIMITS})

    def here() -> Collector:
        if (found := collector()) is None:
            text = "This process has no collector: set EXCHANGES and NATS_URL, or ask the one of `klinenode collect`."
            raise unavailable(text, Reason.COLLECTOR, RETRY_AFTER_S)
        return found

    async def elsewhere(request: Request, body: bytes = b"") -> Response | None:
        return None if line is None else await forwarded(line, request, body)

    @router.get(
        "/status",
        summary="The collector: uptime, counts, exchanges, what waits for the stream, faults",
        responses={200: json_doc("How the collector is.", _STATUS_DOC)},
    )
    async def status(request: Request) -> Response:
        if (answer := await elsewhere(request)) is not None:
            return answer
        found = here()
        return _json(_status(found, found.control.status()))

    @router.get(
        "/exchanges/{name}/stats",
        summary="One exchange of the collector: state, counts by type, gaps, books, lag, faults",
        responses={200: json_doc("How the exchange is.", _STATS_DOC), 404: _UNKNOWN},
    )
    async def stats(name: str, request: Request) -> Response:
        if (answer := await elsewhere(request)) is not None:
            return answer
        found = here()
        _check(found, name)
        of_exchange = found.control.stats(name)
        followed = list(map(str, found.wished.followed(name)))
        return _json(_stats(name, of_exchange) | {"followed": followed})

    @router.post(
        "/exchanges/{name}/subscribe",
        summary="Follow symbols of an exchange, or follow them no longer; at once, and after a restart too",
        dependencies=[Depends(_BEARER), Depends(guard)],
        openapi_extra=_BODY_DOC,
        responses={
            200: json_doc("Done; `followed` is everything that is followed now.", _OUTCOME_DOC),
            400: own_error_doc("Something is not understood, or not listed; the text names all of it."),
            401: own_error_doc("The admin token is missing or wrong."),
            403: own_error_doc("Without ADMIN_TOKEN only this machine may ask, and through no proxy."),
            404: _UNKNOWN,
            413: own_error_doc("The body is too large."),
        },
    )
    async def subscribe(name: str, request: Request) -> Response:
        body = await _body(request)
        if (answer := await elsewhere(request, body)) is not None:
            return answer
        found = here()
        _check(found, name)
        wish = _wish(body)
        wanted = choosing.Request(wish.symbols, wish.data_types, wish.market)
        change = found.wished.follow if wish.action == "subscribe" else found.wished.leave
        try:
            added, removed, followed = await change(name, wanted)
        except Unwishable as error:
            raise ApiError(400, _sentence(error.faults)) from error
        except NotYet as error:
            raise unavailable(f"{error}.", Reason.COLLECTOR, RETRY_AFTER_S) from error
        lists = {"added": added, "removed": removed, "followed": followed}
        return _json({"ok": True, "exchange": name, **{each: _texts(items) for each, items in lists.items()}})

    return router


def _check(collector: Collector, name: str) -> None:
    if name not in (there := collector.control.exchanges()):
        known = "" if name not in VENUES else " (EXCHANGES does not name it)"
        raise ApiError(404, f"The collector follows no exchange {name[:40]}{known}; it follows {', '.join(there)}.")


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise ApiError(413, f"The body may have {BODY_BYTES_MAX} bytes; name fewer symbols at a time.")
    return bytes(body)


def _wish(body: bytes) -> _Wish:
    try:
        return _decoder.decode(body)
    except UNREADABLE as error:
        form = '{"action": "subscribe" or "unsubscribe", "symbols": […], "data_types": […], "market": …}'
        raise ApiError(400, f"Not understood: {error}. Send {form}; market may be left out.") from error


def _status(collector: Collector, status: CollectorStatus) -> dict[str, object]:
    of_exchanges = {name: _stats(name, each) for name, each in status.exchanges.items()}
    totals = {
        "messages_processed": _total(status, "processed"),
        "messages_published": _total(status, "published"),
        "errors_count": _total(status, "errors"),
    }
    started = _EPOCH + timedelta(milliseconds=status.started_ms)
    return {
        "service": SERVICE,
        "running": True,
        "start_time": started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "uptime_seconds": collector.health.uptime_s(status),
        "collector_metrics": totals,
        "exchanges": of_exchanges,
        "outbox": status.outbox,
        "faults": [text for _, text in collector.health.faults(status)],
    }


def _stats(name: str, stats: ExchangeStats) -> dict[str, object]:
    of_types = stats.types.values()
    return {
        "exchange": name,
        "connected": stats.sockets_active > 0,
        "state": stats.state,
        "sockets_active": stats.sockets_active,
        "messages_count": sum(each.processed for each in of_types),
        "messages_published": sum(each.published for each in of_types),
        "errors_count": sum(each.errors for each in of_types),
        "gaps_open": sum(each.gaps_open for each in of_types),
        "books_followed": stats.books_followed,
        "books_valid": stats.books_valid,
        "levels_compared": stats.levels_compared,
        "levels_equal": stats.levels_equal,
        "lag_p50_ms": stats.lag.p50_ms,
        "lag_p99_ms": stats.lag.p99_ms,
        "types": stats.types,
        "faults": stats.faults,
    }


def _total(status: CollectorStatus, count: str) -> int:
    return sum(getattr(each, count) for stats in status.exchanges.values() for each in stats.types.values())


def _sentence(faults: tuple[str, ...]) -> str:
    more = len(faults) - ERRORS_ECHO_MAX
    shown = "; ".join(faults[:ERRORS_ECHO_MAX])
    return f"{shown}; and {more} more faults." if more > 0 else shown if shown.endswith("?") else f"{shown}."


def _texts(items: Iterable[Item]) -> list[str]:
    return list(map(str, items))


def _json(answer: Any) -> Response:
    return json_response(msgspec.json.encode(answer), 200, NO_STORE)
