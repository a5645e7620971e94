"""Questions for bars: what cannot be answered as asked is refused, and says what to ask instead."""

from app.domain.interval import DAY_MS, INTERVALS
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.kinds.klines import KLINES
from tests.http.fakes import NOW_MS, Node


async def test_more_weeks_than_bars_are_refused_because_they_are_not_thinned(node: Node) -> None:
    async with node.client() as client:
        for code in ("1w", "1M"):
            series, grid = Series(KLINES, "BTCUSDT", INTERVALS[code]), INTERVALS[code].grid
            held = Spans([Span(grid.floor(NOW_MS - 400 * DAY_MS), grid.floor(NOW_MS))])
            node.ledgers.set_ledger(series, node.ledgers.ledger(series).record(held, Source.REST))
            number = grid.count(*held.hull)
            path = f"/v1/bars?symbol=BTCUSDT&interval={code}&startTime=0&bars="
            refused = await client.get(f"{path}{number - 1}")
            assert (refused.status_code, f"has {number} klines of {code}" in refused.text) == (400, True)
            assert (await client.get(f"{path}{number}")).status_code == 200
            assert (await client.get(f"/v1/bars?symbol=BTCUSDT&interval={code}&bars=2")).status_code == 200


async def test_klines_of_trades_have_two_words_in_questions_and_one_in_answers(node: Node) -> None:
    async with node.client() as client:
        for path in ("/v1/bars?symbol=BTCUSDT&interval=1m", "/v1/coverage/days?interval=1m"):
            for asked in ("", "&kind=trades", "&kind=klines"):
                answer = await client.get(f"{path}{asked}")
                assert (answer.status_code, answer.json().get("kind")) == (200, "trades"), path + asked
            refused = await client.get(f"{path}&kind=candles")
            assert (refused.status_code, "klines, trades, mark" in refused.text) == (400, True)


async def test_the_name_of_a_series_is_answered_by_the_kind_to_ask_for(node: Node) -> None:
    async with node.client() as client:
        for name, named in {
            "btcusdt@markPrice": "symbol=btcusdt&kind=mark.", "BTCUSDT@indexPrice": "kind=index.",
            "BTCUSDT@fundingRate": "by kind", "BTCUSDT@": "by kind",
        }.items():  # fmt: skip
            refused = await client.get(f"/v1/bars?symbol={name}&interval=1m")
            assert (refused.status_code, named in refused.json()["error"]) == (400, True), refused.text
