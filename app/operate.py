"""What the commands backfill and gaps do, through a running node or without one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from app.domain.interval import D1, DAY_MS, Interval
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.holding.gaps import SeriesGap
from app.holding.wish import CLOSE_GRACE_MS
from app.kinds.registry import named
from app.node.node import Node
from app.node.parts import Parts
from app.node.prepare import CannotStart, prepare, require_database
from app.ports.clock import Clock
from app.ports.errors import StoreUnavailable, UpstreamError
from app.settings import Settings

POLL_S: Final = 0.5
ASK_TIMEOUT_S: Final = 10.0
ASK_TRIES_MAX: Final = 60
ASK_PAUSE_S: Final = 0.1
NOT_THE_WRITER: Final = 503
PAGE: Final = 1000  # the most series in one answer of /v1/coverage
STILL_POLLS: Final = 6  # polls without progress (three seconds) until the reason is printed

Report = dict[str, Any]
"""An answer of /v1/coverage."""


class OperateError(Exception):
    """A command cannot be carried out; the message says what to do."""


class _NoRoom(Exception):
    """The disk has no room for a backfill; the message says how much is missing."""


@dataclass(frozen=True, slots=True)
class _Watched:
    """What `backfill` polls: the coverage of a symbol, and the reasons for a lack of progress."""

    report: Callable[[str], Awaitable[Report]]
    hindrances: Callable[[], Awaitable[Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Target:
    """The series and the span of a command: times in ms, end exclusive; None stands for the node's wish."""

    symbols: tuple[str, ...] | None
    intervals: tuple[Interval, ...]
    start_ms: int | None
    end_ms: int | None

    def series(self, symbols: Sequence[str]) -> list[Series]:
        """The series of `symbols`, in the intervals that there are of each. Raises OperateError when there are none."""
        found = []
        for symbol in symbols:
            of_symbol = [named(symbol, interval) for interval in self.intervals]
            some = [each for each in of_symbol if each.interval in each.kind.intervals_of((each.interval,))]
            if not some:
                there_are = ", ".join(str(interval) for interval in of_symbol[0].kind.intervals)
                raise OperateError(f"{symbol} has rows of {there_are} only: name it with --interval")
            found += some
        return found

    def span(self, settings: Settings, now_ms: int) -> Span:
        """The span up to now; by default it starts BACKFILL_DAYS ago. Raises OperateError when it is empty."""
        start_ms = self.start_ms
        if start_ms is None:
            start_ms = D1.grid.floor(now_ms) - settings.backfill_days * DAY_MS
        span = Span(start_ms, now_ms if self.end_ms is None else min(self.end_ms, now_ms))
        if not span:
            raise OperateError("--start must be before --end and in the past")
        return span


async def gaps(settings: Settings, target: Target) -> list[SeriesGap]:
    """The gaps of the target according to the database, without asking the exchange. Raises OperateError."""
    node = Node(Parts(settings.without_exchange()))
    try:
        await node.parts.load_for_reading()
    except StoreUnavailable as error:
        raise OperateError(f"the database cannot be read: {error}") from error
    finally:
        await node.close()
    return _lacking(node.parts, settings, target)


def _lacking(parts: Parts, settings: Settings, target: Target) -> list[SeriesGap]:
    """The gaps of the target; a span given on the command line replaces the wished one. Raises OperateError."""
    found = []
    now_ms = parts.clock.now_ms()
    is_spanned = target.start_ms is not None or target.end_ms is not None
    symbols = target.symbols or tuple(parts.symbols.wished)
    known = parts.holdings.names() | set(parts.symbols.listings) | set(parts.symbols.wished)
    if unknown := [name for name in symbols if name.partition("@")[0] not in known]:
        raise OperateError(f"the exchange does not list {unknown[0]}")
    wished = {gap.series: gap for gap in parts.coverage.gaps()} if not is_spanned else {}
    for series in target.series(symbols):
        gap = wished.get(series)
        if gap is None:
            grid = parts.holdings.grid(series)
            span = target.span(settings, now_ms)
            asked = Spans(
                [Span(grid.ceil(span.start_ms), min(grid.ceil(span.end_ms), grid.floor(now_ms - CLOSE_GRACE_MS)))]
            )
            gap = SeriesGap(series, grid, asked, asked - parts.holdings.ledger(series).known, span)
        if gap.missing:
            found.append(gap)
    return found


