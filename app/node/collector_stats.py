"""How the collector stands, out of its sessions, outboxes and counters, as its port says it."""

from collections import Counter

from app.collecting.kept_outbox import KeptStatus
from app.collecting.lag import LagCounter
from app.collecting.passing_outbox import PassingStatus
from app.collecting.session import SessionStatus
from app.domain.followed import DataType
from app.domain.records import Feed
from app.ports.collector import ExchangeStats, OutboxStats, TypeStats

FRAMES = "frame"
"""Stands for a type of data where errors are of a frame whose type is not known."""


class Counts:
    """Of one exchange, by type of data; `lag` is of what was stored."""

    def __init__(self) -> None:
        self.processed: Counter[str] = Counter()
        self.published: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.lag = LagCounter()


def type_of(feed: Feed) -> str:
    """The type of data as it is named outside: `trade`, `kline.1m`."""
    return f"{feed.data_type}.{feed.interval}" if feed.interval else str(feed.data_type)


def exchange_stats(session: SessionStatus, counts: Counts, faults: list[str]) -> ExchangeStats:
    """The state of one exchange; `faults` stand beside those of the session."""
    feeds: Counter[str] = Counter()
    gaps: Counter[str] = Counter()
    books = valid = compared = equal = 0
    for each in session.feeds:
        name = type_of(each.feed)
        feeds[name] += 1
        gaps[name] += each.open_gaps
        if each.feed.data_type is DataType.ORDERBOOK:
            books += 1
            valid += each.state == "live"
            compared += each.levels[0]
            equal += each.levels[1]
    errors = counts.errors.copy()
    errors[FRAMES] += session.counters.get("unreadable", 0) + session.counters.get("refused", 0)
    names = feeds.keys() | counts.processed.keys() | counts.published.keys() | {name for name in errors if errors[name]}
    return ExchangeStats(
        _state(session),
        sum(socket.is_open for socket in session.sockets),
        {
            name: TypeStats(feeds[name], counts.processed[name], counts.published[name], errors[name], gaps[name])
            for name in sorted(names)
        },
        books,
        valid,
        counts.lag.lag(),
        (*faults, *_faults(session)),
        compared,
        equal,
    )


def outbox_stats(
    outboxes: dict[str, KeptStatus | PassingStatus], fault: str | None, spill_bytes_max: int
) -> OutboxStats:
    """What waits in all outboxes; the stream's own `fault` goes before theirs. `spill_bytes_max` is of one spill."""
    waiting = spilled = fullest = 0
    for status in outboxes.values():
        waiting += status.waiting
        fault = fault or status.fault
        if isinstance(status, KeptStatus):
            spilled += status.spilled_bytes
            fullest = max(fullest, status.spilled_bytes)
    return OutboxStats(waiting, spilled, fullest / spill_bytes_max, fault)


def _state(session: SessionStatus) -> str:
    if not session.feeds:
        return "idle"
    if not any(socket.is_open for socket in session.sockets):
        return "away"
    is_whole = all(socket.is_open and socket.channels >= socket.wanted for socket in session.sockets)
    return "following" if is_whole else "connecting"


def _faults(session: SessionStatus) -> list[str]:
    found = []
    if session.feeds and not any(socket.is_open for socket in session.sockets):
        found.append(f"no socket is open; the last fault was: {session.fault or 'none'}")
    found += [f"{channel.name} is refused: {reason}" for channel, reason, _ in session.refused]
    found += [f"the exchange has no {type_of(feed)} of {feed.instrument.symbol}" for feed in session.not_offered]
    return found
