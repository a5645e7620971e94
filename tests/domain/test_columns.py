import pickle
from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from app.domain.columns import EMPTY, Columns
from app.domain.interval import INTERVALS, M1, MINUTE_MS, MO1
from app.domain.kline import Kline
from app.domain.span import Span, Spans

START_MS = 1_795_219_200_000


def klines(opens_ms: Sequence[int]) -> list[Kline]:
    return [Kline(each, f"{each}.1", "2", "1", "1.5", "7", "9.25", each % 97, "3", "4.5") for each in opens_ms]


minutes = st.sets(st.integers(0, 60)).map(lambda numbers: [START_MS + each * MINUTE_MS for each in sorted(numbers)])
spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=4).map(
    lambda pairs: Spans((START_MS + a * MINUTE_MS, START_MS + b * MINUTE_MS) for a, b in pairs)
)


@given(opens_ms=minutes, some=spans, first=st.integers(-3, 64), last=st.integers(-3, 64))
def test_columns_are_the_list_of_klines_that_they_stand_for(
    opens_ms: list[int], some: Spans, first: int, last: int
) -> None:
    rows = klines(opens_ms)
    columns = Columns.of(rows)
    assert columns == rows
    assert (list(columns), len(columns), bool(columns)) == (rows, len(rows), bool(rows))
    assert all(columns[number] == row and isinstance(columns[number], Kline) for number, row in enumerate(rows))
    assert columns[first:last] == rows[first:last]
    assert columns.within(some) == [row for row in rows if some.span_at(row.open_ms)]
    start_ms, end_ms = START_MS + first * MINUTE_MS, START_MS + last * MINUTE_MS
    assert columns.between(start_ms, end_ms) == [row for row in rows if start_ms <= row.open_ms < end_ms]
    assert columns.closed_by(end_ms, M1.grid) == [row for row in rows if row.open_ms + MINUTE_MS <= end_ms]
    assert columns.spans(M1.grid) == Spans(Span(row.open_ms, row.open_ms + MINUTE_MS) for row in rows)
    assert columns.values("X") == [value for row in rows for value in ("X", *row)]
    assert pickle.loads(pickle.dumps(columns)) == rows


class Known(NamedTuple):
    """A row of a number and texts that may be unknown."""

    open_ms: int
    number: str | None
    other: str | None


@given(values=st.lists(st.tuples(st.none() | st.just("1.5"), st.none() | st.just("0.00")), min_size=1, max_size=4))
def test_unknown_values_stay_unknown_in_another_process(values: list[tuple[str | None, str | None]]) -> None:
    rows = [Known(START_MS + number * MINUTE_MS, *texts) for number, texts in enumerate(values)]
    unpickled = pickle.loads(pickle.dumps(Columns.of(rows)))
    assert unpickled == rows
    assert type(unpickled[0]) is Known


def test_what_is_not_the_same_is_not_equal() -> None:
    rows = klines([START_MS, START_MS + MINUTE_MS])
    columns = Columns.of(rows)
    assert columns != rows[:1]
    assert columns != [rows[0], rows[1]._replace(close="1.6")]
    assert columns != Columns.of([rows[0]._replace(taker_buy_quote_volume="0"), rows[1]])
    assert EMPTY == []
    assert columns != "ab"


def test_months_and_holes_have_spans_of_their_own() -> None:
    months = [1_767_225_600_000, 1_769_904_000_000, 1_775_001_600_000]  # January, February and April 2026
    assert Columns.of(klines(months)).spans(MO1.grid) == Spans(
        [(1_767_225_600_000, 1_772_323_200_000), (1_775_001_600_000, 1_777_593_600_000)]
    )
    fives = Columns.of(klines([START_MS, START_MS + 10 * MINUTE_MS]))
    assert [tuple(span) for span in fives.spans(INTERVALS["5m"].grid)] == [
        (START_MS, START_MS + 5 * MINUTE_MS),
        (START_MS + 10 * MINUTE_MS, START_MS + 15 * MINUTE_MS),
    ]
