"""Klines read through of series that are not wished: fetched once, and again when the exchange may have others."""

from pathlib import Path

from app.domain.interval import M1, MINUTE_MS
from app.domain.kline import Kline
from app.domain.series import Series
from app.domain.span import Span
from app.kinds.klines import KLINES
from app.kinds.price_klines import PREMIUM
from app.ports.errors import UpstreamError
from app.querying.read_memory import AGE_MS_MAX, RUN_OVERHEAD_BYTES, RUNS_MAX, ReadMemory
from tests.fakes import NOW_MS, Exchange, ManualClock, listing, unavailable
from tests.querying.query_desk import CLOSED_MS, Desk, desk, refused

NOBODYS = Series(KLINES, "ETHUSDT", M1)
BEGIN_MS = NOW_MS - NOW_MS % MINUTE_MS - 100 * MINUTE_MS


def requests(at: Desk, *, newest: bool = False) -> int:
    """How often the exchange was asked for a span, or with `newest` for the newest klines."""
    return sum((each.window is None) is newest for each in at.rig.exchange.asked)


async def test_the_same_klines_are_asked_for_once_until_the_next_close(tmp_path: Path) -> None:
    async with desk(tmp_path, is_writer=False) as at:
        first = await at.answer(NOBODYS, limit=50)
        assert requests(at) == 1
        for limit in (50, 20, 1):
            assert (await at.answer(NOBODYS, limit=limit)).series == NOBODYS
        assert first.valid_until_ms == CLOSED_MS + MINUTE_MS, "with the next close it is another"
        assert requests(at) == 1, "also of other lengths"
        at.rig.clock.ms = CLOSED_MS + MINUTE_MS + 3_000
        later = await at.answer(NOBODYS, limit=50)
        assert (requests(at), later.body == first.body) == (2, False)


async def test_the_kline_in_progress_is_asked_for_again_but_not_those_before_it(tmp_path: Path) -> None:
    async with desk(tmp_path, is_writer=False) as at:
        await at.answer(NOBODYS, limit=50, only_final=False)
        assert (requests(at), requests(at, newest=True)) == (1, 1)
        at.rig.clock.ms += 11_000
        await at.answer(NOBODYS, limit=50, only_final=False)
        assert (requests(at), requests(at, newest=True)) == (1, 2)


async def test_answers_go_on_while_the_exchange_is_away(tmp_path: Path) -> None:
    async with desk(tmp_path, is_writer=False) as at:
        whole = await at.answer(NOBODYS, limit=50)
        at.rig.exchange.error = unavailable()
        assert (await at.answer(NOBODYS, limit=50)).body == whole.body
        at.upstream.memory.forget(NOBODYS)
        assert isinstance(at.rig.exchange.error, UpstreamError)
        assert (await refused(at, series=NOBODYS, limit=50)).status == 503


async def test_an_answer_that_lacks_klines_is_not_remembered(tmp_path: Path) -> None:
    async with desk(tmp_path, is_writer=False) as at:
        hole = (NOBODYS, CLOSED_MS - 10 * MINUTE_MS)
        at.rig.exchange.lacking.add(hole)
        assert (await refused(at, series=NOBODYS, limit=50)).status == 503
        at.rig.exchange.lacking.discard(hole)
        assert (await at.answer(NOBODYS, limit=50)).body.count(b"],[") == 49


async def test_a_short_history_costs_no_more_when_it_is_asked_for_again(tmp_path: Path) -> None:
    async with desk(tmp_path, is_writer=False, first_ms=CLOSED_MS - 7 * MINUTE_MS) as at:
        at.rig.exchange.symbols = [listing("ETHUSDT", CLOSED_MS - 7 * MINUTE_MS)]
        await at.rig.symbols.refresh()
        first = await at.answer(NOBODYS, limit=50)
        asked = len(at.rig.exchange.asked)
        assert (await at.answer(NOBODYS, limit=50)).body == first.body
        assert (first.body.count(b"],["), len(at.rig.exchange.asked)) == (6, asked)


def learned(memory: ReadMemory, exchange: Exchange, series: Series, at: int, rows: int = 10) -> Span:
    span = Span(BEGIN_MS + at * MINUTE_MS, BEGIN_MS + (at + rows) * MINUTE_MS)
    klines = [exchange.kline(series, each) for each in exchange.opens(series, span)]
    memory.learn(series, M1.grid, span, rows, klines)
    return span


async def test_nothing_is_believed_for_ever_nor_by_a_clock_that_was_put_back() -> None:
    clock = ManualClock(NOW_MS)
    memory, exchange = ReadMemory(clock), Exchange(clock)
    span = learned(memory, exchange, NOBODYS, 0)
    memory.learn_begin(NOBODYS, span.start_ms)
    for elapsed_ms, is_known in ((0, True), (AGE_MS_MAX - 1, True), (AGE_MS_MAX, False), (-1, False)):
        clock.ms = NOW_MS + elapsed_ms
        assert (memory.klines(NOBODYS, M1.grid, span, 10) is not None) is is_known, elapsed_ms
        assert (memory.begin_ms(NOBODYS) is not None) is is_known, elapsed_ms


async def test_klines_that_may_still_change_are_left_out() -> None:
    clock = ManualClock(NOW_MS)
    memory, exchange = ReadMemory(clock), Exchange(clock)
    span = Span(CLOSED_MS - MINUTE_MS, CLOSED_MS + MINUTE_MS)
    memory.learn(NOBODYS, M1.grid, span, 2, [exchange.kline(NOBODYS, each) for each in exchange.opens(NOBODYS, span)])
    assert memory.klines(NOBODYS, M1.grid, span, 2) is None
    assert len(memory.klines(NOBODYS, M1.grid, span, 1) or ()) == 1


async def test_it_is_bounded_by_bytes_and_by_runs_of_a_series() -> None:
    clock = ManualClock(NOW_MS)
    exchange = Exchange(clock)
    memory = ReadMemory(clock)
    spans = [learned(memory, exchange, NOBODYS, 2 * at, 1) for at in range(RUNS_MAX + 1)]
    found = [memory.klines(NOBODYS, M1.grid, span, 1) is not None for span in spans]
    assert found == [False] + [True] * RUNS_MAX, "the oldest run went"
    one = memory.bytes // RUNS_MAX
    small = ReadMemory(clock, bytes_max=3 * (one + RUN_OVERHEAD_BYTES))
    for number in range(20):
        learned(small, exchange, Series(KLINES, f"S{number}USDT", M1), 0, 1)
        assert 0 < small.bytes <= 3 * (one + RUN_OVERHEAD_BYTES)
    assert small.klines(Series(KLINES, "S0USDT", M1), M1.grid, spans[0], 1) is None
    small.clear()
    assert small.bytes == 0


def test_klines_of_the_premium_are_remembered_below_zero_too() -> None:
    memory, series = ReadMemory(ManualClock()), Series(PREMIUM, "BTCUSDT", M1)
    span = Span(BEGIN_MS, BEGIN_MS + MINUTE_MS)
    kline = Kline(BEGIN_MS, "0.00037467", "0.00037467", "-0.00012383", "-0.00012383", "0", "0", 60, "0", "0")
    memory.learn(series, M1.grid, span, 1, [kline])
    assert memory.klines(series, M1.grid, span, 1) == [kline]
