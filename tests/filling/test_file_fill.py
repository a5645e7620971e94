"""The klines from an archive file: its minutes, and longer klines made of these minutes only."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from app.binance.archive_csv import ArchiveFile, BadFile
from app.domain.block_grid import block_span
from app.domain.columns import Columns
from app.domain.interval import D1, DAY_MS, HOUR_MS, INTERVALS, M1, MINUTE_MS, MO1
from app.domain.kline import Precision
from app.domain.ledger import Source
from app.domain.rollup import roll_up
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.events import ArchiveRejected
from app.filling.file_fill import PORTION
from app.filling.plan import Download
from app.kinds.klines import KLINES
from app.ports.errors import FileRejected, NotPublished, UpstreamError, UpstreamGarbage, UpstreamUnavailable
from tests.fakes import BTC, DAY0_MS, listing, minute
from tests.filling.reconcile_bench import FIVES, HOURS, Bench, bench

YESTERDAY = Span(DAY0_MS - DAY_MS, DAY0_MS)


def download(span: Span, windows: Spans | None = None) -> Download:
    is_monthly = span.end_ms - span.start_ms > DAY_MS
    return Download(BTC, ArchiveFile("BTCUSDT", M1, span, is_monthly), windows or Spans([span]))


async def held(on: Bench, series: Series) -> Spans:
    return (await on.rig.ledger(series)).held


async def test_minutes_and_what_is_made_of_them_are_in_one_transaction(tmp_path: Path) -> None:
    month = Span(MO1.grid.floor(YESTERDAY.start_ms - 40 * DAY_MS), MO1.grid.floor(YESTERDAY.start_ms - 9 * DAY_MS))
    async with bench(tmp_path, codes=("1m", "5m", "1h", "1d", "1w"), days=90) as on:
        await on.filler.fill(download(month))
        for commit in on.rig.store.commits:
            first, *others = commit
            assert (first.series, first.source) == (BTC, Source.ARCHIVE)
            assert first.spans == Spans([block_span(PORTION, first.spans.hull.start_ms)]), "half a month"
            assert [(each.series.interval.code, each.source) for each in others] == [
                (code, Source.ROLLUP) for code in ("5m", "1h", "1d")
            ]
            for each in others:
                assert each.spans == first.spans
                assert each.rows == roll_up(Columns.of(first.rows), each.series.interval.grid)
        for series in (BTC, FIVES, HOURS, Series(KLINES, "BTCUSDT", D1)):
            assert await held(on, series) == Spans([month])
            assert await on.rig.stored(series) == [
                on.rig.exchange.kline(series, each) for each in series.interval.grid.opens(*month)
            ]
        assert await held(on, Series(KLINES, "BTCUSDT", INTERVALS["1w"])) == Spans(), "a week may reach beyond the file"


async def test_a_longer_kline_is_not_made_of_a_file_where_other_minutes_are_held(tmp_path: Path) -> None:
    at_ms = YESTERDAY.start_ms + 7 * HOUR_MS + 12 * MINUTE_MS
    mended = minute("BTCUSDT", at_ms)._replace(volume="77.125", trades=5)
    async with bench(tmp_path, days=3) as on:
        stale = download(YESTERDAY)  # planned before the minute was fetched from elsewhere
        await on.rig.committer.commit([Batch(BTC, Source.REST, Spans([(at_ms, at_ms + MINUTE_MS)]), [mended])])
        await on.filler.fill(stale)
        hour = Spans([Span(at_ms - 12 * MINUTE_MS, at_ms + 48 * MINUTE_MS)])
        five = Spans([Span(at_ms - 2 * MINUTE_MS, at_ms + 3 * MINUTE_MS)])
        assert await held(on, BTC) == Spans([YESTERDAY])
        assert await held(on, HOURS) == Spans([YESTERDAY]) - hour
        assert await held(on, FIVES) == Spans([YESTERDAY]) - five
        assert mended in await on.rig.stored()


async def test_the_exchanges_own_longer_kline_stays(tmp_path: Path) -> None:
    own_ms = YESTERDAY.start_ms + 5 * HOUR_MS
    async with bench(tmp_path, days=3) as on:
        row = on.rig.exchange.kline(HOURS, own_ms)._replace(volume="1.000")
        await on.rig.committer.commit([Batch(HOURS, Source.REST, Spans([(own_ms, own_ms + HOUR_MS)]), [row])])
        await on.filler.fill(download(YESTERDAY))
        assert row in await on.rig.stored(HOURS)
        assert (await on.rig.ledger(HOURS)).source_at(own_ms) is Source.REST
        assert await held(on, HOURS) == Spans([YESTERDAY])


async def test_on_days_when_the_exchange_contradicts_itself_nothing_is_made_of_minutes(tmp_path: Path) -> None:
    incident = Span(1_738_108_800_000, 1_738_108_800_000 + DAY_MS)  # 2025-01-29
    async with bench(tmp_path, days=700) as on:
        await on.filler.fill(download(incident))
        assert await held(on, BTC) == Spans([incident])
        assert (await held(on, FIVES), await held(on, HOURS)) == (Spans(), Spans())


async def test_a_day_with_a_hole_in_its_file_is_left_to_the_reconciler(tmp_path: Path) -> None:
    before = Span(YESTERDAY.start_ms - DAY_MS, YESTERDAY.start_ms)
    async with bench(tmp_path, days=3) as on:
        on.rig.vault.lacking.add(YESTERDAY.start_ms + 3 * MINUTE_MS)
        for day in (before, YESTERDAY):
            await on.filler.fill(download(day))
        assert await held(on, HOURS) == Spans([before])
        assert (await held(on, BTC)).total_ms == 2 * DAY_MS - MINUTE_MS


async def test_a_file_that_was_printed_in_a_former_listing_s_decimals_is_not_kept(tmp_path: Path) -> None:
    """The exchange's list was read while the file was downloaded."""
    async with bench(tmp_path, days=3) as on:
        on.rig.exchange.symbols = [replace(listing("BTCUSDT"), precision=Precision(6, 3))]
        await on.rig.symbols.refresh()
        await on.filler.fill(download(YESTERDAY))
        assert [await held(on, series) for series in (BTC, FIVES, HOURS)] == [Spans()] * 3
        on.rig.exchange.symbols = [listing("BTCUSDT")]
        await on.rig.symbols.refresh()
        await on.filler.fill(download(YESTERDAY))
        assert [await held(on, series) for series in (BTC, FIVES, HOURS)] == [Spans([YESTERDAY])] * 3


