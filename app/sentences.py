"""The sentence of each event, as people read it on a terminal."""

import dataclasses
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from app import collector_events, events
from app.domain import letters
from app.domain.span import Span
from app.events import Event

ITEMS_MAX: Final = 3  # of a list that a sentence names; 600 symbols would fill the screen
TEXT_CHARS_MAX: Final = 300  # of one field; errors of libraries may repeat a whole page
_EPOCH_MS_MIN: Final = 1_000_000_000_000  # from here on a number of ms is a time, and below a duration (2001)


def sentence(event: Event) -> str:
    """The sentence of an event: one line without control characters, whatever its texts contain."""
    written = _WRITTEN.get(type(event))
    return _one_line(written(event) if written is not None else _derived(event))


def _derived(event: Event) -> str:
    """The first sentence of the class's docstring, and the fields that say more."""
    what = " ".join((type(event).__doc__ or type(event).__name__).partition("\n\n")[0].split())
    what = what.partition(": ")[0].partition(". ")[0].rstrip(".").replace("`", "")
    what = _capital(what)
    fields = ((field.name, getattr(event, field.name)) for field in dataclasses.fields(event))
    shown = [f"{_words(name)} {_shown(name, value)}" for name, value in fields if _says_something(value)]
    return f"{what} ({', '.join(shown)})" if shown else what


def _says_something(value: object) -> bool:
    return value is not None and value not in ("", (), {}) and not isinstance(value, Exception)


def _words(name: str) -> str:
    return name.removesuffix("_ms").removesuffix("_s").replace("_", " ")


def _shown(name: str, value: object) -> str:
    if isinstance(value, Span):
        return f"{_time(value.start_ms)} to {_time(value.end_ms)}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and name.endswith("_ms"):
        return _time(value) if value >= _EPOCH_MS_MIN else f"{value:,} ms"
    if isinstance(value, int | float):
        return f"{value:,} s" if name.endswith("_s") else f"{value:,}"
    if isinstance(value, tuple):
        return _list(value)
    if isinstance(value, Mapping):
        return _list(tuple(f"{key}: {count:,}" for key, count in value.items()))
    return str(value)[:TEXT_CHARS_MAX]


def _list(items: tuple[Any, ...]) -> str:
    named = " ".join(str(item) for item in items[:ITEMS_MAX])
    return named if len(items) <= ITEMS_MAX else f"{named} and {len(items) - ITEMS_MAX} more"


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _one_line(text: str) -> str:
    """The text with every control character, also of an exchange's error page, replaced by a blank."""
    return "".join(each if each.isprintable() else " " for each in text)


# --- the first minute -----------------------------------------------------------------------------------------------


def _started(event: events.NodeStarted) -> str:
    return f"The node answers on {event.url}; database {event.database}, exchange {event.upstream}"


def _ready(event: events.NodeReady) -> str:
    where = f"open {event.url}/ for its state and {event.url}/docs for the API"
    return f"Ready after {event.after_s} s, every series is fresh; {where}"


def _linked(event: events.StoreLinked) -> str:
    return f"Starting; the database is accessed by {event.library} {event.version}"


def _lease(event: events.LeaseChanged) -> str:
    if event.is_writer:
        return "This process writes the database"
    return f"The process at {event.holder} writes the database; this one follows it"


def _synced(event: events.SymbolsSynced) -> str:
    changes = [
        f"{len(names)} {verb} ({_list(names)})"
        for verb, names in (("added", event.added), ("removed", event.removed))
        if names
    ]
    return f"The exchange answers: {event.total:,} symbols are followed" + (
        f"; {', '.join(changes)}" if changes else ""
    )


def _estimated(event: events.WishEstimated) -> str:
    return f"Wished are {event.summary}" + (f". {event.shortage}" if event.shortage else "")


def _counted(event: events.GapsCounted) -> str:
    if not event.missing_klines:
        return f"Nothing is missing: all {event.wished_klines:,} wished klines are held or proven absent"
    held = event.wished_klines - event.missing_klines
    share = f" ({100 * held // event.wished_klines} %)" if event.wished_klines else ""
    progress = f"{held:,} of {event.wished_klines:,} wished klines are held{share}"
    return f"{progress}; {event.missing_klines:,} are still to come"


def _opened(event: events.SocketOpened) -> str:
    return f"Socket {event.name} to the exchange is open, with {event.streams:,} streams"


def _sealing(event: events.SealingProgress) -> str:
    return f"Compressing old rows: {event.series:,} of {event.of:,} series, {event.rows:,} rows so far"


def _silent(event: events.ExchangeSilent) -> str:
    reason = event.reason[:TEXT_CHARS_MAX]
    return f"The exchange does not answer and is asked again until it does; klinenode doctor looks for why ({reason})"


def _lost(event: events.SocketLost) -> str:
    return f"Socket {event.name} to the exchange failed and is opened again ({event.reason[:TEXT_CHARS_MAX]})"


def _stand_down(event: events.StandDownBegan) -> str:
    return f"The exchange told us to stay away: nothing is sent before {_time(event.until_ms)} UTC ({event.reason})"


def _rejected(event: events.ArchiveRejected) -> str:
    return f"Archive file {event.name} is not used, {event.reason[:TEXT_CHARS_MAX]}; {event.then}"


def _refused(event: collector_events.CollectConfigRefused) -> str:
    return f"What is to be collected stays as it was, the new settings cannot be used: {event.reason[:TEXT_CHARS_MAX]}"


def _feeds(event: collector_events.FeedsChanged) -> str:
    changes = [
        f"{_list(kinds)} {verb}" for verb, kinds in (("added", event.added), ("removed", event.removed)) if kinds
    ]
    named = f"{event.symbol[:TEXT_CHARS_MAX]}: {', '.join(changes)}"
    return f"Of {event.exchange}, {event.followed:,} feeds are followed now ({named})"


def _fault_began(event: collector_events.CollectorFaultBegan) -> str:
    return f"{_capital(event.fault[:TEXT_CHARS_MAX])} (/v1/health says so while it lasts)"


def _fault_ended(event: collector_events.CollectorFaultEnded) -> str:
    return f"Over after {event.lasted_ms / 1_000:.1f} s: {event.fault[:TEXT_CHARS_MAX]}"


def _capital(text: str) -> str:
    return f"{letters.upper(text[:1])}{text[1:]}"


def _stopped(event: events.NodeStopped) -> str:
    return f"The node has stopped, {event.reason}; everything is written"


_WRITTEN: Final[Mapping[type[Event], Callable[[Any], str]]] = {
    events.StoreLinked: _linked,
    events.LeaseChanged: _lease,
    events.NodeStarted: _started,
    events.SymbolsSynced: _synced,
    events.WishEstimated: _estimated,
    events.SocketOpened: _opened,
    events.SocketLost: _lost,
    events.ExchangeSilent: _silent,
    events.GapsCounted: _counted,
    events.SealingProgress: _sealing,
    events.StandDownBegan: _stand_down,
    events.ArchiveRejected: _rejected,
    collector_events.CollectConfigRefused: _refused,
    collector_events.FeedsChanged: _feeds,
    collector_events.CollectorFaultBegan: _fault_began,
    collector_events.CollectorFaultEnded: _fault_ended,
    events.NodeReady: _ready,
    events.NodeStopped: _stopped,
}
"""Written by hand: what a newcomer reads in the first minute, and at the end."""
