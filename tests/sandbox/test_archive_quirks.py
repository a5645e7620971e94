"""What the real archive's metrics have had: each quirk has its stated effect, injected or drawn from the seed."""

import hashlib
import zipfile
import zlib
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import TYPE_CHECKING

import httpx
import pytest

from infra.net.tls import trusting_nobody
from infra.sandbox.archive.files import parse_path
from infra.sandbox.archive.quirks import drawn
from infra.sandbox.faults import METRICS_KINDS, Fault
from infra.sandbox.grid import DAY_MS, utc_ms
from infra.sandbox.options import Options
from infra.sandbox.server import SandboxServer
from tests.patience import PATIENCE_S
from tests.sandbox.files import checksum, day_text, metrics_file, read, read_metrics, unpack

if TYPE_CHECKING:
    from tests.sandbox.conftest import ManualClock

DAY = "2026-11-18"  # labelled with starts
OLD_DAY = "2026-06-22"  # labelled with ends
FILE = metrics_file("BTCUSDT", DAY)
ZERO = [*["0.0000000000000000"] * 2, *["0.00000000"] * 4]

Rows = list[list[str]]


def check_blanks(true: Rows, rows: Rows, count: int) -> None:
    changed = assert_middle(true, rows, count)
    for one, row in changed:
        assert row[:2] == one[:2]
        assert {each for each, mine in zip(row[2:], one[2:], strict=True) if each != mine} == {""}


def check_zeros(true: Rows, rows: Rows, count: int) -> None:
    for one, row in assert_middle(true, rows, count):
        assert row == [*one[:2], *ZERO]


def check_republished(true: Rows, rows: Rows, count: int) -> None:
    for one, row in assert_middle(true, rows, count):
        assert_other_numbers(one, row)


def check_short_day(true: Rows, rows: Rows, count: int) -> None:
    assert rows == true[: len(true) - count]


def check_duplicates(true: Rows, rows: Rows, count: int) -> None:
    twice = [one for one, two in pairwise(rows) if one == two]
    assert len(twice) == count
    assert [row for place, row in enumerate(rows) if place == 0 or row != rows[place - 1]] == true


def check_conflicts(true: Rows, rows: Rows, count: int) -> None:
    assert len(rows) == len(true) + count
    strange = [row for row in rows if row not in true]
    assert [row for row in rows if row in true] == true
    assert len(strange) == count
    for row in strange:
        (one,) = [each for each in true if each[0] == row[0]]
        assert abs(rows.index(one) - rows.index(row)) == 1
        assert_other_numbers(one, row)


def check_disorder(true: Rows, rows: Rows, count: int) -> None:
    first = (len(true) - count) // 2
    assert rows == [*true[:first], *true[first : first + count][::-1], *true[first + count :]]


def check_midnight(true: Rows, rows: Rows, count: int) -> None:
    assert count == 1
    is_old = true[0][0].endswith("00:05:00")
    extra = rows[0] if is_old else rows[-1]
    assert (rows[1:] if is_old else rows[:-1]) == true
    day = true[0][0][:10] if is_old else day_text(utc_ms(*map(int, true[0][0][:10].split("-"))) + DAY_MS)
    assert extra[0] == f"{day} 00:00:00"


def check_bare_date(true: Rows, rows: Rows, count: int) -> None:
    assert count == 1
    changed = [(one, row) for one, row in zip(true, rows, strict=True) if one != row]
    assert [(f"{row[0]} 00:00:00", *row[1:]) for _, row in changed] == [tuple(one) for one, _ in changed]
    assert len(changed) == 1


CHECKS = {
    "metrics_blanks": check_blanks,
    "metrics_zeros": check_zeros,
    "metrics_republished": check_republished,
    "metrics_disorder": check_disorder,
    "metrics_short_day": check_short_day,
    "metrics_duplicates": check_duplicates,
    "metrics_conflicts": check_conflicts,
    "metrics_midnight": check_midnight,
    "metrics_bare_date": check_bare_date,
}


def assert_middle(true: Rows, rows: Rows, count: int) -> list[tuple[list[str], list[str]]]:
    """Assert that `count` rows in the middle differ, and return the true and the changed ones."""
    changed = [place for place, (one, row) in enumerate(zip(true, rows, strict=True)) if one != row]
    first = (len(true) - count) // 2
    assert changed == list(range(first, first + count))
    return [(true[place], rows[place]) for place in changed]


def assert_other_numbers(one: list[str], row: list[str]) -> None:
    assert row[:2] == one[:2]
    assert all(mine != theirs for mine, theirs in zip(one[2:], row[2:], strict=True))
    assert list(map(len, row)) == list(map(len, one))


def test_every_quirk_is_checked() -> None:
    assert set(CHECKS) == METRICS_KINDS