async def missing_klines(settings: Settings, target: Target, now_ms: int) -> int:
    """How many klines a backfill of the target has to fetch, according to the database. Raises OperateError."""
    span = target.span(settings, now_ms)
    spanned = replace(target, start_ms=span.start_ms, end_ms=span.end_ms)
    try:
        found = await gaps(settings, spanned)
    except OperateError:  # no database yet, or an unknown symbol: nothing is held
        symbols = target.symbols or settings.symbols
        return len(symbols) * sum(interval.grid.count(*span) for interval in target.intervals)
    return sum(gap.grid.count(*piece) for gap in found for piece in gap.missing)


async def backfill(settings: Settings, target: Target, out: Console, cancel_command: str) -> None:
    """Fill the target, through the running node if there is one. Raises OperateError.

    On cancellation (Ctrl-C), print what continues, and `cancel_command`, which withdraws the wish.
    """
    async with node_or_holder(settings, out) as (parts, holder):
        if holder:
            goes_on = f"stopped watching; the node at {holder} goes on filling"
        else:
            goes_on = (
                "stopped; what was fetched is kept, the same command goes on from here, and so does a node that starts "
                "on this database"
            )
        try:
            if holder:
                await _through(holder, parts, target, out)
            else:
                await _by_itself(parts, settings, target, out)
        except _NoRoom as error:
            raise OperateError(f"{goes_on}: {error}. To withdraw the wish: {cancel_command}") from error
        except asyncio.CancelledError:
            out.print(
                f"{goes_on}. To withdraw the wish: {cancel_command}", markup=False, highlight=False, soft_wrap=True
            )
            raise


async def cancel(settings: Settings, target: Target, out: Console) -> Report:
    """Withdraw the wishes of `backfill`, through the running node if there is one. Raises OperateError.

    Without --start, the span begins with the first kline. Held klines stay.
    """
    async with node_or_holder(settings, out, makes_database=False) as (parts, holder):
        now_ms = parts.clock.now_ms()
        span = Span(target.start_ms or 0, now_ms if target.end_ms is None else target.end_ms)
        if not span:
            raise OperateError("--start must be before --end and in the past")
        if holder is None:
            symbols = target.symbols or tuple({series.name: None for series in parts.holdings.extra_wishes})
            series = target.series(symbols)
            withdrawn, remaining = await parts.backfill.withdraw(series, span)
            return {"withdrawn": withdrawn, "remaining": remaining}
        async with node_client(holder, parts) as client:
            symbols = target.symbols or await wished_symbols(client)
            body = wish_of(symbols, target.intervals, span)
            return await ask_writer(client, "DELETE", "/v1/admin/backfill", parts.clock, body)


@asynccontextmanager
async def node_or_holder(
    settings: Settings, out: Console, *, makes_database: bool = True
) -> AsyncIterator[tuple[Parts, str | None]]:
    """Give the parts of a running node and None, or, while another node is the writer, parts and the writer's URL.

    The running node holds the lease and follows no symbols; the other one has not been started. Raises OperateError,
    also where there is no database and none shall be made.
    """
    try:
        if not makes_database:
            require_database(settings.db_url)
        await prepare(settings)
    except CannotStart as error:
        raise OperateError(str(error)) from error
    quiet = settings.model_copy(update={"log_level": "ERROR", "verify_every_days": 0})
    node = Node(Parts(quiet.without_exchange(), extra_wishes_only=True))
    holder = await node.parts.lease.holder()
    await node.close()
    if holder:
        out.print(f"the node at {holder} is the writer: asking it")
        yield node.parts, holder
        return
    if faults := quiet.outbound_faults():
        raise OperateError("the exchange cannot be asked: " + "; ".join(faults))
    node = Node(Parts(quiet, extra_wishes_only=True))
    async with node.running():
        if node.writer is None:
            raise OperateError(node.parts.store_state.error or "another process holds the writer lease; try again")
        yield node.parts, None


