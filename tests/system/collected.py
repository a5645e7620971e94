"""What a reader holds of the collector's streams by the rules of docs/collector.md, with plain nats-py.

It shares no code with the collector.
"""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NothingMore
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import NotFoundError

from tests.nats_server import heard
from tests.patience import PATIENCE_S

STREAMS: Final = ("MARKET_TRADES", "MARKET_BOOKS", "MARKET_SERIES", "MARKET_STATES")
FETCHED: Final = 1_000  # messages of one pull
MORE_S: Final = 0.5  # a local server has answered long before
CHECK_EVERY: Final = 97  # records of a book between two that are kept to be compared
CHECKS_MAX: Final = 60  # of a book: each has some thousand levels
Json = dict[str, Any]


class Source(NamedTuple):
    """An instrument as the bodies name it; `name` is the exchange's own."""

    exchange: str
    market: str
    name: str


class Lost(NamedTuple):
    """A gap in its last state; sequences are None where the type has none."""

    type: str
    first: int | None
    end: int | None
    from_ms: int
    to_ms: int
    state: str
    reason: str


class Lag(NamedTuple):
    """When a message was stored, and how long after the exchange's time and the receipt of its last trade."""

    stored_ms: int
    after_exchange_ms: int
    after_receipt_ms: int


class Check(NamedTuple):
    """A whole book at one of the exchange's sequence numbers; levels by price."""

    native: int
    bids: dict[Decimal, Decimal]
    asks: dict[Decimal, Decimal]


@dataclass
class Book:
    """The book of one instrument; `is_held` is false until a snapshot comes, and after a record that does not join."""

    epoch: int = -1
    sequence: int = -1
    is_held: bool = False
    bids: dict[Decimal, Decimal] = field(default_factory=dict)
    asks: dict[Decimal, Decimal] = field(default_factory=dict)
    native: int = 0
    records: int = 0
    not_joining: int = 0
    checks: list[Check] = field(default_factory=list)

    def take(self, body: Json) -> None:
        """Apply a record by the rule: a snapshot replaces, a delta joins `sequence` − 1 of its epoch."""
        epoch, sequence = body["epoch"], body["sequence"]
        self.records += 1
        if (epoch, sequence) <= (self.epoch, self.sequence):
            return  # it comes twice
        joins = (epoch, sequence - 1) == (self.epoch, self.sequence)
        self.epoch, self.sequence = epoch, sequence
        if body["is_snapshot"]:
            self.bids, self.asks, self.is_held = {}, {}, True
        elif not (joins and self.is_held):
            self.not_joining += self.is_held
            self.is_held = False
            return
        for side, levels in ((self.bids, body["bids"]), (self.asks, body["asks"])):
            for level in levels:
                price, amount = Decimal(level["price"]), Decimal(level["amount"])
                if amount:
                    side[price] = amount
                else:
                    side.pop(price, None)
        self.native = body["native_sequence"]
        if body["is_snapshot"] or self.records % CHECK_EVERY == 0:
            self.check()

    def check(self) -> None:
        """Keep the book as it is, to be compared; of too many every second one is dropped."""
        self.checks.append(Check(self.native, dict(self.bids), dict(self.asks)))
        if len(self.checks) > CHECKS_MAX:
            del self.checks[1::2]


