"""Reads the held klines of a span, however many they are, page by page through the query service."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from app.domain.columns import EMPTY, Columns
from app.ports.clock import Clock
from app.querying.answer import LIMIT_MAX, Answer, KlineQuery

Held = Callable[[KlineQuery], Awaitable[Answer]]
"""Answers a klines query from held rows alone. Raises BinanceError."""

_decode: Final = msgspec.json.Decoder(list[list[Any]]).decode


async def held_rows(held: Held, clock: Clock, query: KlineQuery) -> Columns:
    """All closed klines that open from `query.start_ms` to `query.end_ms`, both given; its limit does not count.

    With `query.allow_partial` klines that are not held are left out; without it the answer is whole. Others are served
    between the pages. Raises BinanceError.
    """
    assert query.start_ms is not None, "klines are read from a begin"
    parts: list[Columns] = []
    at_ms: int = query.start_ms
    while True:
        answer = await held(query._replace(start_ms=at_ms, limit=LIMIT_MAX, only_final=True))
        part = _columns(answer.body)
        parts.append(part)
        if len(part) < LIMIT_MAX:
            return Columns.joined([part for part in parts if part])
        at_ms = part.opens_ms[-1] + 1
        await clock.sleep(0)  # a page in memory comes without any wait


def _columns(body: bytes) -> Columns:
    """The klines of an answer's body."""
    rows = _decode(body)
    if not rows:
        return EMPTY
    opens, o, h, low, c, volume, _, quote, trades, taker, taker_quote, _ = map(list, zip(*rows, strict=True))
    return Columns([opens, o, h, low, c, volume, quote, trades, taker, taker_quote])
