"""The entries of the log add up to the ledgers that they were made of, and cost few bytes."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.interval import INTERVALS, MINUTE_MS
from app.domain.ledger import Ledger, Source
from app.domain.span import Spans
from infra.stores.ledger_lines import SeriesName
from infra.stores.ledger_log import LogBody, body_of_whole, ledgers_of
from tests.sqlite.material import T0_MS

NAMES = [SeriesName(name, code) for name in ("BTCUSDT", "币安人生USDT@markPrice") for code in ("1m", "1M")]
Change = tuple[SeriesName, Source | None, list[tuple[int, int]]]
a_span = st.tuples(st.integers(0, 30), st.integers(1, 9)).map(lambda pair: (pair[0], sum(pair)))
a_change = st.tuples(st.sampled_from(NAMES), st.sampled_from([None, *Source]), st.lists(a_span, min_size=1, max_size=3))


@settings(max_examples=100, derandomize=True, database=None)
@given(st.lists(st.lists(a_change, max_size=3), max_size=8), st.integers(0, 8))
def test_entries_add_up_to_the_ledgers(
    transactions: list[list[tuple[SeriesName, Source | None, list[tuple[int, int]]]]], whole_at: int
) -> None:
    ledgers: dict[SeriesName, Ledger] = {}
    bodies: list[bytes] = []
    for number, changes in enumerate(transactions):
        before = dict(ledgers)
        for name, source, spans in changes:
            ledger, changed = ledgers.get(name, Ledger()), Spans(spans)
            ledgers[name] = ledger.without(changed) if source is None else ledger.record(changed, source)
        body = LogBody()
        for name, ledger in ledgers.items():
            body.note(name, before.get(name, Ledger()), ledger)
        bodies = [body_of_whole(ledgers)] if number == whole_at else [*bodies, body.packed()]
    expected = {name: ledger.entries for name, ledger in ledgers.items() if ledger.entries}
    assert {name: ledger.entries for name, ledger in ledgers_of(bodies, None).items()} == expected
    found = ledgers_of(bodies, NAMES[1:2])
    assert {name: ledger.entries for name, ledger in found.items()} == {
        name: entries for name, entries in expected.items() if name == NAMES[1]
    }


def test_a_day_of_600_symbols_costs_a_few_megabytes() -> None:
    """Ten batches for the klines that close in a minute, in an order of chance, as closing frames come."""
    chance = random.Random(1)
    symbols = [f"{''.join(chance.choices('ABCDEFGHIKLMNOPRSTUVXYZ', k=chance.randint(3, 7)))}USDT" for _ in range(600)]
    codes = ("1m", "3m", "5m", "15m", "1h", "4h", "1d")
    start_ms, minutes, found = T0_MS, 12, 0
    for minute in range(1, minutes + 1):
        close_ms = start_ms + minute * MINUTE_MS
        closing = [code for code in codes if INTERVALS[code].grid.floor(close_ms) == close_ms]
        order = chance.sample(symbols, len(symbols))
        for part in range(10):
            body = LogBody()
            for name in order[part::10]:
                for code in closing:
                    until_ms = INTERVALS[code].grid.shift(close_ms, -1)
                    before, after = (Ledger().record(Spans([(0, end)]), Source.WS) for end in (until_ms, close_ms))
                    body.note(SeriesName(name, code), before, after)
            found += len(body.packed())
    a_day = found * 1_440 // minutes
    assert a_day < 6_000_000, a_day
