import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from app.binance import rest_rows
from app.binance.statistics_rows import TAKERS
from app.binance.weights import klines_weight
from app.domain.interval import DAY_MS, INTERVALS, M1, MINUTE_MS
from app.domain.kind import Bucket, Kind
from app.domain.series import Series
from app.domain.span import Span
from app.events import GarbageDropped, RequestDone, StandDownBegan
from app.kinds.klines import KLINES, ROWS_MAX
from app.kinds.metrics import METRICS
from app.kinds.price_klines import PREMIUM, PRICES
from app.outbound import Egress, proxy_of
from app.ports.clock import Clock
from app.ports.errors import StandDown, UpstreamGarbage, UpstreamRejected, UpstreamUnavailable
from app.ports.exchange import Priority, RawAnswer
from infra.binance.rest import TRIES_MAX_USER, BinanceRest
from infra.binance.stand_down import StandDownGuard
from infra.net import http as http_module
from infra.net.http import PAUSE_S_MAX, TRIES_MAX
from infra.process.clock import SystemClock
from infra.sandbox.server import SandboxServer
from tests.binance.upstream import Upstream
from tests.clocks import START_MS, HastyClock
from tests.fast_clock import ScaledClock
from tests.net.loopback import Host, Reply, Witness, http_host, proxy, runtime, to
from tests.patience import PATIENCE_S

BTC = Series(KLINES, "BTCUSDT", M1)


def row(open_ms: int, price: str = "1.5") -> list[object]:
    return [open_ms, price, price, price, price, "2", open_ms + 59_999, "3", 4, "1", "1.5", "0"]


def rows(*minutes: int) -> bytes:
    return msgspec.json.encode([row(START_MS + minute * MINUTE_MS) for minute in minutes])


@dataclass
class Case:
    clock: HastyClock
    witness: Witness
    guard: StandDownGuard
    rest: BinanceRest
    host: Host
    saved: list[tuple[int, str]]

    async def klines(self, priority: Priority = Priority.TAIL) -> Sequence[Any]:
        return await self.rest.klines(BTC, M1.grid, Span(START_MS, START_MS + 3 * MINUTE_MS), 3, priority)


@asynccontextmanager
async def case(answer: Callable[[str], Reply], clock: HastyClock | None = None) -> AsyncIterator[Case]:
    clock, witness, saved = clock or HastyClock(), Witness(), list[tuple[int, str]]()

    async def save(until_ms: int, reason: str) -> None:
        saved.append((until_ms, reason))

    upstream = Upstream(clock, witness=witness, save=save)
    async with http_host(answer) as host:
        rest = BinanceRest(to(host.url), runtime(clock, witness), upstream.budget)
        try:
            yield Case(clock, witness, upstream.guard, rest, host, saved)
        finally:
            await rest.aclose()


@asynccontextmanager
async def sandboxed(clock: Clock, limit: int = 2_400) -> AsyncIterator[tuple[SandboxServer, BinanceRest, Witness]]:
    witness = Witness()
    async with SandboxServer(clock, seed=1, symbols=3) as sandbox:
        rest = BinanceRest(
            to(sandbox.base_url), runtime(clock, witness), Upstream(clock, limit, witness=witness).budget
        )
        try:
            yield sandbox, rest, witness
        finally:
            await rest.aclose()


def test_klines_weight_follows_the_documented_brackets() -> None:
    assert [klines_weight(limit) for limit in (1, 99, 100, 499, 500, 1_000, 1_001, 1_500)] == [1, 1, 2, 2, 5, 5, 10, 10]


async def test_the_sandbox_is_read_in_every_interval() -> None:
    clock = ScaledClock(START_MS + 2_000, 1.0)  # 58 s before the weight is counted from 0 again
    async with sandboxed(clock) as (_, rest, witness):
        for interval in INTERVALS.values():
            rows = 5 if interval.grid.step_ms <= DAY_MS else 1  # the sandbox computes every minute of them
            assert await rest.klines(Series(KLINES, "BTCUSDT", interval), interval.grid, None, rows, Priority.USER)
        assert b"BTCUSDT" in await rest.exchange_info(Priority.USER)
        assert abs(await rest.server_time_ms(Priority.USER) - clock.now_ms()) < 10_000
        done = witness.of(RequestDone)
        assert all(event.status == 200 for event in done)
        assert max(event.used_weight or 0 for event in done) == sum(event.weight for event in done)


