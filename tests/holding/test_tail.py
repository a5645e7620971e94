"""The tail against a plain dict: in whatever order klines arrive, its rows are the right ones without a hole."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.domain.interval import HOUR_MS, INTERVALS, M1, MINUTE_MS, Interval
from app.domain.kind import Row
from app.domain.kline import Kline
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.holding.encoded_rows import FRAME_ROWS, EncodedRows
from app.holding.tail import LEVELS, PLAIN_TENTHS, PLAIN_TENTHS_MAX, ROW_BYTES, ROWS_MAX, Live, SeriesTail, Tail, shares
from app.kinds.klines import KLINES
from app.querying.answer import LIMIT_DEFAULT
from app.settings import Settings
from tests.fakes import BTC, DAY0_MS, always, encoded, minute

MONTHS = Series(KLINES, "BTCUSDT", INTERVALS["1M"])
HOURLY = INTERVALS["1h"]


def marked(open_ms: int, mark: int) -> Kline:
    return minute("BTCUSDT", open_ms)._replace(trades=mark)


def printed(series: Series, klines: Sequence[Kline]) -> EncodedRows:
    return EncodedRows.of_body(encoded(series, klines))


@dataclass
class Model:
    """The newest version of every kline that was added, and the run of rows that the tail must show."""

    series: Series
    truth: dict[int, Kline]

    def check(self, tail: Tail) -> None:
        made = tail.get(self.series)
        assert made is not None
        grid = self.series.interval.grid
        opens = list(grid.opens(made.start_ms, made.end_ms)) if made.rows else []
        assert len(made.rows) == len(opens)
        assert len(made.rows) <= tail.rows_max(self.series.interval) + 64
        for position, open_ms in enumerate(opens):
            assert made.index(open_ms) == position
            assert made.rows[position] == KLINES.encode(self.truth[open_ms], grid.shift(open_ms, 1) - 1)
        if made.live is not None and made.rows:
            assert made.live.kline.open_ms >= made.end_ms, "a live kline that has closed"


@hypothesis_settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32),
    series=st.sampled_from([BTC, MONTHS]),
    bytes_max=st.sampled_from([ROW_BYTES * 10, ROW_BYTES * 100, 10**9]),
)
def test_any_order_of_appends_amendments_seeds_and_live_klines_leaves_an_unbroken_run_of_the_newest_rows(
    seed: int, series: Series, bytes_max: int
) -> None:
    rng = random.Random(seed)
    tail, grid = Tail(bytes_max, always), series.interval.grid
    opens = list(grid.opens(DAY0_MS - 4_000 * MINUTE_MS, DAY0_MS))
    if series is MONTHS:
        opens = list(grid.opens(0, DAY0_MS))
    model, at = Model(series, {}), 100
    closed: dict[int, Kline] = {}
    for mark in range(120):
        what = rng.choice(["append", "append", "close", "close", "commit", "amend", "seed", "live", "lose", "pack"])
        if what == "append":
            at = max(0, min(len(opens) - 1, at + rng.choice([1, 1, 1, 1, 2, -3, 0])))
            kline = marked(opens[at], mark)
            model.truth[kline.open_ms] = kline
            tail.append(series, grid, kline)
        elif what == "close":
            at = max(0, min(len(opens) - 1, at + rng.choice([1, 1, 1, 2, 0])))
            kline = closed[opens[at]] = marked(opens[at], mark)
            model.truth[kline.open_ms] = kline
            tail.close(series, grid, kline)
        elif what == "commit" and closed:
            granted = [kline for open_ms, kline in sorted(closed.items()) if model.truth[open_ms] == kline]
            if granted and rng.random() < 0.2:
                granted[-1] = marked(granted[-1].open_ms, mark)  # stored otherwise than it was served
            model.truth.update({kline.open_ms: kline for kline in granted})
            closed.clear()
            if granted:
                tail.amend(series, grid, granted)
        elif what == "lose":
            tail.lose(series)
        elif what == "pack" and (known := tail.get(series)) is not None:
            known.rows.pack()
        elif what == "amend":
            chosen = sorted(rng.sample(range(max(0, at - 30), min(len(opens), at + 3)), 4))
            klines = [marked(opens[each], mark) for each in chosen]
            known = tail.get(series)
            if known is None or not known.rows:
                continue
            model.truth.update({kline.open_ms: kline for kline in klines})
            tail.amend(series, grid, klines)
            end_ms = known.end_ms
            at = max(at, next(each for each, open_ms in enumerate([*opens, end_ms]) if open_ms >= end_ms) - 1)
        elif what == "seed":
            end = min(len(opens) - 1, at + rng.choice([1, 0, -5, 3]))
            start = max(0, end - rng.randrange(1, 60))
            klines = [model.truth.setdefault(open_ms, marked(open_ms, mark)) for open_ms in opens[start:end]]
            tail.seed(series, grid, printed(series, klines), opens[end], tail.version(series))
            if klines:
                at = max(at, end - 1)
        elif what == "live":
            tail.set_live(
                series,
                grid,
                Live(marked(opens[min(len(opens) - 1, at + rng.choice([0, 1]))], mark), 0, from_socket=True),
            )
        if tail.get(series) is not None:
            model.check(tail)


@pytest.mark.parametrize("what", ["amend", "void", "lose", "clear"])
def test_rows_that_were_read_before_a_change_are_not_taken_in_after_it(what: str) -> None:
    tail, hours = Tail(ROW_BYTES * 1000, always), Series(KLINES, "BTCUSDT", HOURLY)
    read = [marked(DAY0_MS - back * HOUR_MS, 1) for back in (3, 2, 1)]
    tail.append(hours, HOURLY.grid, read[-1])
    version = tail.version(hours)
    if what == "amend":
        tail.amend(hours, HOURLY.grid, [marked(read[0].open_ms, 2)])
    elif what == "void":
        tail.void(Series(KLINES, "BTCUSDT", M1), Spans([Span(read[0].open_ms, read[0].open_ms + MINUTE_MS)]))
    elif what == "lose":
        tail.lose(hours)
    else:
        tail.clear()
    tail.seed(hours, HOURLY.grid, printed(hours, read), DAY0_MS, version)
    assert tail.rows <= 1
    tail.seed(hours, HOURLY.grid, printed(hours, read), DAY0_MS, tail.version(hours))
    assert tail.rows == 3


class Entries:
    """Counts the klines that a tail prints, and those that it reports as servable."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.printed: list[Row] = []
        self.arrived: list[Row] = []
        self.tail = Tail(10**9, always, lambda series, grid, klines: self.arrived.extend(klines))
        print_row = SeriesTail.encode

        def encode(tail: SeriesTail, kline: Row) -> bytes:
            self.printed.append(kline)
            return print_row(tail, kline)

        monkeypatch.setattr(SeriesTail, "encode", encode)

    def rows(self) -> list[bytes]:
        made = self.tail.get(BTC)
        return [] if made is None else list(made.rows)