async def listed_symbols(parts: Parts, target: Target) -> tuple[str, ...]:
    """The target's symbols, or all wished ones, checked against the exchange's list. Raises OperateError."""
    try:
        await parts.symbols.refresh()
    except UpstreamError as error:
        if parts.symbols.synced_ms is None:
            raise OperateError(f"the exchange cannot be reached: {error}") from error
    symbols = target.symbols or tuple(parts.symbols.wished)
    if unknown := [name for name in symbols if name.partition("@")[0] not in parts.symbols.listings]:
        raise OperateError(f"the exchange does not list {unknown[0]}")
    return symbols


async def _by_itself(parts: Parts, settings: Settings, target: Target, out: Console) -> None:
    symbols = await listed_symbols(parts, target)
    span = target.span(settings, parts.clock.now_ms())
    series = target.series(symbols)
    await parts.backfill.request(series, span)

    async def report(symbol: str) -> Report:
        return parts.coverage.report(symbol, None, 0, PAGE)

    async def hindrances() -> Sequence[str]:
        if parts.role.paused is not None:
            raise _NoRoom(parts.role.paused)
        failed = parts.role.fetch_error
        return [*parts.health.upstream_reasons(), *([f"the last failed fetch: {failed}"] if failed is not None else [])]

    await _watch(_Watched(report, hindrances), symbols, target.intervals, span, parts.clock, out)


async def _through(url: str, parts: Parts, target: Target, out: Console) -> None:
    clock = parts.clock
    span = target.span(parts.settings, clock.now_ms())
    async with node_client(url, parts) as client:

        async def report(symbol: str) -> Report:
            return await _coverage(client, symbol=symbol)

        async def hindrances() -> Sequence[str]:
            health: Report = (await client.get("/v1/health")).json()
            return [str(reason) for reason in health["reasons"]]

        symbols = target.symbols or await wished_symbols(client)
        await ask_writer(client, "POST", "/v1/admin/backfill", clock, wish_of(symbols, target.intervals, span))
        await _watch(_Watched(report, hindrances), symbols, target.intervals, span, clock, out)


@asynccontextmanager
async def node_client(url: str, parts: Parts) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client with the admin token for the running node at `url`, which shares the database of `parts`.

    Raises OperateError.
    """
    settings = parts.settings
    token = settings.admin_token.get_secret_value() if settings.admin_token else _local_token(parts)
    headers = {b"authorization": f"Bearer {token}".encode()} if token else {}  # bytes: a token may not be ASCII
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=ASK_TIMEOUT_S) as client:
        try:
            yield client
        except httpx.TransportError as error:
            raise OperateError(f"the node at {url} does not answer: {error}") from error


def _local_token(parts: Parts) -> str | None:
    """The token from a running node's token file, None if there is none. Raises OperateError."""
    try:
        return parts.token_file.read()
    except OSError as error:
        raise OperateError(
            f"{parts.token_file.path} cannot be read: {error.strerror or error}; run this as the user that the node "
            "runs as, or set ADMIN_TOKEN for both"
        ) from error


def wish_of(symbols: Sequence[str], intervals: Sequence[Interval], span: Span) -> dict[str, Any]:
    """The body of an admin request about a span of symbols × intervals."""
    codes = [interval.code for interval in intervals]
    return {"symbols": symbols, "intervals": codes, "start": span.start_ms, "end": span.end_ms}


