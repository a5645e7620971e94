"""Caches that clients fill are bounded in bytes, keys included, however long the keys are."""

import sys
import tracemalloc

import pytest

from app.binance import stream_name
from app.binance.stream_name import NAME_CHARS_MAX, parse
from app.domain.interval import M1
from app.domain.series import Series
from app.http.page_cache import ASKED_BYTES_MAX, PageCache
from app.http.recent import OVERHEAD_BYTES, Recent
from app.kinds.klines import KLINES
from app.sockets.stream_client import STREAMS_MAX
from tests.http.fakes import ManualClock

KEY_BYTES = 4_096  # the longest query that the protocol accepts


def test_the_older_half_goes_and_what_is_asked_for_again_stays() -> None:
    room = OVERHEAD_BYTES + 10
    recent = Recent[bytes, int](4 * room)
    for number in range(4):
        recent.add(b"%d" % number, number + 1, b"x" * 10)
        assert recent.bytes == (number + 1) * room
    recent.add(b"4", 5, b"x" * 10)
    assert [recent.get(b"%d" % number) for number in range(5)] == [None, None, 3, 4, 5]
    assert recent.bytes == 3 * room
    recent.add(b"4", 6, b"x" * 10)
    assert (recent.get(b"4"), recent.bytes) == (6, 3 * room)
    recent.add(b"huge", 1, b"x" * 3 * room)
    assert recent.get(b"huge") is None, "one must not push out everything"


def test_the_askers_of_pages_take_what_is_stated() -> None:
    pages = PageCache(1_000_000, ManualClock(), 10)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(10_000):
            query = (b"%d" % number).ljust(KEY_BYTES, b"x")
            assert not pages.is_asked_again(("/fapi/v1/klines", query), 1)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken <= ASKED_BYTES_MAX
    assert pages.is_asked_again(("/fapi/v1/klines", query), 2)


def test_usual_askers_are_all_remembered() -> None:
    pages = PageCache(1_000_000, ManualClock(), 10)
    keys = [("/fapi/v1/klines", b"symbol=S%dUSDT&interval=1m&limit=500" % number) for number in range(2_000)]
    assert not any(pages.is_asked_again(key, 1) for key in keys)
    assert all(pages.is_asked_again(key, 2) for key in keys)


@pytest.mark.parametrize("name", ["x" * 250_000, "x" * (NAME_CHARS_MAX + 1), "btcusdt@trade" + "@" * 250_000])
def test_a_stream_name_longer_than_any_is_not_remembered(name: str) -> None:
    stream_name._parse.cache_clear()
    assert parse(name) is None
    assert stream_name._parse.cache_info().currsize == 0
    assert parse("btcusdt@trade") is not None
    assert stream_name._parse.cache_info().currsize == 1


def test_all_names_that_are_remembered_take_some_megabytes() -> None:
    most = sys.getsizeof("币" * NAME_CHARS_MAX) + 1_000  # and the tuple of its parsed form
    assert stream_name._PARSED_MAX * most < 32 * 1024 * 1024
    assert STREAMS_MAX * most < 2 * 1024 * 1024, "of one client"


def test_series_are_kept_by_name_only_when_they_are_listed() -> None:
    pages = PageCache(1_000_000, ManualClock(), 10)
    pages.version(Series(KLINES, "x" * 10_000, M1))
    assert (pages._changes, pages._moves) == ({}, {})