async def test_a_window_and_its_limit_reach_the_exchange() -> None:
    clock = SystemClock()
    start_ms = clock.now_ms() // MINUTE_MS * MINUTE_MS - 100 * MINUTE_MS
    async with sandboxed(clock) as (_, rest, _witness):
        window = Span(start_ms, start_ms + 10 * MINUTE_MS)
        whole = await rest.klines(BTC, M1.grid, window, ROWS_MAX, Priority.BACKFILL)
        assert [kline.open_ms for kline in whole] == list(range(window.start_ms, window.end_ms, MINUTE_MS))
        assert await rest.klines(BTC, M1.grid, window, 3, Priority.BACKFILL) == whole[:3]


@pytest.mark.parametrize("kind", PRICES.values(), ids=lambda kind: kind.name)
async def test_klines_of_prices_come_from_the_path_of_their_kind(kind: Kind) -> None:
    body = rows(0, 1).replace(b'"1.5"', b'"-0.00012345"', 1)
    async with case(lambda _: Reply(200, body)) as run:
        series, window = Series(kind, "BTCUSDT", M1), Span(START_MS, START_MS + 2 * MINUTE_MS)
        if kind is PREMIUM:
            first, _ = await run.rest.klines(series, M1.grid, window, 2, Priority.TAIL)
            assert (first.open, first.high) == ("-0.00012345", "1.5")
        else:
            with pytest.raises(UpstreamGarbage, match="not plain decimals"):
                await run.rest.klines(series, M1.grid, window, 2, Priority.TAIL)
        (asked,) = run.host.requests
        times = f"startTime={window.start_ms}&endTime={window.end_ms - 1}"
        assert asked == f"{kind.rest.path}?{kind.rest.symbol}=BTCUSDT&interval=1m&limit=2&{times}"


async def test_many_requests_at_once_stay_within_what_the_sandbox_counts() -> None:
    async with sandboxed(SystemClock()) as (sandbox, rest, _):
        async with asyncio.TaskGroup() as tasks:
            for _i in range(60):
                tasks.create_task(rest.klines(BTC, M1.grid, None, 1, Priority.BACKFILL))
        assert {entry.status for entry in sandbox.journal.entries} == {200}


async def test_an_answer_is_handed_on_as_it_came_and_so_is_a_refusal() -> None:
    replies = iter(
        [
            Reply(body=b'[ {"b":1,"a":"0.10"} ]'),
            Reply(400, b'{"msg":"parameter \'startTime\' is invalid.","code":-1130}'),
            Reply(401, b'{"code":-2014,"msg":"API-key format invalid."}'),
        ]
    )
    async with case(lambda _: next(replies)) as run:
        answers = [await run.rest.ask("/fapi/v1/x", {"a": "币"}, 3, None, Priority.USER) for _ in range(3)]
        assert answers == [
            RawAnswer(200, b'[ {"b":1,"a":"0.10"} ]'),
            RawAnswer(400, b'{"msg":"parameter \'startTime\' is invalid.","code":-1130}'),
            RawAnswer(401, b'{"code":-2014,"msg":"API-key format invalid."}'),
        ]
        assert run.host.requests == ["/fapi/v1/x?a=%E5%B8%81"] * 3
        assert [event.weight for event in run.witness.of(RequestDone)] == [3, 3, 3], "refusals cost weight too"


@pytest.mark.parametrize(
    "reply", [Reply(body=b"<html>"), Reply(body=b'{"a":'), Reply(404, b"<html>"), Reply(body=b"")], ids=str
)
async def test_an_answer_that_is_none_is_not_handed_on(reply: Reply) -> None:
    async with case(lambda _: reply) as run:
        with pytest.raises((UpstreamGarbage, UpstreamUnavailable)):
            await run.rest.ask("/fapi/v1/x", {}, 1, None, Priority.USER)


async def test_a_429_of_a_bucket_is_a_stand_down_like_any_other() -> None:
    async with case(lambda _: Reply(429, b'{"code":-1003,"msg":"Too many requests"}')) as run:
        for bucket in (Bucket.FUNDING, None):
            with pytest.raises(StandDown):
                await run.rest.ask("/fapi/v1/x", {}, 0, bucket, Priority.USER)
        assert len(run.host.requests) == 1


