"""Market data questions that other processes send to the writer, so that the exchange is asked once for all of them."""

from typing import Final

from starlette.types import Scope

from app.binance.error_body import service_unavailable
from app.domain.reason import Reason
from app.http.archive_header import ARCHIVE_ROWS
from app.http.forward import FORWARDED
from app.http.headers import REASON, Header
from app.http.services import WriterLine
from app.market.endpoints import Question
from app.market.market_source import Fetched
from app.ports.coordination import RpcRequest, WriterUnreachable

HOLDS: Final = "x-klinenode-holds-ms"
"""The writer's response header with an answer's `fresh_ms` and `thrifty_ms` (market_source.Fetched), as two numbers."""
_NEW: Final = ("cache-control", "no-cache")
LINE_RETRY_AFTER_S: Final = 1  # another process takes over from a dead writer within a second or two


async def ask_writer(line: WriterLine, question: Question, *, is_new: bool = False) -> Fetched:
    """The writer's answer to a question; `is_new` asks it not to use a cached one. Raises BinanceError (503)."""
    try:
        told = await line.ask(
            RpcRequest("GET", question.path, question.query_string, "", [_NEW] if is_new else [], b"")
        )
    except WriterUnreachable as error:
        raise service_unavailable(LINE_RETRY_AFTER_S, Reason.WRITER) from error
    headers = dict(told.headers)
    if HOLDS not in headers:
        told_reason = headers.get(REASON.decode(), Reason.WRITER)
        raise service_unavailable(int(headers.get("retry-after", LINE_RETRY_AFTER_S)), Reason(told_reason))
    fresh_ms, thrifty_ms = map(int, headers[HOLDS].split())
    return Fetched(told.status, told.body, fresh_ms, thrifty_ms, headers.get(ARCHIVE_ROWS, ""))


def is_relayed(scope: Scope) -> bool:
    """Whether another process sent the request; it is then answered here and never forwarded again."""
    return FORWARDED in scope


def wants_new(scope: Scope) -> bool:
    """Whether the process that sent the request needs an answer newer than the cached one."""
    return is_relayed(scope) and (_NEW[0].encode(), _NEW[1].encode()) in scope["headers"]


def holds_header(fresh_ms: int, thrifty_ms: int) -> Header:
    """The header HOLDS with the two times for which an answer is valid, in ms."""
    return HOLDS.encode(), b"%d %d" % (fresh_ms, thrifty_ms)
