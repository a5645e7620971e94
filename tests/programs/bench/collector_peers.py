"""The same frames in the hands of others: cryptofeed's and ccxt.pro's own handlers, without network.

It runs where these libraries are installed. Both decode to their own values and hold their own books; nobody waits for
them, so that the work of waking readers is left out.
"""

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Final

from tests.programs.bench.collector_ours import Published, Reader

Callback = Callable[[Any, float], Awaitable[None]]
_FEEDS: Final = {"okx": "OKX", "deribit": "Deribit"}
STREAM: Final = "PEER"
SUBJECT: Final = "peer.trades"


def versions() -> dict[str, str]:
    """The versions of the libraries that can be imported here."""
    found = {}
    for name in ("ccxt", "cryptofeed"):
        try:
            import_module(name)
        except ImportError:
            continue
        found[name] = import_module("importlib.metadata").version(name)
    return found


class Cryptofeed:
    """cryptofeed's feed of the tape's exchange; `trade` and `book` take what it calls back with."""

    def __init__(self, reader: Reader, trade: Callback | None = None, book: Callback | None = None) -> None:
        exchanges = import_module("cryptofeed.exchanges")
        symbols = import_module("cryptofeed.symbols").Symbols
        kind = getattr(exchanges, _FEEDS[reader.tape.case.exchange])
        names, info = kind._parse_symbol_data([_listed(body) for body in reader.tape.instruments])
        symbols.set(kind.id, names, info)
        native = reader.feed.instrument.native
        symbol = next(each for each, theirs in names.items() if theirs == native)
        callbacks = {"trades": trade or _ignore, "l2_book": book or _ignore}
        self._feed = kind(symbols=[symbol], channels=list(callbacks), callbacks=callbacks)
        self._feed._Deribit__reset() if hasattr(self._feed, "_Deribit__reset") else None
        self._opening = [text for _, text in reader.tape.opening]
        self._frames = [text for _, text in reader.tape.frames]
        self._count = reader.count()

    async def follow(self) -> tuple[int, float]:
        """How many trades or frames, and the processor time in seconds."""
        handle = self._feed.message_handler
        for text in self._opening:
            if '"jsonrpc"' not in text or '"method":"subscription"' in text:
                await handle(text, None, 0.0)
        began_s = time.process_time()
        for text in self._frames:
            await handle(text, None, 0.0)
        return self._count, time.process_time() - began_s


class Ccxt:
    """ccxt.pro's exchange; messages come in where its socket hands them over."""

    def __init__(self, reader: Reader) -> None:
        pro = import_module("ccxt.pro")
        client = import_module("ccxt.async_support.base.ws.client").Client
        exchange = getattr(pro, reader.tape.case.exchange)()
        exchange.set_markets([_market(exchange, reader)])

        def ignore(*_: object) -> None:
            return None

        self._client = client("wss://nowhere", exchange.handle_message, ignore, ignore, ignore)
        symbol = next(iter(exchange.markets))
        if reader.tape.case.exchange == "okx":
            exchange.orderbooks[symbol] = exchange.order_book({})
            self._client.subscriptions[f"books:{symbol}"] = {}
        self._exchange = exchange
        self._opening = [text for _, text in reader.tape.opening]
        self._frames = [text for _, text in reader.tape.frames]
        self._count = reader.count()

    def follow(self) -> tuple[int, float]:
        """How many trades or frames, and the processor time in seconds."""
        take = self._client.handle_text_or_binary_message
        for text in self._opening:
            if '"data":' in text:
                take(text)
        began_s = time.process_time()
        for text in self._frames:
            take(text)
        return self._count, time.process_time() - began_s


async def publish(reader: Reader, url: str) -> Published:
    """cryptofeed's trades into JetStream: each is published with an id and awaited, as nats-py's users do."""
    client = await import_module("nats").connect(url)
    stream = client.jetstream()
    await stream.add_stream(name=STREAM, subjects=[SUBJECT], duplicate_window=600)
    dumps = import_module("msgspec").json.encode

    async def send(trade: Any, receipt: float) -> None:
        fields = {
            "exchange_name": trade.exchange,
            "symbol_name": trade.symbol,
            "trade_id": trade.id,
            "price": str(trade.price),
            "quantity": str(trade.amount),
            "timestamp": trade.timestamp,
            "received": receipt,
            "is_buyer_maker": trade.side == "sell",
        }
        headers = {"Nats-Msg-Id": f"{trade.exchange}/{trade.symbol}/{trade.id}"}
        await stream.publish(SUBJECT, dumps(fields), headers=headers)

    try:
        feed = Cryptofeed(reader, trade=send)
        began_s = time.perf_counter()
        trades, cpu_s = await feed.follow()
        return Published(trades, time.perf_counter() - began_s, cpu_s)
    finally:
        await stream.delete_stream(STREAM)
        await client.close()


async def _ignore(value: Any, receipt: float) -> None:
    return None


def _listed(body: str) -> Any:
    """An answer that lists instruments, with the fields that cryptofeed looks for and the sandbox may leave out."""
    return json.loads(body)


def _market(exchange: Any, reader: Reader) -> Mapping[str, Any]:
    instrument = reader.feed.instrument
    base, quote = instrument.symbol.split("-")[:2]
    settle = base if instrument.is_inverse else quote
    fields: dict[str, Any] = {
        "id": instrument.native,
        "symbol": f"{base}/{quote}:{settle}",
        "base": base,
        "quote": quote,
        "settle": settle,
        "type": "swap",
        "swap": True,
        "contract": True,
        "linear": not instrument.is_inverse,
        "inverse": instrument.is_inverse,
        "contractSize": float(instrument.contract_size),
        "precision": {"price": 0.1, "amount": 0.01},
    }
    return dict(exchange.safe_market_structure(fields))


def rates(found: Sequence[tuple[int, float]]) -> list[float]:
    """So many a second of processor time, of each round."""
    return [count / max(spent_s, 1e-9) for count, spent_s in found]