async def test_symbols_beyond_ascii_are_percent_encoded() -> None:
    async with case(lambda _: Reply(body=b"[]")) as run:
        assert await run.rest.klines(Series(KLINES, "币安人生USDT", M1), M1.grid, None, 1, Priority.USER) == []
        assert "symbol=%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9FUSDT" in run.host.requests[0]


async def test_after_a_429_no_request_leaves_for_as_long_as_it_says() -> None:
    replies = iter([Reply(429, b'{"code":-1003,"msg":"Too many requests"}', (("Retry-After", "120"),))])
    async with case(lambda _: next(replies, Reply(body=rows(0, 1, 2)))) as run:
        began_ms = run.clock.now_ms()
        with pytest.raises(StandDown) as stood:
            await run.klines()
        assert stood.value.until_ms == began_ms + 120_000
        assert [until_ms for until_ms, _ in run.saved] == [began_ms + 120_000], "saved before the error is seen"
        for passed_ms in range(0, 120_000, 1_000):
            run.clock.time_ms = began_ms + passed_ms
            with pytest.raises(StandDown):
                await run.klines(Priority.USER)
        assert len(run.host.requests) == 1
        assert len(run.witness.of(StandDownBegan)) == 1
        run.clock.time_ms = began_ms + 120_000
        assert len(await run.klines()) == 3


async def test_a_request_that_still_waits_for_its_connection_when_a_stand_down_begins_never_leaves() -> None:
    """Found by the simulation: requests admitted before a ban were sent up to five seconds into it."""
    async with case(lambda _: Reply(body=rows(0, 1, 2))) as here, asyncio.TaskGroup() as tasks:

        def banned_meanwhile() -> Callable[[int], None]:
            tasks.create_task(here.guard.announce(418, "600", "", here.clock.now_ms()))
            return lambda _: None

        here.rest._asking = banned_meanwhile
        with pytest.raises(StandDown):
            await here.klines()
        assert here.host.requests == []
        assert [(done.status, done.used_weight) for done in here.witness.of(RequestDone)] == [(0, None)]


@pytest.mark.parametrize(
    ("stated", "heard"),
    [
        ("Sun, 01 Nov 2026 00:00:07 GMT", [1_793_491_207_000]),
        ("Fri, 31 Dec 9999 23:59:59 GMT", []),
        ("Mon, 01 Jan 0001 00:00:00 GMT", []),
        ("Sun, 01 Nov 2026 00:00:07 +9999", []),
        ("nonsense", []),
    ],
)
async def test_a_date_that_nobody_can_mean_does_not_move_the_clock(stated: str, heard: list[int]) -> None:
    dates: list[int] = []
    async with case(lambda _: Reply(body=b"[]", headers=(("Date", stated),))) as run:
        budget = Upstream(run.clock).budget
        rest = BinanceRest(to(run.host.url), runtime(run.clock, run.witness), budget, asking=lambda: dates.append)
        assert await rest.klines(BTC, M1.grid, None, 1, Priority.USER) == []
        await rest.aclose()
    assert dates == heard


async def test_a_ban_of_hours_is_honoured_in_full_and_by_the_next_run() -> None:
    until_ms = START_MS + 5 * 3_600_000
    body = f'{{"code":-1003,"msg":"Way too many requests; IP(1.2.3.4) banned until {until_ms}."}}'.encode()
    async with case(lambda _: Reply(418, body)) as run:
        with pytest.raises(StandDown):
            await run.klines()
    async with case(lambda _: Reply(body=rows(0, 1, 2))) as again:
        await again.guard.restore(*run.saved[0])
        again.clock.time_ms = until_ms - 1
        with pytest.raises(StandDown):
            await again.klines()
        assert again.host.requests == []
        again.clock.time_ms = until_ms
        assert len(await again.klines()) == 3


