"""Questions about the market that a process asks the one who writes, so that the exchange is asked once for all."""

from typing import Final

from starlette.types import Scope

from app.binance.error_body import service_unavailable
from app.domain.reason import Reason
from app.http.forward import FORWARDED
from app.http.headers import REASON, Header
from app.http.services import WriterLine
from app.market.endpoints import Question
from app.market.market_source import Fetched
from app.ports.coordination import RpcRequest, WriterUnreachable

HOLDS: Final = "x-klinenode-holds-ms"
"""By this header the writer tells for how long an answer is true, and how long it is good enough: two numbers."""
_NEW: Final = ("cache-control", "no-cache")
LINE_RETRY_AFTER_S: Final = 1  # a writer that died has a successor within a second or two


async def ask_writer(line: WriterLine, question: Question, *, is_new: bool = False) -> Fetched:
    """The answer of the process that writes; `is_new`: none that it keeps. Raises BinanceError."""
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
    return Fetched(told.status, told.body, fresh_ms, thrifty_ms)


def is_relayed(scope: Scope) -> bool:
    """Whether a request came over the line: then it is answered here, whoever writes."""
    return FORWARDED in scope


def wants_new(scope: Scope) -> bool:
    """Whether who asks over the line has no use for an answer that is kept here."""
    return is_relayed(scope) and (_NEW[0].encode(), _NEW[1].encode()) in scope["headers"]


def holds_header(fresh_ms: int, thrifty_ms: int) -> Header:
    """What the writer tells whoever asks over the line."""
    return HOLDS.encode(), b"%d %d" % (fresh_ms, thrifty_ms)
