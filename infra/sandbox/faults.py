"""The faults that a test can inject into the sandbox.

A fault is a JSON object. `kind` is one of `KINDS`. `venue` ("binance", "okx", "deribit"), `symbol`, `interval` (the
period of statistics and metrics), `stream` and `path` are filters, as shell patterns. Streams of OKX are written
books:BTC-USDT-SWAP, those of Deribit as it names its channels. `count` ends the fault after so many hits, `duration_s`
after so many seconds of the sandbox's clock; with `probability` (and its `seed`) it hits at random. Fields of single
kinds:

    all     error_answer {code: a subscription or a request of OKX or Deribit, or a control message of Binance, is
            refused with an error}
    REST    http_5xx {status=503} · http_429 {retry_after_s=30} · http_418 {ban_s=120, retry_after=true,
            banned_until=true: whether header and message say when it ends}
            slow {delay_s=5} · malformed {shape="truncated"|"html"|"empty"|"abort"}
            missing_rows {rows=1 from the middle of an answer, or all in [from_ms, to_ms), which no answer has}
            lost_history {to_ms: no answer has rows that open before it}
            hole {from_ms, to_ms: no answer and no archive file has rows that open in [from_ms, to_ms)}
            The rows of these three are klines, fundings, and statistics, whose periods open at the time given.
    sockets refuse {status=403; 0 drops the connection} · handshake_hang (TCP accepted, never answered)
            wrong_route (acknowledges and delivers nothing, until the socket ends)
            cut · half_open (no more bytes in either direction; dropped after ten minutes)
            slow_socket {delay_s=5: frames are delayed more and more, up to so much, until the socket ends}
            server_shutdown {delay_s=5: announces serverShutdown, and closes so much later; Binance}
            rotation {delay_s=5: closes so much later, after what the exchange announces: serverShutdown of Binance,
            notice 64008 of OKX, nothing of Deribit}
    frames  silence · duplicate · reorder · late_close {delay_s=5} · drop_close · malformed_frame
            gap (frames of trades and of book changes are left out, so that the sequence does not fit)
            snapshot_missing (a book of OKX or Deribit begins with an update)
            contradict {false_final="second"|"first": sends two closing frames, of which this one is wrong}
    archive corrupt_zip · wrong_checksum · archive_404 · archive_missing_rows {as missing_rows}
            archive_5xx {status=503} · archive_slow {delay_s=5}
    metrics faults of the archive's files of metrics, for rows in the middle of a file; `rows` says how many:
            metrics_blanks {rows=1: have no text for some numbers} · metrics_zeros {rows=1: have 0 for all numbers}
            metrics_duplicates {rows=1: come twice} · metrics_conflicts {rows=1: come twice, with different numbers}
            metrics_republished {rows=1: have wrong numbers, until the fault ends and the file is replaced}
            metrics_disorder {rows=1: come in reverse order}
            metrics_short_day {rows=1: are missing at the end of the file}
            metrics_midnight (the row labelled 00:00 is in the neighbour's file too, with other numbers)
            metrics_bare_date (create_time is a date without 00:00:00)
            A day without a file is archive_404 with a `path` like */metrics/*-2026-11-19.zip*
    funding funding_jitter {rows=1: so many rows in the middle of a file of fundings are some ms later than in REST}
    market list_symbol {symbol} · delist_symbol {symbol, in_s=60} · onboard_date {symbol, from_ms: the onboardDate in
            exchangeInfo} · relist_symbol {symbol, in_s=60: from the next minute the symbol is unused for so long, and
            then another coin's}; executed at once, and not undone by clearing
    books   reset {symbol=all: from now on OKX's seqId is smaller; Deribit sends a new snapshot}; likewise

`cut`, `half_open`, `slow_socket`, `server_shutdown` and `rotation` hit each matching open socket once. Without count
and duration they hit only sockets that are open now.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from random import Random

from infra.sandbox.grid import SECOND_MS

REST_KINDS = frozenset(
    {"http_5xx", "http_429", "http_418", "slow", "malformed", "missing_rows", "lost_history", "hole"}
)
OPENING_KINDS = frozenset({"refuse", "handshake_hang", "wrong_route"})
BEFALLING_KINDS = frozenset({"cut", "half_open", "slow_socket", "server_shutdown", "rotation"})
FRAME_KINDS = frozenset(
    {"silence", "duplicate", "reorder", "late_close", "drop_close", "malformed_frame", "contradict", "gap"}
)
ANSWER_KINDS = frozenset({"error_answer"})
BOOK_KINDS = frozenset({"snapshot_missing", "reset"})
SOCKET_KINDS = OPENING_KINDS | BEFALLING_KINDS | FRAME_KINDS
ARCHIVE_KINDS = frozenset(
    {"corrupt_zip", "wrong_checksum", "archive_missing_rows", "archive_404", "archive_5xx", "archive_slow"}
)
METRICS_KINDS = frozenset(
    {
        *("metrics_blanks", "metrics_zeros", "metrics_duplicates", "metrics_conflicts"),
        *("metrics_republished", "metrics_disorder", "metrics_short_day", "metrics_midnight", "metrics_bare_date"),
    }
)
FUNDING_KINDS = frozenset({"funding_jitter"})
QUIRK_KINDS = METRICS_KINDS | FUNDING_KINDS
MARKET_KINDS = frozenset({"list_symbol", "delist_symbol", "onboard_date", "relist_symbol"})
KINDS = REST_KINDS | SOCKET_KINDS | ARCHIVE_KINDS | QUIRK_KINDS | MARKET_KINDS | ANSWER_KINDS | BOOK_KINDS
SHAPES = frozenset({"truncated", "html", "empty", "abort"})
VENUES = frozenset({"binance", "okx", "deribit"})
FALSE_FINALS = frozenset({"first", "second"})
FAULTS_MAX = 1_000  # on the board at once


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. The module's docstring describes its fields."""

    kind: str
    venue: str | None = None
    symbol: str | None = None
    interval: str | None = None
    stream: str | None = None
    path: str | None = None
    count: int | None = None
    duration_s: float | None = None
    probability: float = 1.0
    seed: int = 0
    status: int | None = None
    retry_after_s: int | None = None
    retry_after: bool = True
    banned_until: bool = True
    ban_s: int = 120
    delay_s: float = 5.0
    shape: str = "truncated"
    false_final: str = "second"
    rows: int = 1
    from_ms: int | None = None
    to_ms: int | None = None
    in_s: int = 60
    code: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(sorted(KINDS))}")
        if self.venue is not None and self.venue not in VENUES:
            raise ValueError(f"venue must be one of {', '.join(sorted(VENUES))}")
        if self.kind in MARKET_KINDS and not self.symbol:
            raise ValueError(f"{self.kind} needs a symbol")
        if self.kind == "onboard_date" and self.from_ms is None:
            raise ValueError("onboard_date needs from_ms")
        if self.kind == "lost_history" and self.to_ms is None:
            raise ValueError("lost_history needs to_ms")
        if self.kind == "hole" and (self.from_ms is None or self.to_ms is None):
            raise ValueError("hole needs from_ms and to_ms")
        if self.shape not in SHAPES:
            raise ValueError(f"shape must be one of {', '.join(sorted(SHAPES))}")
        if self.false_final not in FALSE_FINALS:
            raise ValueError(f"false_final must be one of {', '.join(sorted(FALSE_FINALS))}")
        if not 0 <= self.probability <= 1:
            raise ValueError("probability must be between 0 and 1")


