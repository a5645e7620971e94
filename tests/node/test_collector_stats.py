"""How the collector stands is said of its sessions and outboxes as they are."""

from app.collecting.feed_rules import FeedStatus
from app.collecting.kept_outbox import KeptStatus
from app.collecting.passing_outbox import PassingStatus
from app.collecting.session import SessionStatus
from app.collecting.sockets import SocketStatus
from app.domain.instrument import Instrument, Market
from app.domain.records import DataType, Feed
from app.domain.venue import Channel
from app.node.collector_stats import FRAMES, Counts, exchange_stats, outbox_stats
from app.ports.collector import OutboxStats, TypeStats

BTC = Instrument("okx", Market.SWAP, "BTC-USDT", "BTC-USDT-SWAP")
ETH = Instrument("okx", Market.SWAP, "ETH-USDT", "ETH-USDT-SWAP")
TRADES, BOOK, KLINES = Feed(BTC, DataType.TRADE), Feed(BTC, DataType.ORDERBOOK), Feed(BTC, DataType.KLINE, "1m")
WHOLE = SocketStatus(1, "/public", True, 0, 3, 3)


def session(
    *sockets: SocketStatus,
    feeds: tuple[FeedStatus, ...] = (FeedStatus(TRADES, "live", 0, 1),),
    refused: tuple[tuple[Channel, str, int], ...] = (),
    not_offered: tuple[Feed, ...] = (),
    counters: dict[str, int] | None = None,
    fault: str = "",
) -> SessionStatus:
    return SessionStatus("okx", [*sockets], [*feeds], [*refused], [*not_offered], counters or {}, 0, fault)


def kept(waiting: int, spilled_bytes: int, fault: str | None = None) -> KeptStatus:
    return KeptStatus(waiting, None, 0, 0, bool(spilled_bytes), spilled_bytes, fault, None)


def passing(waiting: int, fault: str | None = None) -> PassingStatus:
    return PassingStatus(waiting, 0, 0, 0, 0, fault, None)


def test_the_state_follows_the_sockets() -> None:
    partial = WHOLE._replace(channels=1)
    for status, state in (
        (session(WHOLE, feeds=()), "idle"),
        (session(), "away"),
        (session(WHOLE._replace(is_open=False)), "away"),
        (session(partial), "connecting"),
        (session(WHOLE, WHOLE._replace(is_open=False)), "connecting"),
        (session(WHOLE), "following"),
    ):
        assert exchange_stats(status, Counts(), []).state == state


def test_feeds_gaps_and_books_are_counted_by_type() -> None:
    counts = Counts()
    counts.processed["trade"], counts.published["trade"], counts.errors["trade"] = 9, 7, 2
    counts.processed["gap"] = 1
    feeds = (
        FeedStatus(TRADES, "filling", 2, 1),
        FeedStatus(BOOK, "live", 0, 1),
        FeedStatus(BOOK._replace(instrument=ETH), "waiting", 0, None),
        FeedStatus(KLINES, "live", 0, 1),
    )
    stats = exchange_stats(session(WHOLE, feeds=feeds), counts, [])
    assert stats.types["trade"] == TypeStats(1, 9, 7, 2, 2)
    assert stats.types["kline.1m"] == TypeStats(1)
    assert stats.types["gap"] == TypeStats(processed=1)
    assert (stats.books_followed, stats.books_valid, stats.sockets_active) == (2, 1, 1)


def test_frames_that_cannot_be_read_and_refusals_are_errors_of_frames() -> None:
    status = session(WHOLE, counters={"unreadable": 3, "refused": 2})
    counts = Counts()
    assert exchange_stats(status, counts, []).types[FRAMES].errors == 5
    assert exchange_stats(status, counts, []).types[FRAMES].errors == 5, "asking changes nothing"
    assert FRAMES not in exchange_stats(session(WHOLE), counts, []).types


def test_every_fault_is_a_sentence() -> None:
    refused = ((Channel("/public", "trades-all"), "60018 no such channel", 5),)
    status = session(refused=refused, not_offered=(KLINES,), fault="403")
    assert exchange_stats(status, Counts(), ["the list is gone"]).faults == (
        "the list is gone",
        "no socket is open; the last fault was: 403",
        "trades-all is refused: 60018 no such channel",
        "the exchange has no kline.1m of BTC-USDT",
    )


def test_the_outboxes_are_one_and_the_streams_own_fault_goes_first() -> None:
    outboxes: dict[str, KeptStatus | PassingStatus] = {"trades": kept(3, 100, "full"), "series": kept(0, 11)}
    outboxes["books"] = passing(4, "slow")
    assert outbox_stats(outboxes, "away", 200) == OutboxStats(7, 111, 0.5, "away")
    assert outbox_stats(outboxes, None, 200) == OutboxStats(7, 111, 0.5, "full")
    assert outbox_stats({"books": passing(0)}, None, 200) == OutboxStats()
