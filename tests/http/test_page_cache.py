"""The page cache against a model that keeps every page and invalidates by checking all of them."""

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from starlette.types import Scope

from app.domain.interval import INTERVALS, M1
from app.domain.series import Series
from app.domain.span import Span
from app.http.page import Page
from app.http.page_cache import KEEPING_ERROR_MS, PAGE_OVERHEAD_BYTES, PAGE_SHARE_MAX, Key, PageCache, SeriesVersion
from app.kinds.klines import KLINES
from app.querying.answer import END_OF_TIME_MS, Answer
from tests.cache_time import held_s
from tests.http.fakes import NOW_MS, ManualClock, kline_body

PATH = "/fapi/v1/klines"
BTC = Series(KLINES, "BTCUSDT", M1)
BTC_MONTH = Series(KLINES, "BTCUSDT", INTERVALS["1M"])
ETH = Series(KLINES, "ETHUSDT", INTERVALS["1m"])
ALWAYS = Span(0, END_OF_TIME_MS)


def scope_of(query: bytes, *, gzip: bool = False) -> Scope:
    headers = [(b"accept-encoding", b"gzip")] if gzip else []
    return {"type": "http", "method": "GET", "path": PATH, "query_string": query, "headers": headers}


def answer_of(
    body: bytes = b"[]",
    series: Series = BTC,
    touches: Span = ALWAYS,
    *,
    is_live: bool = False,
    valid_until_ms: int = END_OF_TIME_MS,
) -> Answer:
    return Answer(body, series, touches, is_live, valid_until_ms)


def put(pages: PageCache, query: bytes, answer: Answer, version: SeriesVersion | None = None) -> None:
    pages.put((PATH, query), Page(answer.body), answer, version or pages.version(answer.series))


def is_held(pages: PageCache, query: bytes) -> bool:
    return pages.reply(scope_of(query)) is not None


def test_an_answer_computed_before_a_change_is_not_kept_after_it() -> None:
    pages = PageCache(1_000_000, ManualClock(), 10)
    version, version_of_another = pages.version(BTC), pages.version(BTC_MONTH)
    pages.drop(BTC, Span(0, 1))
    put(pages, b"late", answer_of(), version)
    put(pages, b"other", answer_of(series=BTC_MONTH), version_of_another)
    assert not is_held(pages, b"late")
    assert is_held(pages, b"other")


def test_an_answer_computed_before_everything_was_forgotten_is_not_kept_after_it() -> None:
    pages = PageCache(1_000_000, ManualClock(), 10)
    version = pages.version(BTC)
    pages.clear()
    put(pages, b"late", answer_of(), version)
    assert not is_held(pages, b"late")


def test_forgetting_everything_leaves_nothing_behind_that_a_later_change_could_stumble_over() -> None:
    pages = PageCache(1_000_000, ManualClock(), 10)
    put(pages, b"q", answer_of())
    put(pages, b"live", answer_of(is_live=True))
    pages.clear()
    assert (pages.entries, pages.bytes, pages.evictions) == (0, 0, 0)
    pages.moved("BTCUSDT")
    pages.drop(BTC, ALWAYS)
    put(pages, b"q", answer_of())
    assert is_held(pages, b"q")


def test_pages_that_nobody_vouches_for_are_not_sent_and_are_good_again_when_somebody_does() -> None:
    clock = ManualClock()
    pages = PageCache(1_000_000, clock, 10)
    put(pages, b"q", answer_of())
    pages.true_until_ms = NOW_MS + 1_000
    clock.ms += 999
    assert is_held(pages, b"q")
    clock.ms += 1
    assert not is_held(pages, b"q")
    pages.true_until_ms = NOW_MS + 2_000
    assert is_held(pages, b"q")


def test_a_live_update_outdates_only_answers_with_a_live_kline() -> None:
    pages = PageCache(1_000_000, ManualClock(), 10)
    version = pages.version(BTC)
    pages.moved("BTCUSDT")
    put(pages, b"live", answer_of(is_live=True), version)
    put(pages, b"closed", answer_of(), version)
    assert not is_held(pages, b"live")
    assert is_held(pages, b"closed")


