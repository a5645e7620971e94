"""What is not held is refused with Retry-After only where the node will hold some of it."""

from pathlib import Path

import pytest

from app.binance.error_body import BinanceError
from app.domain.interval import DAY_MS, M1, MINUTE_MS
from app.domain.reason import Reason
from app.domain.span import Span
from app.holding.wish import Wish
from app.querying.answer import KlineQuery
from app.querying.refusal import RETRY_AFTER_S
from app.querying.rolling_query import RollingKlines, RollingQuery
from tests.fakes import BTC, NOW_MS
from tests.querying.query_desk import CLOSED_MS, Desk, TrustedClock, desk

WISHED = Wish((BTC.symbol,), (M1,), 1, {}, {})
DOUBTED = Wish((), (M1,), 1, {}, {}, doubted=(BTC.symbol,))
OTHERS = Wish(("ETHUSDT",), (M1,), 1, {}, {})
EXTRA = Wish((), (M1,), 1, {}, {BTC: Span(NOW_MS - 9 * DAY_MS, NOW_MS - 8 * DAY_MS)})


async def refusals(at: Desk, start_ms: int | None) -> list[BinanceError]:
    """How two minutes, and a window of two, are refused from held klines alone."""
    rolling = RollingKlines(TrustedClock(at), at.rig.holdings, at.rig.tail, at.query.answer, lambda: at.wish)
    end_ms = None if start_ms is None else start_ms + MINUTE_MS
    with pytest.raises(BinanceError) as of_klines:
        await at.query.answer(KlineQuery(BTC, start_ms, end_ms, 2, only_final=True))
    with pytest.raises(BinanceError) as of_windows:
        await rolling.answer(RollingQuery(BTC.symbol, 2 * MINUTE_MS, MINUTE_MS, start_ms, start_ms, 1))
    return [of_klines.value, of_windows.value]


@pytest.mark.parametrize(
    ("wish", "days_ago", "is_coming"),
    [
        (OTHERS, 0, False),
        (OTHERS, 9, False),
        (WISHED, 0, True),
        (WISHED, 9, False),
        (DOUBTED, 9, True),
        (EXTRA, 0, False),
        (EXTRA, 9, True),
    ],
)
async def test_waiting_is_advised_where_what_is_lacking_is_wished(
    tmp_path: Path, wish: Wish, days_ago: int, is_coming: bool
) -> None:
    async with desk(tmp_path, read_through=False) as at:
        at.wish = wish
        start_ms = M1.grid.ceil(NOW_MS - days_ago * DAY_MS + MINUTE_MS) if days_ago else None
        # klines of a wished series may lack only the one in progress, which comes
        helps = (is_coming or wish.has(BTC), is_coming)
        for refusal, is_helped in zip(await refusals(at, start_ms), helps, strict=True):
            assert (refusal.status, refusal.reason) == (503, Reason.NOT_HELD)
            assert refusal.retry_after_s == (RETRY_AFTER_S if is_helped else None), refusal.msg
            assert ("waiting does not help" in refusal.msg) is not is_helped


async def test_a_minute_that_has_just_closed_is_worth_waiting_for(tmp_path: Path) -> None:
    async with desk(tmp_path, read_through=False) as at:
        at.wish = WISHED
        await at.hold(BTC, Span(CLOSED_MS - 60 * MINUTE_MS, CLOSED_MS - MINUTE_MS))
        for refusal in await refusals(at, None):
            assert refusal.retry_after_s == RETRY_AFTER_S
