"""The log of ledger changes: the text and the order of its entries, without a database.

Each transaction that changes ledgers appends one entry with what it changed. Some entries are whole: they have all
ledgers, so that the state at any time is the newest whole entry before it, and the changes since.
"""

import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from app.domain.interval import DAY_MS
from app.domain.kind import Row
from app.domain.ledger import Ledger, Source
from app.domain.ledger_log import Piece, Replay, changed_pieces
from app.domain.span import Span
from app.ports.errors import NotRecorded
from infra.stores.ledger_lines import SeriesName

CHANGES_BYTES_MIN: Final = 256 * 1024  # between whole entries: an hour of 600 symbols, added up in 0.6 s on a busy core
CHANGES_TO_WHOLE: Final = 4
"""Between whole entries lie so many times their bytes, if that is more: a past state is added up of no more than these,
and whole entries are at most a fifth of the log, but for those of each day."""
LEVEL: Final = 6  # zlib's own default

LOG_COLUMNS: Final = ("seq", "at_ms", "is_whole", "body")
_EMPTY: Final = Ledger()
_UNKNOWN: Final = "-"
_SOURCES: Final[Mapping[str, Source | None]] = {_UNKNOWN: None, **{each.value: each for each in Source}}


class LogPlace(NamedTuple):
    """Where the log ends: number and time of its newest entry, time and bytes of its newest whole one, bytes since."""

    seq: int
    at_ms: int
    whole_ms: int
    whole_bytes: int
    bytes_since: int

    def time_of(self, now_ms: int) -> int:
        """The time of a transaction that begins at `now_ms`: the log never goes back, even if the clock does."""
        return max(self.at_ms, now_ms)

    def needs_whole(self, at_ms: int) -> bool:
        """Whether the next entry is to be a whole one, as the first one of each UTC day."""
        is_long = self.bytes_since > max(CHANGES_BYTES_MIN, CHANGES_TO_WHOLE * self.whole_bytes)
        return is_long or at_ms // DAY_MS > self.whole_ms // DAY_MS

    def after(self, at_ms: int, body_bytes: int, *, is_whole: bool) -> "LogPlace":
        """The place after one more entry."""
        if is_whole:
            return LogPlace(self.seq + 1, at_ms, at_ms, body_bytes, 0)
        return self._replace(seq=self.seq + 1, at_ms=at_ms, bytes_since=self.bytes_since + body_bytes)


NO_LOG: Final = LogPlace(0, 0, -1, 0, 0)


class LogBody:
    """The body of an entry, as it is collected. Series that changed in the same way share a line of its text.

    A line has start, end, source and interval, and after a tab each the names.
    """

    def __init__(self) -> None:
        self._lines: dict[tuple[Piece, str], list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._lines)

    def note(self, name: SeriesName, before: Ledger, after: Ledger) -> None:
        """Add what makes `after` of `before`."""
        symbol, code = name
        lines = self._lines
        for piece in changed_pieces(before, after):
            if (names := lines.get((piece, code))) is None:
                lines[piece, code] = [symbol]
            else:
                names.append(symbol)

    def packed(self) -> bytes:
        """The text of all lines, compressed."""
        lines = []
        for ((((start_ms, end_ms), source)), code), names in self._lines.items():
            said = _UNKNOWN if source is None else source.value
            lines.append("\t".join((f"{start_ms} {end_ms} {said} {code}", *names)))
        return zlib.compress("\n".join(lines).encode(), LEVEL)


def body_of_whole(ledgers: Mapping[SeriesName, Ledger]) -> bytes:
    """The body of a whole entry."""
    body = LogBody()
    for name, ledger in ledgers.items():
        body.note(name, _EMPTY, ledger)
    return body.packed()


def ledgers_of(bodies: Iterable[bytes], wanted: Collection[SeriesName] | None) -> dict[SeriesName, Ledger]:
    """The ledgers that entries, the first one whole, add up to: those `wanted`, or all. Raises NotRecorded."""
    replay: Replay[SeriesName] = Replay()
    codes = None if wanted is None else {code for _, code in wanted}
    names = None if wanted is None else {name for name, _ in wanted}
    for body in bodies:
        for line in _text(body).split("\n"):
            if not line:
                continue  # a transaction that replaced rows, and left the ledgers what they were
            head, *members = line.split("\t")
            start, end, source, code = head.split(" ")
            if codes is not None and code not in codes:
                continue
            start_ms, end_ms, of = int(start), int(end), _SOURCES[source]
            for member in members if names is None else names.intersection(members):
                replay.add(SeriesName(member, code), start_ms, end_ms, of)
    found = replay.ledgers()
    return found if wanted is None else {name: found[name] for name in wanted if name in found}


def not_begun(at_ms: int, began_ms: int | None) -> NotRecorded:
    """The error for a time before the log begins."""
    began = "it has recorded nothing yet" if began_ms is None else f"that is recorded from {began_ms} on"
    return NotRecorded(f"What this node held at {at_ms} is not known: {began}.")


def relisted(symbol: str, at_ms: int, relisted_ms: int) -> NotRecorded:
    """The error for rows of a symbol that belonged to another listing at the time."""
    return NotRecorded(
        f"At {at_ms} another listing had the name {symbol}; since {relisted_ms} its rows are kept apart, in the tables "
        "former_… of the database."
    )


def accounted(span: Span, rows: Sequence[Row], limit: int, *, newest: bool) -> tuple[Span, Span]:
    """The part of `span` of which `rows`, at most `limit` and the oldest or `newest`, are all rows; and the rest."""
    if len(rows) < limit:
        return span, Span(span.end_ms, span.end_ms)
    border_ms = rows[0].open_ms if newest else rows[-1].open_ms + 1
    older, newer = Span(span.start_ms, border_ms), Span(border_ms, span.end_ms)
    return (newer, older) if newest else (older, newer)


def put_back(current: Iterable[Row], revisions: Iterable[tuple[str, Row]]) -> list[Row]:
    """The rows of a past time, ascending, made of the `current` ones and of what was replaced since.

    `revisions`: source and row of what was replaced, in the order in which it was. The first one of an open time is
    what was there; with source ABSENT nothing was.
    """
    rows = {row.open_ms: row for row in current}
    first: set[int] = set()
    for source, row in revisions:
        if row.open_ms in first:
            continue
        first.add(row.open_ms)
        if source == Source.ABSENT.value:
            rows.pop(row.open_ms, None)
        else:
            rows[row.open_ms] = row
    return [rows[open_ms] for open_ms in sorted(rows)]


def _text(body: bytes) -> str:
    try:
        return zlib.decompress(body).decode()
    except (zlib.error, UnicodeDecodeError) as error:
        raise NotRecorded(
            f"What this node held then is not known: the log of its ledgers is damaged ({error})."
        ) from error