@pytest.mark.parametrize("day", [DAY, OLD_DAY])
@pytest.mark.parametrize("kind", sorted(CHECKS))
async def test_an_injected_quirk_has_its_effect_until_it_ends(
    http: httpx.AsyncClient, sandbox: SandboxServer, clock: "ManualClock", kind: str, day: str
) -> None:
    count = 1 if kind in {"metrics_midnight", "metrics_bare_date"} else 3
    true = await read_metrics(http, "BTCUSDT", day)
    whole = await checksum(http, metrics_file("BTCUSDT", day))
    sandbox.inject(kind=kind, symbol="BTC*", path=f"*/metrics/*-{day}.zip*", rows=count, duration_s=86_400)
    CHECKS[kind](true, await read_metrics(http, "BTCUSDT", day), count)
    assert await checksum(http, metrics_file("BTCUSDT", day)) != whole
    klines = f"/data/futures/um/daily/klines/BTCUSDT/1h/BTCUSDT-1h-{day}.zip"
    assert len(await read(http, klines)) == 1 + 24
    assert len(await read_metrics(http, "ETHUSDT", day)) == 288
    clock.advance(DAY_MS)
    assert await read_metrics(http, "BTCUSDT", day) == true
    assert await checksum(http, metrics_file("BTCUSDT", day)) == whole


async def test_the_midnight_row_of_two_files_differs(http: httpx.AsyncClient, sandbox: SandboxServer) -> None:
    sandbox.inject(kind="metrics_midnight", symbol="BTCUSDT", path="*-2026-06-22.zip*")
    sandbox.inject(kind="metrics_midnight", symbol="BTCUSDT", path="*-2026-11-18.zip*")
    for (strange_day, place), (true_day, own) in (
        (("2026-06-22", 0), ("2026-06-21", -1)),
        (("2026-11-18", -1), ("2026-11-19", 0)),
    ):
        row = (await read_metrics(http, "BTCUSDT", strange_day))[place]
        assert_other_numbers((await read_metrics(http, "BTCUSDT", true_day))[own], row)
    sandbox.inject(kind="metrics_midnight", symbol="币安人生USDT", path="*-2025-10-20.zip*")
    assert (await read_metrics(http, "币安人生USDT", "2025-10-20"))[0][0] == "2025-10-20 11:45:00", "no row before"


async def test_quirks_add_up(http: httpx.AsyncClient, sandbox: SandboxServer) -> None:
    true = await read_metrics(http, "BTCUSDT", DAY)
    for kind in ("metrics_zeros", "metrics_duplicates", "metrics_bare_date"):
        sandbox.inject(kind=kind, rows=1)
    sandbox.inject(kind="metrics_short_day", rows=100)
    rows = await read_metrics(http, "BTCUSDT", DAY)
    assert len(rows) == 288 + 1 - 100
    zero = [*true[143][:2], *ZERO]
    assert rows == [[DAY, *true[0][1:]], *true[1:143], zero, zero, *true[144:188]]


async def test_the_faults_of_klines_files_hit_those_of_metrics_and_fundings(
    http: httpx.AsyncClient, clock: "ManualClock", sandbox: SandboxServer
) -> None:
    funding = "/data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2026-10.zip"
    for path, rows in ((FILE, 288), (funding, 93)):
        whole = (await http.get(path)).content
        digest = await checksum(http, path)
        sandbox.inject(kind="corrupt_zip", path=path, count=1)
        broken = (await http.get(path)).content
        assert hashlib.sha256(broken).hexdigest() != digest
        with pytest.raises((zipfile.BadZipFile, zlib.error)):
            unpack(broken, path)
        sandbox.inject(kind="wrong_checksum", path=f"{path}*", count=1)
        assert await checksum(http, path) == digest[::-1]
        sandbox.inject(kind="archive_missing_rows", path=f"{path}*", rows=3, count=2)
        assert len(await read(http, path)) == 1 + rows - 3
        sandbox.inject(kind="archive_5xx", path=path, status=500, count=1)
        assert (await http.get(path)).status_code == 500
        sandbox.inject(kind="archive_404", path=f"{path}*", duration_s=3 * 86_400)
        clock.advance(3 * DAY_MS - 1)
        assert (await http.get(path)).status_code == (await http.get(f"{path}.CHECKSUM")).status_code == 404
        clock.advance(1)
        assert (await http.get(path)).content == whole
    start_ms = utc_ms(2026, 11, 18, 6)
    sandbox.inject(kind="hole", symbol="BTCUSDT", interval="5m", from_ms=start_ms, to_ms=start_ms + 600_000)
    labels = [row[0] for row in await read_metrics(http, "BTCUSDT", DAY)]
    assert labels[71:73] == [f"{DAY} 05:55:00", f"{DAY} 06:10:00"]
    assert len(labels) == 286


SYMBOLS = ("BTCUSDT", "ETHUSDT")


@pytest.fixture
async def quirky(clock: "ManualClock") -> AsyncIterator[SandboxServer]:
    async with SandboxServer(clock, seed=1, symbols=2, options=Options(archive_quirks=True)) as server:
        yield server


@pytest.fixture
async def strange(quirky: SandboxServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=quirky.base_url, timeout=PATIENCE_S, verify=trusting_nobody()) as client:
        yield client