async def test_requests_in_flight_when_the_limit_is_hit_make_one_stand_down() -> None:
    is_limited = False

    def answer(_: str) -> Reply:
        if not is_limited:
            return Reply(body=b"[]", headers=(("X-MBX-USED-WEIGHT-1M", "1"),))
        return Reply(429, b'{"code":-1003,"msg":"Too many requests"}', hold=gate)

    gate = asyncio.Event()
    async with case(answer) as run:
        run.clock.time_ms += 5_000
        await run.klines()
        is_limited = True

        async def refused() -> None:
            with pytest.raises(StandDown):
                await run.klines()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(10):
                tasks.create_task(refused())
            async with asyncio.timeout(PATIENCE_S):
                while len(run.host.requests) < 11:
                    await run.clock.sleep(0)
            gate.set()
        assert len(run.witness.of(StandDownBegan)) == 1
        assert len(run.saved) == 1


@pytest.mark.parametrize("status", [403, 451])
async def test_refusals_of_the_address_stand_down_too(status: int) -> None:
    async with case(lambda _: Reply(status, b"<html>denied</html>")) as run:
        with pytest.raises(StandDown, match=str(status)):
            await run.klines()


@pytest.mark.parametrize(
    ("priority", "tries"), [(Priority.USER, TRIES_MAX_USER), (Priority.TAIL, TRIES_MAX), (Priority.VERIFY, TRIES_MAX)]
)
@pytest.mark.parametrize(
    "reply",
    [
        Reply(503, b'{"code":-1008,"msg":"Request throttled by system-level protection."}'),
        Reply(500, b""),
        Reply(408, b"timeout"),
        Reply(200, rows(0), missing_bytes=50),
    ],
)
async def test_failures_are_tried_again_a_bounded_number_of_times(reply: Reply, priority: Priority, tries: int) -> None:
    async with case(lambda _: reply) as run:
        with pytest.raises(UpstreamUnavailable):
            await run.klines(priority)
        assert len(run.host.requests) == tries
        assert len(run.witness.of(RequestDone)) == tries, "every try spends weight and is told"
        assert all(pause_s <= PAUSE_S_MAX for pause_s in run.clock.slept_s if pause_s < MINUTE_MS / 1_000 - 5)


async def test_a_failure_that_passes_is_not_seen_by_the_caller() -> None:
    replies = iter([Reply(502, b""), Reply(200, b"[[", missing_bytes=9)])
    async with case(lambda _: next(replies, Reply(body=rows(0, 1, 2)))) as run:
        assert len(await run.klines()) == 3


async def test_nobody_listening_is_unavailable() -> None:
    async with case(lambda _: Reply()) as run:
        pass
    with pytest.raises(UpstreamUnavailable):
        await _fresh(run).klines()


def _fresh(run: Case) -> Case:
    budget = Upstream(run.clock, witness=run.witness).budget
    return Case(
        run.clock,
        run.witness,
        run.guard,
        BinanceRest(to(run.host.url), runtime(run.clock, run.witness), budget),
        run.host,
        [],
    )


async def test_the_exchanges_own_refusals_are_not_tried_again() -> None:
    async with case(lambda _: Reply(400, b'{"code":-1121,"msg":"Invalid symbol."}')) as run:
        with pytest.raises(UpstreamRejected) as rejected:
            await run.klines()
        assert (rejected.value.status, rejected.value.code) == (400, -1121)
        assert len(run.host.requests) == 1


async def test_a_refusal_that_is_not_the_exchanges_is_no_rejection() -> None:
    async with case(lambda _: Reply(404, b"<html>captive portal</html>")) as run:
        with pytest.raises(UpstreamUnavailable, match="not an answer of Binance"):
            await run.klines()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>maintenance</html>",
        b'{"code":0}',
        b"[[",
        b"[" * 200_000,
        rows(3),  # outside the window
        rows(-1, 0),
        rows(0, 0),
        rows(1, 0),
        rows(0, 1, 2) + b"]",
        msgspec.json.encode([row(START_MS + 5)]),
        msgspec.json.encode([row(START_MS, "NaN")]),
        msgspec.json.encode([row(START_MS, "1e5")]),
        msgspec.json.encode([row(START_MS)[:11]]),
    ],
)
async def test_garbage_is_counted_and_nothing_of_it_is_used(body: bytes) -> None:
    async with case(lambda _: Reply(body=body)) as run:
        with pytest.raises(UpstreamGarbage):
            await run.klines()
        (event,) = run.witness.of(GarbageDropped)
        assert "BTCUSDT" in event.where