MINUTES = [marked(DAY0_MS + number * MINUTE_MS, 1 + number) for number in range(4)]


def row_of(kline: Kline) -> bytes:
    return KLINES.encode(kline, kline.open_ms + MINUTE_MS - 1)


def test_a_kline_that_closed_enters_once_when_it_is_committed_as_it_was_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on = Entries(monkeypatch)
    for kline in MINUTES:
        on.tail.close(BTC, M1.grid, kline)
    version = on.tail.version(BTC)
    for committed in (MINUTES[:1], MINUTES[1:]):
        on.tail.amend(BTC, M1.grid, committed)
    assert (on.printed, on.arrived) == (MINUTES, MINUTES)
    assert on.rows() == [row_of(kline) for kline in MINUTES]
    assert on.tail.version(BTC) == version + 2, "what was read from the store before a commit may lack its rows"
    on.tail.amend(BTC, M1.grid, MINUTES[:1])
    assert len(on.printed) == 5, "a second commit is not the one that was waited for"


def test_a_kline_that_was_committed_otherwise_than_it_closed_is_corrected(monkeypatch: pytest.MonkeyPatch) -> None:
    on = Entries(monkeypatch)
    for kline in MINUTES:
        on.tail.close(BTC, M1.grid, kline)
    other = marked(MINUTES[1].open_ms, 99)
    on.tail.amend(BTC, M1.grid, [MINUTES[0], other, MINUTES[2]])
    assert on.printed == [*MINUTES, other], "and nothing else is printed again"
    assert on.rows() == [row_of(kline) for kline in (MINUTES[0], other, *MINUTES[2:])]