@dataclass
class Collected:
    """Everything that was read."""

    messages: Counter[str] = field(default_factory=Counter)
    """By the subject."""
    records: Counter[str] = field(default_factory=Counter)
    """By type, with those that come twice."""
    trades: dict[Source, dict[int, Json]] = field(default_factory=lambda: defaultdict(dict))
    repeated: int = 0
    """Trades that came again in another message; the rule drops them."""
    differing: list[str] = field(default_factory=list)
    """Trades and final klines that came twice and not alike."""
    books: dict[Source, Book] = field(default_factory=lambda: defaultdict(Book))
    klines: dict[Source, dict[int, Json]] = field(default_factory=lambda: defaultdict(dict))
    """The final ones, by the open time."""
    fundings: dict[Source, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    """The rates that were paid."""
    forecasts: Counter[Source] = field(default_factory=Counter)
    interests: dict[Source, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    gaps: dict[Source, dict[tuple[str, int | None, int | None, int, int], Lost]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    lags: list[Lag] = field(default_factory=list)
    """Of each message of trades."""
    behind: dict[Source, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Trades that came first after one with a higher sequence."""
    _newest: dict[Source, int] = field(default_factory=dict)

    def take(self, subject: str, headers: dict[str, str], body: Json, stored_ms: int) -> None:
        """Take one message."""
        source = Source(body["exchange_name"], body["market"], body["symbol_name"])
        assert headers["Klinenode-Market"] == source.market
        self.messages[subject] += 1
        match headers["Klinenode-Schema"]:
            case "trade/1":
                self._trades(source, [_row(body)], stored_ms)
            case "trades/1":
                self._trades(source, [_row_of(row) for row in body["trades"]], stored_ms)
            case "orderbook_snapshot/1" | "orderbook_delta/1":
                self.records["orderbook"] += 1
                self.books[source].take(body)
            case "kline/1":
                self.records["kline"] += 1
                if body["is_final"]:
                    self._kline(source, body)
            case "funding_rate/1":
                self.records["funding_rate"] += 1
                if body["is_final"]:
                    self.fundings[source][_ms(body["funding_time"])] = body["rate"]
                else:
                    self.forecasts[source] += 1
            case "open_interest/1":
                self.records["open_interest"] += 1
                self.interests[source].append((_ms(body["timestamp"]), body["amount"]))
            case "gap/1":
                self.records["gap"] += 1
                self._gap(source, body)
            case "ticker/1":
                self.records["ticker"] += 1
            case other:
                raise AssertionError(f"an unknown schema: {other}")

    def lost(self, source: Source, data_type: str, state: str) -> list[Lost]:
        """The gaps of a type whose last state is `state`."""
        return [each for each in self.gaps[source].values() if each.type == data_type and each.state == state]

    def _trades(self, source: Source, rows: list[Json], stored_ms: int) -> None:
        held = self.trades[source]
        self.records["trade"] += len(rows)
        self.lags.append(Lag(stored_ms, stored_ms - rows[-1]["time_ms"], stored_ms - rows[-1]["received_ms"]))
        newest = self._newest.get(source, -1)
        for row in rows:
            del row["received_ms"]  # it differs in what was fetched again
            sequence = row["sequence"]
            before = held.setdefault(sequence, row)
            if before is not row:
                self.repeated += 1
                if before != row:
                    self.differing.append(f"{source} trade {before} and {row}")
            elif sequence < newest:
                self.behind[source].append(sequence)
            newest = max(newest, sequence)
        self._newest[source] = newest

    def _kline(self, source: Source, body: Json) -> None:
        row = {name: body[name] for name in ("open", "high", "low", "close", "volume")}
        open_ms = _ms(body["open_time"])
        if self.klines[source].setdefault(open_ms, row) != row:
            self.differing.append(f"{source} kline {open_ms}: {self.klines[source][open_ms]} and {row}")

    def _gap(self, source: Source, body: Json) -> None:
        first, end = body.get("from_sequence"), body.get("to_sequence")
        lost = Lost(body["data_type"], first, end, _ms(body["from"]), _ms(body["to"]), body["state"], body["reason"])
        of_time = (0, 0) if first is not None else (lost.from_ms, lost.to_ms)
        self.gaps[source][(lost.type, first, end, *of_time)] = lost


def _row(body: Json) -> Json:
    times = {"time_ms": _ms(body["timestamp"]), "received_ms": _ms(body["received"])}
    return {name: body[name] for name in _NAMES} | times


def _row_of(row: list[Any]) -> Json:
    sequence, trade_id, price, quantity, amount, time_ms, received_ms, maker = row
    values = (sequence, trade_id, price, quantity, amount, maker)
    return dict(zip(_NAMES, values, strict=True)) | {"time_ms": time_ms, "received_ms": received_ms}


_NAMES: Final = ("sequence", "trade_id", "price", "quantity", "amount", "is_buyer_maker")


def _ms(text: str) -> int:
    when = datetime.fromisoformat(text)
    return int(when.timestamp()) * 1000 + when.microsecond // 1000


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    """A connection by plain nats-py."""
    client = await nats.connect(url, connect_timeout=int(PATIENCE_S))
    try:
        yield client
    finally:
        await client.close()


async def read(url: str, streams: Iterable[str] = STREAMS) -> Collected:
    """Read all messages that the streams hold."""
    collected = Collected()
    async with connected(url) as client:
        for stream in streams:
            async for each in _messages(client, stream):
                stored_ms = int(each.metadata.timestamp.timestamp() * 1000)
                collected.take(each.subject, dict(each.headers or {}), json.loads(each.data), stored_ms)
    for book in collected.books.values():
        if book.is_held:
            book.check()
    return collected


async def _messages(client: Client, stream: str) -> AsyncIterator[Msg]:
    context = client.jetstream(timeout=PATIENCE_S)
    try:
        state = (await context.stream_info(stream)).state
    except NotFoundError:
        return
    if not state.messages:
        return
    pulled = await context.pull_subscribe("", stream=stream, config=ConsumerConfig(ack_policy=AckPolicy.NONE))
    last = 0
    while last < state.last_seq:
        try:
            got = await pulled.fetch(FETCHED, timeout=MORE_S)
        except NothingMore:
            continue
        for each in got:
            last = each.metadata.sequence.stream
            yield each
    await pulled.unsubscribe()


class Heard:
    """A subscriber of plain NATS: which subjects have come, and the messages in their order."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, Json]] = []
        self._came = asyncio.Event()

    async def take(self, message: Msg) -> None:
        """Take a message; nats-py calls it."""
        self.messages.append((message.subject, json.loads(message.data)))
        self._came.set()

    def subjects(self) -> set[str]:
        """The subjects that have come."""
        return {subject for subject, _ in self.messages}

    async def until_subjects(self, wanted: Iterable[str]) -> None:
        """Wait until each of these subjects has come."""
        lacking = set(wanted)
        async with asyncio.timeout(PATIENCE_S):
            while lacking := lacking - self.subjects():
                self._came.clear()
                await self._came.wait()

    async def until_more(self, subject: str, number: int) -> list[str]:
        """Wait for so many further messages of a subject; return the subjects of all that came meanwhile."""
        begin = len(self.messages)
        async with asyncio.timeout(PATIENCE_S):
            while self._count(subject, begin) < number:
                self._came.clear()
                await self._came.wait()
        return [each for each, _ in self.messages[begin:]]

    def _count(self, subject: str, begin: int) -> int:
        return sum(each == subject for each, _ in self.messages[begin:])


@asynccontextmanager
async def hearing(url: str) -> AsyncIterator[Heard]:
    """A subscriber of everything the collector publishes."""
    subscriber = Heard()
    async with connected(url) as client:
        await client.subscribe("market.>", cb=subscriber.take)
        await heard(client)
        yield subscriber


def spans_missing(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The half-open spans that lack between the first and the last number."""
    before: int | None = None
    for number in sorted(numbers):
        if before is not None and number > before + 1:
            yield before + 1, number
        before = number