def test_a_page_ends_with_its_candle() -> None:
    clock = ManualClock()
    pages = PageCache(1_000_000, clock, 10)
    answer = answer_of(valid_until_ms=NOW_MS + 4_500)
    put(pages, b"q", answer)
    assert pages.max_age_s(answer, clock.ms) == 3
    clock.ms += 4_499
    assert pages.max_age_s(answer, clock.ms) == 0
    assert is_held(pages, b"q")
    clock.ms += 1
    assert not is_held(pages, b"q")
    assert (pages.entries, pages.bytes) == (0, 0)


def test_a_page_does_not_outlive_its_candle_when_the_clock_is_put_back() -> None:
    """By the new clock the page was made in the future: it would be served, and confirmed by 304, for hours."""
    clock = ManualClock()
    pages = PageCache(1_000_000, clock, 10)
    put(pages, b"q", answer_of(valid_until_ms=NOW_MS + 4_500))
    assert is_held(pages, b"q")
    clock.ms -= 3_600_000
    assert not is_held(pages, b"q")
    assert pages.entries == 0


def test_nobody_may_keep_a_page_with_a_live_kline() -> None:
    assert PageCache(1_000_000, ManualClock(), 10).max_age_s(answer_of(is_live=True), NOW_MS) == 0


def test_a_ttl_of_zero_keeps_nothing() -> None:
    pages = PageCache(1_000_000, ManualClock(), 0)
    put(pages, b"q", answer_of())
    assert pages.entries == 0
    assert pages.max_age_s(answer_of(), NOW_MS) == 0


def test_a_page_larger_than_its_share_is_not_kept() -> None:
    body = kline_body()
    pages = PageCache((len(body) + PAGE_OVERHEAD_BYTES) * PAGE_SHARE_MAX, ManualClock(), 10)
    put(pages, b"", answer_of(body))
    assert pages.entries == 1
    assert pages.reply(scope_of(b"", gzip=True)) is not None, "answered"
    assert (pages.entries, pages.bytes) == (0, 0), "but too large with its gzip variant"
    put(pages, b"longer", answer_of(body))
    assert pages.entries == 0


def test_pages_that_have_expired_are_dropped_when_any_kline_closes() -> None:
    """Nobody asks for them again: the newest klines of long intervals, each asked for once."""
    clock = ManualClock()
    pages = PageCache(1_000_000, clock, 10)
    for number in range(5):
        put(pages, b"%d" % number, answer_of(series=BTC_MONTH))
        clock.ms += 1_000
    assert is_held(pages, b"0")
    clock.ms += 7_500
    pages.drop(ETH, ALWAYS)
    assert pages.entries == 3, "two were last used before it"
    clock.ms += 10_000
    pages.drop(ETH, ALWAYS)
    assert (pages.entries, pages.bytes, pages.evictions) == (0, 0, 0)


def test_gzip_variants_count_and_may_push_out_others() -> None:
    body = kline_body(20)
    bytes_max = 20 * (1 + len(body) + PAGE_OVERHEAD_BYTES)
    pages = PageCache(bytes_max, ManualClock(), 10)
    queries = [bytes([number]) for number in range(20)]
    for query in queries:
        put(pages, query, answer_of(body))
    assert (pages.entries, pages.bytes, pages.evictions) == (20, bytes_max, 0)
    for query in queries[10:]:
        assert pages.reply(scope_of(query, gzip=True)) is not None
    assert pages.bytes <= bytes_max
    assert pages.entries == 20 - pages.evictions < 20
    assert not is_held(pages, queries[0]), "the one unused for longest went first"
    assert is_held(pages, queries[19])


@dataclass
class Remembered:
    """A page in the model."""

    answer: Answer
    expires_ms: int
    bytes_min: int