def drawn_days(server: SandboxServer, *, at_publication: bool) -> dict[str, tuple[str, str, Fault]]:
    """By kind: symbol, day and fault of a file of 2026 that the seed has drawn."""
    found: dict[str, tuple[str, str, Fault]] = {}
    for symbol in SYMBOLS:
        item = server.exchange.instrument(symbol, utc_ms(2026, 1), utc_ms(2026, 2))
        for open_ms in range(utc_ms(2026, 1), utc_ms(2026, 10), DAY_MS):
            day = day_text(open_ms)
            key, _ = parse_path(metrics_file(symbol, day))
            assert key is not None
            faults = drawn(item, key, key.published_ms if at_publication else server.exchange.clock.now_ms())
            if len(faults) == 1:
                found.update({kind: (symbol, day, fault) for kind, fault in faults.items()})
    return found


async def test_the_seed_draws_every_quirk_where_the_option_asks_for_it(
    http: httpx.AsyncClient, strange: httpx.AsyncClient, quirky: SandboxServer
) -> None:
    found = drawn_days(quirky, at_publication=False)
    assert set(found) == {*METRICS_KINDS, "archive_404", "wrong_checksum"} - {"metrics_republished"}
    for kind, (symbol, day, fault) in found.items():
        true = await read_metrics(http, symbol, day)
        path = metrics_file(symbol, day)
        if kind == "archive_404":
            assert (await strange.get(path)).status_code == 404
        elif kind == "wrong_checksum":
            assert (await strange.get(path)).content == (await http.get(path)).content
            assert await checksum(strange, path) != await checksum(http, path)
        else:
            CHECKS[kind](true, await read_metrics(strange, symbol, day), fault.rows)


async def test_a_file_comes_late_or_is_replaced_by_the_true_one(
    http: httpx.AsyncClient, strange: httpx.AsyncClient, quirky: SandboxServer, clock: "ManualClock"
) -> None:
    found: dict[str, tuple[str, int]] = {}
    now_ms = clock.now_ms() // DAY_MS * DAY_MS
    item = quirky.exchange.instrument("BTCUSDT", now_ms, now_ms + DAY_MS)
    for open_ms in range(now_ms, now_ms + 1_000 * DAY_MS, DAY_MS):
        key, _ = parse_path(metrics_file("BTCUSDT", day_text(open_ms)))
        assert key is not None
        first = drawn(item, key, key.published_ms)
        last = drawn(item, key, key.published_ms + 30 * DAY_MS)
        if first != last:
            found.setdefault(next(iter(first)), (day_text(open_ms), key.published_ms))
    assert set(found) == {"archive_404", "metrics_republished"}
    for kind, (day, published_ms) in sorted(found.items(), key=lambda each: each[1][1]):
        clock.advance(published_ms - clock.now_ms())
        path, true = metrics_file("BTCUSDT", day), await read_metrics(http, "BTCUSDT", day)
        if kind == "archive_404":
            assert (await strange.get(path)).status_code == 404
        else:
            check_republished(true, await read_metrics(strange, "BTCUSDT", day), 3)
        clock.advance(30 * DAY_MS)
        assert await read_metrics(strange, "BTCUSDT", day) == true


async def test_days_that_are_known_for_a_quirk_have_it_for_some_symbols(
    clock: "ManualClock", http: httpx.AsyncClient
) -> None:
    short: list[int] = []
    async with (
        SandboxServer(clock, seed=1, symbols=6, options=Options(archive_quirks=True)) as quirky,
        httpx.AsyncClient(base_url=quirky.base_url, timeout=PATIENCE_S, verify=trusting_nobody()) as strange,
    ):
        first = await read_metrics(strange, "BTCUSDT", "2020-09-05")
        assert len(first) == 2 * len({tuple(row) for row in first}) == 576
        for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT", "ADAUSDT", "XRPUSDT", "DOGEUSDT"):
            answer = await strange.get(metrics_file(symbol, "2024-02-16"))
            short += [len(unpack(answer.content, metrics_file(symbol, "2024-02-16"))) - 1] if answer.is_success else []
        assert {163, 288} <= set(short)
    assert len(await read_metrics(http, "BTCUSDT", "2024-02-16")) == 288


async def test_quirks_are_the_same_for_the_same_seed_and_off_by_default(
    http: httpx.AsyncClient, strange: httpx.AsyncClient, quirky: SandboxServer, clock: "ManualClock"
) -> None:
    symbol, day, _ = drawn_days(quirky, at_publication=True)["metrics_conflicts"]
    path = metrics_file(symbol, day)
    first = (await strange.get(path)).content
    options = Options(archive_quirks=True)
    async with (
        SandboxServer(clock, seed=1, symbols=5, options=options) as again,
        SandboxServer(clock, seed=2, symbols=5, options=options) as other,
        httpx.AsyncClient(base_url=again.base_url, verify=trusting_nobody()) as same,
        httpx.AsyncClient(base_url=other.base_url, verify=trusting_nobody()) as different,
    ):
        assert (await same.get(path)).content == first
        assert (await http.get(path)).content != first
        assert (await different.get(path)).content != first