async def ask_writer(
    client: httpx.AsyncClient, method: str, path: str, clock: Clock, body: dict[str, Any] | None = None
) -> Report:
    """The writer's answer to a request to any process of the node. Raises OperateError.

    A 503 is retried ASK_TRIES_MAX times, ASK_PAUSE_S apart: another process may be taking over as the writer.
    """
    for number in range(ASK_TRIES_MAX):
        answer = await client.request(method, path, json=body)
        if answer.is_success:
            report: Report = answer.json()
            return report
        if answer.status_code != NOT_THE_WRITER or number == ASK_TRIES_MAX - 1:
            raise OperateError(f"the node refused ({answer.status_code}): {_error_of(answer)}")
        await clock.sleep(ASK_PAUSE_S)
    raise AssertionError("the last try returns or raises")


def _error_of(answer: httpx.Response) -> str:
    """What an answer says is wrong: the sentence of our own errors, or the body of another program's."""
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return answer.text


async def _coverage(client: httpx.AsyncClient, **params: str | int) -> Report:
    answer = await client.get("/v1/coverage", params={"limit": PAGE, **params})
    if answer.is_error:
        raise OperateError(f"the node refused ({answer.status_code}): {answer.text}")
    report: Report = answer.json()
    return report


async def wished_symbols(client: httpx.AsyncClient) -> tuple[str, ...]:
    """The symbols of all series that the node's coverage lists. Raises OperateError."""
    symbols: dict[str, None] = {}
    offset = 0
    while True:
        report = await _coverage(client, offset=offset)
        symbols.update(dict.fromkeys(entry["symbol"] for entry in report["series"]))
        offset += PAGE
        if offset >= report["total"]:
            return tuple(symbols)


async def _watch(
    watched: _Watched,
    symbols: tuple[str, ...],
    intervals: tuple[Interval, ...],
    span: Span,
    clock: Clock,
    out: Console,
) -> None:
    """Show the progress of a span until it is filled; while there is none, print the reasons."""
    with Progress(*_COLUMNS, console=out) as progress:
        task = progress.add_task("backfill", total=None)
        printed: Sequence[str] = ()
        least_missing, still_polls = None, 0
        while True:
            total = missing = 0
            for symbol in symbols:
                answer = await watched.report(symbol)
                entries = {entry["interval"]: entry for entry in answer["series"]}
                for interval in intervals:
                    grid = interval.grid
                    due_ms = grid.floor(answer["as_of"])
                    asked = Span(grid.ceil(span.start_ms), min(grid.ceil(span.end_ms), due_ms))
                    total += grid.count(*asked)
                    lacking = _lacking_by(entries.get(interval.code), asked, interval)
                    missing += sum(grid.count(*piece) for piece in lacking)
            progress.update(task, total=total, completed=total - missing)
            if not missing:
                return
            if least_missing is None or missing < least_missing:
                least_missing, still_polls = missing, 0
            else:
                still_polls += 1
            if still_polls >= STILL_POLLS:
                reasons = await watched.hindrances()
                for reason in reasons:
                    if reason not in printed:
                        out.print(f"waiting: {reason}", markup=False, highlight=False, soft_wrap=True)
                printed = reasons
            await clock.sleep(POLL_S)


def _lacking_by(entry: Report | None, asked: Span, interval: Interval) -> Spans:
    """What is missing of `asked` according to a series' coverage: all of it until its wish covers `asked`.

    The 3d grid's anchor in the answer may differ from ours, so that `asked` is compared less one step at each end.
    """
    margin_ms = interval.grid.step_ms if interval.needs_anchor else 0
    inner = Span(asked.start_ms + margin_ms, asked.end_ms - margin_ms)
    if not asked:
        return Spans()
    if entry is None or not _spans(entry["wished"]).covers(inner):
        return Spans([asked])
    return _spans(entry["missing"]).clip(asked)


def _spans(pairs: list[dict[str, int]]) -> Spans:
    return Spans((pair["start"], pair["end"]) for pair in pairs)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f} klines/s")


_COLUMNS: Final = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