class CacheAgainstModel(RuleBasedStateMachine):
    """What the cache serves, the model has too; what the model invalidated, the cache never serves."""

    bytes_max = 16 * (PAGE_OVERHEAD_BYTES + 3000)
    ttl_s = 10

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(1_000_000)
        self.pages = PageCache(self.bytes_max, self.clock, self.ttl_s)
        self.model: dict[bytes, Remembered] = {}
        self.hits = self.misses = 0

    queries = st.sampled_from([b"%d" % number for number in range(12)])
    series = st.sampled_from([BTC, BTC_MONTH, ETH])
    symbols = st.sampled_from([BTC.symbol, ETH.symbol])
    spans = st.tuples(st.integers(0, 20), st.integers(0, 20)).map(lambda pair: Span(min(pair), max(pair)))

    @rule(
        query=queries,
        which=series,
        touches=spans,
        is_live=st.booleans(),
        rows=st.integers(0, 30),
        valid_ms=st.integers(-1_000, 20_000),
        meanwhile=st.lists(st.tuples(series, st.none() | spans), max_size=2),
    )
    def answer(
        self,
        query: bytes,
        which: Series,
        touches: Span,
        is_live: bool,
        rows: int,
        valid_ms: int,
        meanwhile: list[tuple[Series, Span | None]],
    ) -> None:
        body = kline_body(rows)
        now_ms = self.clock.ms
        answer = answer_of(body, which, touches, is_live=is_live, valid_until_ms=now_ms + valid_ms)
        version = self.pages.version(which)
        for changed, span in meanwhile:
            if span is None:
                self.move(changed.symbol)
            else:
                self.drop(changed, span)
        put(self.pages, query, answer, version)
        outdated = any(
            changed == which if span is not None else is_live and changed.symbol == which.symbol
            for changed, span in meanwhile
        )
        self.model.pop(query, None)
        expires_ms = min(now_ms + self.ttl_s * 1000, now_ms + valid_ms)
        if not outdated and expires_ms > now_ms:
            self.model[query] = Remembered(answer, expires_ms, len(body))

    @rule(query=queries, gzip=st.booleans())
    def ask(self, query: bytes, gzip: bool) -> None:
        reply = self.pages.reply(scope_of(query, gzip=gzip))
        if reply is None:
            self.misses += 1
            return
        self.hits += 1
        remembered = self.model[query]
        assert self.clock.ms < remembered.expires_ms
        headers = dict(reply.start["headers"])
        if b"content-encoding" not in headers:
            assert reply.body["body"] == remembered.answer.body
        stated = held_s(headers[b"cache-control"].decode())
        left_ms = 0 if remembered.answer.is_live else remembered.answer.valid_until_ms - self.clock.ms
        assert stated == max(0, min(self.ttl_s, (left_ms - KEEPING_ERROR_MS) // 1000))

    @rule(which=series, span=spans)
    def drop(self, which: Series, span: Span) -> None:
        self.pages.drop(which, span)
        for query, page in list(self.model.items()):
            meets = max(page.answer.touches.start_ms, span.start_ms) < min(page.answer.touches.end_ms, span.end_ms)
            if page.answer.series == which and meets:
                del self.model[query]

    @rule(symbol=symbols)
    def move(self, symbol: str) -> None:
        self.pages.moved(symbol)
        for query, page in list(self.model.items()):
            if page.answer.series.symbol == symbol and page.answer.is_live:
                del self.model[query]

    @rule(delay_ms=st.integers(1, 8_000))
    def wait(self, delay_ms: int) -> None:
        self.clock.ms += delay_ms

    @rule()
    @precondition(lambda self: self.pages.evictions == 0)
    def nothing_is_forgotten_without_a_reason(self) -> None:
        for query, page in self.model.items():
            fits = page.bytes_min * 2 + PAGE_OVERHEAD_BYTES < self.bytes_max // PAGE_SHARE_MAX
            if fits and self.clock.ms < page.expires_ms:
                assert is_held(self.pages, query)
                self.hits += 1

    @invariant()
    def the_bounds_hold_and_the_index_is_exact(self) -> None:
        entries = self.pages._entries
        assert self.pages.bytes == sum(entry.cost for entry in entries.by_key.values()) <= self.bytes_max
        indexed: dict[Key, Series] = {}
        for which, pages in entries.of_series.items():
            assert pages
            indexed |= dict.fromkeys(pages, which)
        live = {key for pages in entries.live_of_name.values() for key in pages}
        assert all(
            entry.answer.series.name == name for name, pages in entries.live_of_name.items() for entry in pages.values()
        )
        assert all(entries.live_of_name.values())
        assert indexed == {key: entry.answer.series for key, entry in entries.by_key.items()}
        assert live == {key for key, entry in entries.by_key.items() if entry.answer.is_live}

    @invariant()
    def the_counters_count(self) -> None:
        assert (self.pages.hits, self.pages.misses) == (self.hits, self.misses)


CacheAgainstModel.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestCacheAgainstModel = CacheAgainstModel.TestCase
