"""A hand-made collector that tests control: its exchanges, what they list, and how they are."""

from collections.abc import Collection
from pathlib import Path

from app.collecting.collector import Collector
from app.domain.instrument import Instrument, Market
from app.domain.records import DataType, Feed
from app.events import Event
from app.ports.collector import CollectorStatus, ExchangeStats, OutboxStats, TypeStats
from app.runtime import Runtime
from app.settings import Settings, load
from infra.process.whole_file import WholeFile
from tests.fakes import NOW_MS, ManualClock

NATS = "nats://127.0.0.1:4222"


def instrument(exchange: str, market: Market, symbol: str) -> Instrument:
    return Instrument(exchange, market, symbol, f"{symbol}.{market}")


def listed(exchange: str, swaps: str = "", spots: str = "", futures: str = "") -> list[Instrument]:
    """Instruments of an exchange by their symbols, parted by blanks."""
    markets = ((Market.SWAP, swaps), (Market.SPOT, spots), (Market.FUTURE, futures))
    return [instrument(exchange, market, symbol) for market, text in markets for symbol in text.split()]


class FakeControl:
    """A CollectorControl that follows what it is told. No exchange has klines of 3d."""

    def __init__(self) -> None:
        self.listings: dict[str, list[Instrument]] = {
            "okx": listed("okx", "BTC-USDT ETH-USDT BTC-USD", "BTC-USDT ETH-USDT SOL-USDT", "BTC-USD-261225"),
            "deribit": listed("deribit", "BTC-USD ETH-USD", "BTC-USDC"),
        }
        self.feeds: dict[str, frozenset[Feed]] = {}
        self.asked: list[str] = []
        self.state = CollectorStatus(
            NOW_MS, {name: ExchangeStats("idle", 0, {}) for name in self.listings}, OutboxStats()
        )

    def exchanges(self) -> tuple[str, ...]:
        return tuple(self.listings)

    def instruments(self, exchange: str) -> Collection[Instrument]:
        return self.listings[exchange]

    def offers(self, feed: Feed) -> bool:
        return feed.interval != "3d"

    def follow(self, exchange: str, feeds: frozenset[Feed]) -> None:
        self.asked.append(exchange)
        self.feeds[exchange] = feeds

    def followed(self, exchange: str) -> frozenset[Feed]:
        return self.feeds.get(exchange, frozenset())

    def status(self) -> CollectorStatus:
        return self.state

    def stats(self, exchange: str) -> ExchangeStats:
        return self.state.exchanges[exchange]

    def set_stats(self, exchange: str, stats: ExchangeStats) -> None:
        others = {**self.state.exchanges, exchange: stats}
        self.state = CollectorStatus(self.state.started_ms, others, self.state.outbox)

    def set_outbox(self, outbox: OutboxStats) -> None:
        self.state = CollectorStatus(self.state.started_ms, self.state.exchanges, outbox)


BUSY = ExchangeStats(
    "following",
    2,
    {str(DataType.TRADE): TypeStats(2, 100, 90, 1, 1), "kline.1m": TypeStats(1, 10, 10)},
    books_followed=3,
    books_valid=2,
)


def settings_of(**values: object) -> Settings:
    defaults: dict[str, object] = {"exchanges": "okx,deribit", "nats_url": NATS, "collect_types": "trade"}
    return load({**defaults, **values}, env_file=None)


class Stage:
    """A Collector around the fake, with its wish in a real file; `restart` makes another one of the same folder."""

    def __init__(self, folder: Path, **values: object) -> None:
        self.folder = folder
        self.values = values
        self.clock = ManualClock()
        self.events: list[Event] = []
        self.control = FakeControl()
        self.collector = self._make()

    def _make(self) -> Collector:
        file = WholeFile(self.folder / "wish.json")
        runtime = Runtime(self.clock, self.events.append)
        return Collector.over(
            self.control, settings_of(**self.values), lambda: settings_of(**self.values), file, runtime
        )

    def begin(self) -> None:
        for name in self.control.exchanges():
            self.collector.wished.apply(name)

    def restart(self) -> None:
        self.control.feeds.clear()
        self.collector = self._make()
        self.begin()

    def followed(self, exchange: str = "okx") -> list[str]:
        return [str(each) for each in self.collector.wished.followed(exchange)]
