"""A reader of the stream that knows what docs/collector.md says, and nothing else of the collector."""

import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, NamedTuple

from tests.programs.collect_seeds.jetstream import Stored

Body = dict[str, Any]
COLUMNS: Final = (
    "sequence",
    "trade_id",
    "price",
    "quantity",
    "amount",
    "timestamp_ms",
    "received_ms",
    "is_buyer_maker",
)


class Market(NamedTuple):
    """What a reader keeps apart: the exchange's own name of an instrument, and its market."""

    native: str
    market: str


class ReadTrade(NamedTuple):
    """A trade as published."""

    sequence: int
    trade_id: str
    price: str
    quantity: str
    amount: str
    timestamp_ms: int
    is_buyer_maker: bool


class ReadGap(NamedTuple):
    """A gap as published; sequences are None where the feed has none."""

    state: str
    reason: str
    from_ms: int
    to_ms: int
    first: int | None
    end: int | None


def time_ms(text: str) -> int:
    """A printed time in ms."""
    return round(datetime.fromisoformat(text).timestamp() * 1_000)


class Reader:
    """Everything a reader has after the whole stream."""

    def __init__(self, stored: Iterable[Stored]) -> None:
        self.faults: list[str] = []
        self.trades: dict[Market, dict[int, ReadTrade]] = defaultdict(dict)
        """By sequence, each in the order of its first coming."""
        self.finals: dict[Market, dict[int, Body]] = defaultdict(dict)
        """Final klines of one minute by open time."""
        self.paid: dict[Market, dict[int, str]] = defaultdict(dict)
        """Rates that were paid by time."""
        self.books: dict[Market, list[Body]] = defaultdict(list)
        self.states: dict[tuple[Market, str], list[Body]] = defaultdict(list)
        self.gaps: dict[tuple[Market, str], list[ReadGap]] = defaultdict(list)
        self._begun: dict[Market, int] = {}
        for message, at_ms in stored:
            headers = dict(message.headers)
            body: Body = json.loads(message.body)
            market = Market(body["symbol_name"], headers["Klinenode-Market"])
            if body["market"] != market.market or message.subject.split(".")[2] != body["symbol"]:
                self.faults.append(f"{message.subject} and its headers contradict {body}")
            self._read(headers["Klinenode-Schema"], market, body, at_ms)

    def _read(self, schema: str, market: Market, body: Body, at_ms: int) -> None:
        match schema:
            case "trade/1":
                fields = {**body, "timestamp_ms": time_ms(body["timestamp"])}
                self._trade(market, ReadTrade(*(fields[name] for name in ReadTrade._fields)))
            case "trades/1":
                for row in body["trades"]:
                    fields = dict(zip(COLUMNS, row, strict=True))
                    self._trade(market, ReadTrade(*(fields[name] for name in ReadTrade._fields)))
            case "orderbook_snapshot/1" | "orderbook_delta/1":
                self.books[market].append(body)
            case "kline/1":
                self._kline(market, body)
            case "funding_rate/1":
                if body["is_final"]:
                    self._once(self.paid[market], time_ms(body["funding_time"]), body["rate"], f"{market} paid")
                else:
                    self.states[market, "funding_rate"].append({**body, "at_ms": at_ms})
            case "ticker/1" | "open_interest/1":
                self.states[market, schema[:-2]].append({**body, "at_ms": at_ms})
            case "gap/1":
                gap = ReadGap(
                    body["state"],
                    body["reason"],
                    time_ms(body["from"]),
                    time_ms(body["to"]),
                    body.get("from_sequence"),
                    body.get("to_sequence"),
                )
                self.gaps[market, body["data_type"]].append(gap)
            case _:
                self.faults.append(f"a schema that is not documented: {schema}")

    def _trade(self, market: Market, trade: ReadTrade) -> None:
        self._once(self.trades[market], trade.sequence, trade, f"{market} trade")

    def _kline(self, market: Market, body: Body) -> None:
        open_ms = time_ms(body["open_time"])
        if body["is_final"]:
            fields = {name: body[name] for name in ("open", "high", "low", "close", "volume")}
            self._once(self.finals[market], open_ms, fields, f"{market} final")
        else:
            self.states[market, "kline"].append(body)

    def _once(self, held: dict[int, Any], key: int, value: object, name: str) -> None:
        if held.setdefault(key, value) != value:
            self.faults.append(f"{name} {key} came twice and differs: {held[key]} and {value}")
