from hypothesis import given
from hypothesis import strategies as st

from app.domain.ledger import Entry, Ledger, Source
from app.domain.span import Span, Spans

RANK = [Source.ABSENT, Source.ROLLUP, Source.WS, Source.ARCHIVE, Source.REST]
WRITES = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 8), st.sampled_from(RANK)), max_size=12)


@given(WRITES)
def test_the_ledger_agrees_with_a_model_that_remembers_every_time(writes: list[tuple[int, int, Source]]) -> None:
    ledger = Ledger()
    model: dict[int, Source] = {}
    for start, length, source in writes:
        span = Span(start, start + length)
        granted = ledger.writable(span, source)
        mine = {time for time in range(*span) if time not in model or RANK.index(model[time]) <= RANK.index(source)}
        assert {time for piece in granted for time in range(*piece)} == mine
        ledger = ledger.record(granted, source)
        model.update(dict.fromkeys(mine, source))
    assert {time: entry.source for entry in ledger.entries for time in range(*entry.span)} == model
    assert {time for span in ledger.known for time in range(*span)} == set(model)
    assert ledger.held | ledger.absent == ledger.known
    assert not ledger.held & ledger.absent
    pairs = zip(ledger.entries, ledger.entries[1:], strict=False)
    assert all(left.span.end_ms < right.span.start_ms or left.source is not right.source for left, right in pairs)


def test_the_exchanges_own_candle_has_the_last_word() -> None:
    ledger = Ledger([Entry(Span(0, 10), Source.REST)])
    assert not ledger.writable(Span(0, 10), Source.ROLLUP)
    assert ledger.writable(Span(5, 15), Source.WS) == Spans([(10, 15)])
    assert ledger.writable(Span(0, 10), Source.REST) == Spans([(0, 10)])