@pytest.mark.parametrize("lost_by", ["lose", "void", "clear", "forget"])
def test_a_kline_whose_run_was_dropped_before_its_commit_is_applied_by_the_commit(lost_by: str) -> None:
    """The run is read from the store again, which does not have the kline yet."""
    series = Series(KLINES, "BTCUSDT", INTERVALS["5m"])
    grid, parts = series.interval.grid, Series(KLINES, "BTCUSDT", M1)
    first, second, third = (marked(DAY0_MS + number * 5 * MINUTE_MS, 1) for number in range(3))
    tail = Tail(10**9, always)
    for kline in (first, second, third):
        tail.close(series, grid, kline)
    tail.amend(series, grid, [first, second])
    if lost_by == "lose":
        tail.lose(series)
    elif lost_by == "void":
        tail.void(parts, Spans([Span(DAY0_MS, DAY0_MS + MINUTE_MS)]))
    elif lost_by == "clear":
        tail.clear()
    else:
        tail.forget(series)
    tail.seed(series, grid, printed(series, [first, second]), third.open_ms, tail.version(series))
    tail.amend(series, grid, [third])
    made = tail.get(series)
    assert made is not None
    assert list(made.rows) == [made.encode(kline) for kline in (first, second, third)]


def test_a_kline_that_the_stores_rows_replaced_before_its_commit_is_applied_by_the_commit() -> None:
    """The store may hold another row of that time, which the commit replaces."""
    tail, old = Tail(10**9, always), marked(MINUTES[1].open_ms, 77)
    for kline in MINUTES[:2]:
        tail.close(BTC, M1.grid, kline)
    read = [MINUTES[0], old, MINUTES[2]]
    tail.seed(BTC, M1.grid, printed(BTC, read), MINUTES[3].open_ms, tail.version(BTC))
    tail.amend(BTC, M1.grid, [MINUTES[1]])
    made = tail.get(BTC)
    assert made is not None
    assert list(made.rows) == [row_of(kline) for kline in MINUTES[:3]]


def test_klines_whose_commit_never_comes_are_remembered_no_longer_than_their_rows() -> None:
    tail = Tail(ROW_BYTES * 10, always)
    for number in range(200):
        tail.close(BTC, M1.grid, marked(DAY0_MS + number * MINUTE_MS, 1))
    made = tail.get(BTC)
    assert made is not None
    assert len(made.uncommitted) == len(made.rows) < 20


def test_tails_that_may_not_be_those_of_the_store_are_not_given_out() -> None:
    is_current = True
    tail = Tail(ROW_BYTES * 1000, lambda: is_current)
    tail.append(Series(KLINES, "BTCUSDT", M1), M1.grid, marked(DAY0_MS, 1))
    is_current = False
    assert tail.get(Series(KLINES, "BTCUSDT", M1)) is None
    assert tail.kept(Series(KLINES, "BTCUSDT", M1)) is not None


def test_the_tail_is_bounded_in_bytes_over_all_series() -> None:
    tail = Tail(ROW_BYTES * 1000, always)
    for number in range(10):
        series = Series(KLINES, f"S{number}", M1)
        for back in range(400, 0, -1):
            tail.append(series, M1.grid, marked(DAY0_MS - back * MINUTE_MS, 1))
    assert tail.rows_max(M1) == 100
    kept = [tail.get(Series(KLINES, f"S{number}", M1)) for number in range(10)]
    assert all(each is not None and 88 <= len(each.rows) <= 124 for each in kept), "also those that came first"
    for number in range(9):
        tail.forget(Series(KLINES, f"S{number}", M1))
    assert tail.rows_max(M1) == 1000
    assert Tail(1 << 60, always).rows_max(M1) == ROWS_MAX