_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("kind", "venue", "symbol", "interval", "stream", "path", "shape", "false_final"), (str,)),
    **dict.fromkeys(
        ("count", "seed", "status", "retry_after_s", "ban_s", "rows", "from_ms", "to_ms", "in_s", "code"), (int,)
    ),
    **dict.fromkeys(("duration_s", "probability", "delay_s"), (int, float)),
    **dict.fromkeys(("retry_after", "banned_until"), (bool,)),
}


def parse_fault(wish: object) -> Fault:
    """Parse the JSON object of a fault. Raises ValueError, which names the wrong field."""
    if not isinstance(wish, dict) or "kind" not in wish:
        raise ValueError("a fault is a JSON object with a kind")
    for name, value in wish.items():
        if name not in _TYPES:
            raise ValueError(f"unknown field {name!r}; known are {', '.join(_TYPES)}")
        if not isinstance(value, _TYPES[name]) or (isinstance(value, bool) and bool not in _TYPES[name]):
            raise ValueError(f"{name} must be {' or '.join(kind.__name__ for kind in _TYPES[name])}")
    return Fault(**wish)


@dataclass(slots=True)
class _Entry:
    number: int
    fault: Fault
    since_ms: int
    random: Random
    hits: int = 0

    def alive(self, now_ms: int) -> bool:
        fault = self.fault
        if fault.count is not None and self.hits >= fault.count:
            return False
        return fault.duration_s is None or now_ms < self.since_ms + fault.duration_s * SECOND_MS

    def matches(self, target: "Target") -> bool:
        fault = self.fault
        return (
            (fault.venue is None or fault.venue == target.venue)
            and (fault.symbol is None or fnmatchcase(target.symbol, fault.symbol.upper()))
            and (fault.interval is None or fnmatchcase(target.interval, fault.interval))
            and (fault.stream is None or any(fnmatchcase(name, fault.stream) for name in target.streams))
            and (fault.path is None or fnmatchcase(target.path, fault.path))
        )