@pytest.mark.parametrize("kind", METRICS.values(), ids=METRICS)
async def test_a_row_of_another_symbol_is_garbage(kind: Kind) -> None:
    series, grid = Series(kind, "BTCUSDT", INTERVALS["5m"]), INTERVALS["5m"].grid
    start_ms = grid.floor(START_MS)
    opens = (start_ms, start_ms + 5 * MINUTE_MS)
    printed = [kind.encode(kind.row(open_ms, "1", "2", "3"), 0) for open_ms in opens]

    def body(*symbols: str) -> bytes:
        return rest_rows.join(kind.finished(row, symbol) for row, symbol in zip(printed, symbols, strict=True))

    async def ask(answer: bytes) -> Sequence[Any]:
        async with case(lambda _: Reply(body=answer)) as run:
            return await run.rest.klines(series, grid, Span(start_ms, start_ms + 10 * MINUTE_MS), 2, Priority.TAIL)

    assert [row.open_ms for row in await ask(body("BTCUSDT", "BTCUSDT"))] == list(opens)
    if kind.name == TAKERS:
        return  # its rows state no symbol
    for symbols in (("ETHUSDT", "BTCUSDT"), ("BTCUSDT", "ETHUSDT"), ("ETHUSDT", "ETHUSDT")):
        with pytest.raises(UpstreamGarbage, match="a row of 'ETHUSDT' instead of 'BTCUSDT'"):
            await ask(body(*symbols))


async def test_more_rows_than_asked_for_are_garbage() -> None:
    async with case(lambda _: Reply(body=rows(0, 1, 2))) as run:
        with pytest.raises(UpstreamGarbage, match="3 rows where 2"):
            await run.rest.klines(BTC, M1.grid, None, 2, Priority.USER)


@pytest.mark.parametrize("open_ms", [253_399_622_400_000, 10**18, -(10**18)])
async def test_a_month_beyond_the_calendar_is_garbage(open_ms: int) -> None:
    month = INTERVALS["1M"]
    async with case(lambda _: Reply(body=msgspec.json.encode([row(open_ms)]))) as run:
        with pytest.raises(UpstreamGarbage):
            await run.rest.klines(Series(KLINES, "BTCUSDT", month), month.grid, None, 1, Priority.USER)


@pytest.mark.parametrize("time", [b'"soon"', b"0", b"-5", b"1" + b"0" * 30])
async def test_the_exchanges_time_must_be_one_that_it_can_mean(time: bytes) -> None:
    async with case(lambda _: Reply(body=b'{"serverTime":%b}' % time)) as run:
        with pytest.raises(UpstreamGarbage):
            await run.rest.server_time_ms(Priority.USER)


@pytest.mark.parametrize("is_packed", [False, True])
async def test_an_answer_without_end_is_cut(is_packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    body = b" " * (40 * 1024 * 1024)
    reply = Reply(body=gzip.compress(body), headers=(("content-encoding", "gzip"),)) if is_packed else Reply(body=body)
    async with case(lambda _: reply) as run:
        with pytest.raises(UpstreamGarbage, match="more than"):
            await run.rest.exchange_info(Priority.USER)
        assert len(run.host.requests) == 1


async def test_an_answer_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "TOTAL_S_MAX", 0.05)
    gate = asyncio.Event()
    async with case(lambda _: Reply(hold=gate)) as run:
        with pytest.raises(UpstreamUnavailable, match="no whole answer"):
            await run.klines(Priority.USER)
        gate.set()


async def test_the_proxy_handed_in_is_used_and_none_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with case(lambda _: Reply(body=rows(0, 1, 2))) as run, proxy(run.host.port) as middle:
        assert len(await run.klines()) == 3, "the environment's proxy is ignored"
        budget = Upstream(run.clock).budget
        far = BinanceRest(
            to("http://exchange.test", Egress(proxy_of(middle.url))), runtime(run.clock, run.witness), budget
        )
        window = Span(START_MS, START_MS + 3 * MINUTE_MS)
        assert len(await far.klines(BTC, M1.grid, window, 3, Priority.USER)) == 3
        assert middle.requests[0].startswith("GET http://exchange.test/fapi/v1/klines?")
        await far.aclose()