def test_tails_filled_while_they_were_few_make_room_for_those_that_come_later() -> None:
    """Many clients request one series after another: each tail is seeded from the store, then stays for a while."""
    series = [Series(KLINES, f"S{number}", M1) for number in range(400)]
    klines = [marked(DAY0_MS - back * MINUTE_MS, 1) for back in range(300, 0, -1)]
    tail = Tail(ROW_BYTES * 300 * len(series) // 4, always)
    for each in series:
        tail.seed(each, M1.grid, printed(each, klines), DAY0_MS, tail.version(each))
        bound = ROW_BYTES * 300 * len(series) // 4
        assert tail.rows * ROW_BYTES <= max(bound * 1.3, len(series) * ROW_BYTES * 2)
    kept = [tail.get(each) for each in series]
    assert all(each is not None and each.rows[0] == each.encode(klines[-len(each.rows)]) for each in kept)


@pytest.mark.parametrize("older", [marked(DAY0_MS, 4), marked(DAY0_MS - MINUTE_MS, 900)])
def test_an_older_state_of_the_kline_in_progress_does_not_replace_a_newer_one(older: Kline) -> None:
    """During a hand-over two sockets deliver the same stream, not in step."""
    tail = Tail(10**9, always)
    newer = Live(marked(DAY0_MS, 5), 10, from_socket=True)
    tail.set_live(BTC, M1.grid, newer)
    tail.set_live(BTC, M1.grid, Live(older, 20, from_socket=True))
    made = tail.get(BTC)
    assert made is not None
    assert made.live == newer


def test_a_committed_kline_ends_the_live_state_of_the_same_minute() -> None:
    tail = Tail(10**9, always)
    tail.append(BTC, M1.grid, marked(DAY0_MS, 1))
    tail.set_live(BTC, M1.grid, Live(marked(DAY0_MS + MINUTE_MS, 2), 0, from_socket=True))
    tail.amend(BTC, M1.grid, [marked(DAY0_MS + MINUTE_MS, 3)])
    made = tail.get(BTC)
    assert made is not None
    assert made.live is None


def test_by_default_everybody_can_be_told_500_klines_of_the_shortest_intervals_of_600_symbols() -> None:
    """All tails together also stay within the bytes that remain of a worker's 512 MB."""
    settings = Settings(_env_file=None)
    bytes_max = settings.tail_bytes_max
    found = shares(bytes_max, dict.fromkeys(settings.interval_list, 600))
    assert [found[INTERVALS[code]] >= LIMIT_DEFAULT for code in ("1m", "3m", "5m")] == [True] * 3
    assert min(found.values()) >= LEVELS[0]
    assert 600 * sum(found.values()) * ROW_BYTES <= bytes_max


@given(
    rows=st.integers(0, 3_000_000),
    tails=st.dictionaries(st.sampled_from(list(INTERVALS.values())), st.integers(0, 700), max_size=15),
)
def test_tails_share_all_the_room_there_is_and_no_more(rows: int, tails: dict[Interval, int]) -> None:
    found = shares(rows * ROW_BYTES, tails)
    assert set(found) == {interval for interval, number in tails.items() if number}
    if len({tails[interval] for interval in found}) == 1:
        ordered = sorted(found, key=lambda interval: interval.grid.step_ms)
        assert [found[interval] for interval in ordered] == sorted(found.values(), reverse=True), (
            "a longer one has more"
        )
    floor = sum(2 * tails[interval] for interval in found)
    taken = sum(bound * tails[interval] for interval, bound in found.items())
    assert taken <= rows + floor
    assert all(2 <= bound <= ROWS_MAX for bound in found.values())
    if any(bound < ROWS_MAX for bound in found.values()):
        assert rows - taken < max(tails.values()), "room for another row of some interval is left"


def test_tails_of_long_intervals_make_room_for_those_of_shorter_ones_that_come_later() -> None:
    tail = Tail(ROW_BYTES * 1_000, always)
    hours, minutes = Series(KLINES, "BTCUSDT", HOURLY), Series(KLINES, "BTCUSDT", M1)
    klines = [marked(DAY0_MS - back * HOUR_MS, 1) for back in range(900, 0, -1)]
    tail.seed(hours, HOURLY.grid, printed(hours, klines), DAY0_MS, tail.version(hours))
    assert tail.rows == 900
    klines = [marked(DAY0_MS - back * MINUTE_MS, 1) for back in range(900, 0, -1)]
    tail.seed(minutes, M1.grid, printed(minutes, klines), DAY0_MS, tail.version(minutes))
    assert (tail.rows_max(M1), tail.rows_max(HOURLY)) == (500, 500)
    assert tail.rows <= 1_000 + 2 * 64


def test_rows_that_were_read_longest_ago_are_compressed_above_the_share() -> None:
    names = [Series(KLINES, f"S{number}", M1) for number in range(60)]
    klines = [marked(DAY0_MS - back * MINUTE_MS, 1) for back in range(300, 0, -1)]
    tail = Tail(ROW_BYTES * 300 * len(names), always)

    def plain() -> dict[Series, int]:
        return {each: made.rows.plain_bytes for each in names if (made := tail.get(each)) and made.rows.plain_bytes}

    for each in names:
        tail.seed(each, M1.grid, printed(each, klines), DAY0_MS, tail.version(each))
        assert sum(plain().values()) <= ROW_BYTES * 300 * len(names) * PLAIN_TENTHS_MAX // 10
    kept = list(plain())
    assert kept == names[-len(kept) :], "a reader compresses only what is far above the share"
    assert len(kept) >= len(names) * PLAIN_TENTHS_MAX // 10
    assert tail.pack(2), "there is more"
    assert list(plain()) == kept[2:]
    assert not tail.pack(len(names))
    assert sum(plain().values()) <= ROW_BYTES * 300 * len(names) * PLAIN_TENTHS // 10
    kept = list(plain())
    assert kept == names[-len(kept) :]
    assert len(kept) >= len(names) * PLAIN_TENTHS // 10
    assert tail.rows == 300 * len(names)

    def read(series: Series) -> None:
        made = tail.get(series)
        assert made is not None
        assert bytes(made.rows.joined(0, 300)) == b",".join(printed(series, klines))
        tail.read(made)

    read(kept[0])
    read(names[0])
    assert not tail.pack(len(names))
    assert {names[0], kept[0]} <= set(plain()), "they were read last"
    assert kept[1] not in plain(), "it was read longest ago"
    for each in list(plain()):
        tail.lose(each)
    assert tail._plain_bytes == 0, "rows that were dropped take no room from others"


def test_by_default_600_klines_of_the_minutes_of_600_symbols_are_not_compressed() -> None:
    bytes_max = Settings(_env_file=None).tail_bytes_max
    row = KLINES.encode(marked(DAY0_MS, 12_345), DAY0_MS + MINUTE_MS - 1)
    assert 600 * (600 + FRAME_ROWS) * (len(row) + 1) <= bytes_max * PLAIN_TENTHS // 10


def test_klines_that_close_while_nobody_reads_a_series_are_compressed_with_it() -> None:
    names = [Series(KLINES, f"S{number}", M1) for number in range(20)]
    bytes_max = ROW_BYTES * 500 * len(names)
    tail = Tail(bytes_max, always)
    for number in range(600):
        for each in names:
            tail.append(each, M1.grid, marked(DAY0_MS + number * MINUTE_MS, 1))
        tail.pack(len(names))
    plain = sum(made.rows.plain_bytes for each in names if (made := tail.get(each)) is not None)
    assert plain <= bytes_max * PLAIN_TENTHS // 10 + len(names) * (FRAME_ROWS + 1) * ROW_BYTES
    assert tail.rows >= 500 * len(names)