@dataclass(frozen=True, slots=True)
class Target:
    """Something that a fault may hit: a request, a frame, or a socket with all its streams."""

    symbol: str = ""
    interval: str = ""
    path: str = ""
    streams: Iterable[str] = ()
    venue: str = "binance"


@dataclass(slots=True)
class FaultBoard:
    """The faults of one sandbox."""

    _entries: dict[int, _Entry] = field(default_factory=dict)
    _numbers: int = 0
    _kinds: frozenset[str] = frozenset()

    def add(self, fault: Fault, now_ms: int) -> int:
        """Add a fault and return its number. Raises ValueError above FAULTS_MAX."""
        if len(self._entries) >= FAULTS_MAX:
            raise ValueError(f"no more than {FAULTS_MAX} faults at once")
        self._numbers += 1
        self._entries[self._numbers] = _Entry(self._numbers, fault, now_ms, Random(fault.seed))  # noqa: S311
        self._index()
        return self._numbers

    def clear(self, number: int | None = None) -> int:
        """Remove one fault, or all, and return how many were removed."""
        chosen = list(self._entries) if number is None else [number] if number in self._entries else []
        for key in chosen:
            del self._entries[key]
        self._index()
        return len(chosen)

    def any_of(self, kinds: frozenset[str]) -> bool:
        """Whether there may be an active fault of these kinds: a cheap check before `take`."""
        return not kinds.isdisjoint(self._kinds)

    def take(self, kind: str, target: Target, now_ms: int) -> Fault | None:
        """The first active fault of `kind` that hits `target`; counts the hit."""
        if kind not in self._kinds:
            return None
        for entry in self._entries.values():
            fault = entry.fault
            if fault.kind != kind or not entry.alive(now_ms) or not entry.matches(target):
                continue
            if fault.probability >= 1 or entry.random.random() < fault.probability:
                entry.hits += 1
                return fault
        return None

    def describe(self, now_ms: int) -> list[dict[str, object]]:
        """All faults with their hits, and whether they can still hit."""
        return [
            {
                "id": entry.number,
                "active": entry.alive(now_ms),
                "hits": entry.hits,
                "since_ms": entry.since_ms,
                **{
                    item.name: value
                    for item in fields(entry.fault)
                    if (value := getattr(entry.fault, item.name)) != item.default
                },
            }
            for entry in self._entries.values()
        ]

    def _index(self) -> None:
        self._kinds = frozenset(entry.fault.kind for entry in self._entries.values())