async def test_nothing_is_made_that_is_not_missing(tmp_path: Path) -> None:
    async with bench(tmp_path, codes=("1m", "1h"), days=3) as on:
        half = Spans([Span(YESTERDAY.start_ms, YESTERDAY.start_ms + DAY_MS // 2)])
        await on.filler.fill(download(YESTERDAY, half))
        assert await held(on, BTC) == half
        assert await held(on, HOURS) == half
        assert await held(on, FIVES) == Spans(), "not wished"


@pytest.mark.parametrize(
    ("error", "check", "reason", "minutes"),
    [
        (NotPublished("/data/BTCUSDT.zip"), "published", "the archive has no /data/BTCUSDT.zip (404)", 360),
        (UpstreamUnavailable("/data/BTCUSDT.zip: HTTP 503"), "reachable", "/data/BTCUSDT.zip: HTTP 503", 15),
        (FileRejected("checksum", "SHA-256 is 1"), "checksum", "SHA-256 is 1", 360),
        (UpstreamGarbage("more than 5 bytes"), "size", "more than 5 bytes", 360),
    ],
)
async def test_a_file_that_is_rejected_says_why_and_what_happens_next(
    tmp_path: Path, error: UpstreamError, check: str, reason: str, minutes: int
) -> None:
    async with bench(tmp_path, days=3) as on:
        on.rig.vault.error = error
        await on.filler.fill(download(YESTERDAY))
        [event] = on.rig.seen(ArchiveRejected)
        assert (event.name, event.check, event.reason) == (download(YESTERDAY).file.name, check, reason)
        assert f"REST is asked for what is missing; the file is tried again in {minutes} min" == event.then


def test_what_is_wrong_with_a_file_survives_the_way_between_processes() -> None:
    sent = pickle.loads(pickle.dumps(BadFile("zip", "no ZIP")))
    assert (sent.check, str(sent)) == ("zip", "no ZIP")
