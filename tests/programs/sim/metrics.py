"""Metrics in a seed: whose are held, what the exchange grants, how far back it has them, their faults and truth."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

import httpx
import orjson

from app.binance import rate_state
from app.domain.interval import INTERVALS
from app.domain.kind import Bucket, Kind
from app.domain.series import Series
from app.domain.span import Span
from app.holding.wish import REACH_MARGIN_MS
from app.kinds.metrics import METRICS
from app.kinds.registry import named
from infra.sandbox.answers import statistics
from infra.sandbox.archive import metrics as archive_metrics
from infra.sandbox.exchange import Exchange
from infra.sandbox.faults import REST_KINDS
from infra.sandbox.grid import HOUR_MS, MINUTE_MS
from infra.sandbox.limits import DATA_BUCKET
from infra.sandbox.universe import Instrument

if TYPE_CHECKING:
    from tests.programs.sim.schedule import Plan

SHARE: Final = 0.35  # of the seeds: those in which metrics are held
STEP_MS: Final = 5 * MINUTE_MS
REACH_MS: Final = 36 * HOUR_MS
"""How far back REST has metrics here: until the archive's file of a day is published, 8.5 hours after its end, and no
longer, because 30 days of rows would be most of what a seed does."""
ROWS_MAX: Final = 150
"""The rows of a page that the node asks for here, so that history takes more than one."""
GRANTED: Final = (1_000, 1_000, 60)
"""Requests in five minutes, one of which a seed has: the few let the node wait for room."""
LIMITS: Final = ("shared", "shared", "endpoint")
LATE_MS: Final = STEP_MS + MINUTE_MS
"""A row must be held so long after its end: it is due after a minute, and has to be asked for within the limit."""
LYING: Final = frozenset({"missing_rows", "lost_history"})
ARCHIVE_FAULTS: Final = frozenset(
    {"archive_missing_rows", "archive_404", "archive_5xx", "corrupt_zip", "wrong_checksum"}
)
"""Faults that may keep rows of the archive from the node for good, which are absent then if REST has forgotten them."""
CACHED_MS: Final = 16_000  # an answer with the newest row is given again for 15 s

Json = dict[str, object]
_FIELDS: Final = {
    "openInterestHist": ("sumOpenInterest", "sumOpenInterestValue", "CMCCirculatingSupply"),
    "takerlongshortRatio": ("buySellRatio", "sellVol", "buyVol"),
}
_ARCHIVE_PLACES: Final = {
    "openInterestHist": (3, 4),
    "topLongShortAccountRatio": (5,),
    "topLongShortPositionRatio": (6,),
    "globalLongShortAccountRatio": (7,),
    "takerlongshortRatio": (8,),
}
"""By endpoint: the places of its numbers in a row of the archive, after the open time."""
_RATIO_FIELDS: Final = ("longShortRatio", "longAccount", "shortAccount")


# --- the plan ----------------------------------------------------------------------------------------------------


def draw(chance: Random, symbols: Sequence[str]) -> tuple[dict[str, Any], int] | None:
    """The settings of a seed with metrics, and what the exchange grants in five minutes; None: the seed has none."""
    if chance.random() >= SHARE:
        return None
    held = tuple(chance.sample(symbols, chance.randint(1, min(2, len(symbols)))))
    return {"metrics": held, "data_bucket": chance.choice(LIMITS)}, chance.choice(GRANTED)


def draw_fault(chance: Random) -> tuple[str, dict[str, Any]]:
    """The kind of a fault of REST, and what is special about it because it hits requests for metrics alone.

    Few requests leave between two rows, so rows are left out of a number of answers, however long that takes: that a
    row of metrics does not exist is believed after a day only.
    """
    path = chance.choice(("/futures/data/*", "/futures/data/*", *(kind.rest.path for kind in METRICS.values())))
    kind = chance.choice([*sorted(REST_KINDS - LYING - {"hole"}), "missing_rows", "missing_rows"])
    if kind == "missing_rows":
        return kind, {"path": path, "rows": chance.choice((1, 2, 20)), "count": chance.choice((1, 4, 12))}
    return kind, {"path": path}


@contextmanager
def substituted(plan: "Plan") -> Iterator[None]:
    """Let the exchange, and the node, grant and reach back as the plan says."""
    kinds: list[Any] = list(METRICS.values())
    before = [kind.rest for kind in kinds], DATA_BUCKET.limit
    granted = {bucket: plan.data_granted for bucket in Bucket if bucket is not Bucket.FUNDING}
    for kind in kinds:
        object.__setattr__(kind, "rest", replace(kind.rest, reach_ms=REACH_MS, rows_max=ROWS_MAX))
    object.__setattr__(DATA_BUCKET, "limit", plan.data_granted)
    try:
        with patch.dict(rate_state.GRANTED, granted), patch.object(statistics, "REACH_MS", REACH_MS):
            yield
    finally:
        for kind, rest in zip(kinds, before[0], strict=True):
            object.__setattr__(kind, "rest", rest)
        object.__setattr__(DATA_BUCKET, "limit", before[1])


# --- the truth ---------------------------------------------------------------------------------------------------


def is_metrics(name: str) -> bool:
    """Whether `name` is a series of metrics."""
    return _series(name).kind in METRICS.values()


def stored(kind: Kind, row: Json) -> tuple[object, ...]:
    """A row of the exchange in the store's form."""
    texts = (row[name] for name in _FIELDS.get(kind.name, _RATIO_FIELDS))
    return int(str(row["timestamp"])) - STEP_MS, *(text or None for text in texts)


def rows(exchange: Exchange, item: Instrument, name: str, start_ms: int, end_ms: int) -> list[Json]:
    """The exchange's rows of the series `name` of a coin whose periods open in [start_ms, end_ms)."""
    describe = statistics.SERIES[_series(name).kind.name]
    ends_ms = _ends_ms(exchange, item, start_ms, end_ms)
    return [describe(exchange, item, each_ms - STEP_MS, each_ms) for each_ms in ends_ms]


def archived(exchange: Exchange, item: Instrument, name: str, start_ms: int, end_ms: int) -> list[tuple[object, ...]]:
    """The same rows as the archive has them, in the store's form."""
    kind = _series(name).kind
    places = _ARCHIVE_PLACES[kind.name]
    unknown = (None,) * (len(kind.columns) - 1 - len(places))
    ends_ms = _ends_ms(exchange, item, start_ms, end_ms)
    found = (archive_metrics.row(exchange, item, each_ms - STEP_MS) for each_ms in ends_ms)
    return [(int(str(row[0])), *(row[each] for each in places), *unknown) for row in found]


def is_near(value: str, true: str) -> bool:
    """Whether `value` is `true` with other digits, as the archive has it, or is not known there."""
    unit = Decimal(1).scaleb(-len(true.partition(".")[2]))
    return not value or abs(Decimal(value) - Decimal(true)) <= unit


def due(now_ms: int) -> Span:
    """The open times of the rows that must be held when all is calm, if the exchange has them."""
    start_ms = now_ms - REACH_MS + REACH_MARGIN_MS + 2 * STEP_MS
    return Span(-(-start_ms // STEP_MS) * STEP_MS, (now_ms - LATE_MS) // STEP_MS * STEP_MS)


def _series(name: str) -> Series:
    return named(name, INTERVALS["5m"])


def _ends_ms(exchange: Exchange, item: Instrument, start_ms: int, end_ms: int) -> range:
    last_ms = min(end_ms - 1 + STEP_MS, exchange.clock.now_ms(), item.gone_ms)
    return exchange.statistics.ends_ms(item, STEP_MS, start_ms + STEP_MS, last_ms)


def _is_true(row: Json, true: Json, archive_rows: str) -> bool:
    """Whether a row of an answer is the exchange's. `archive_rows`: the header that says which are the archive's."""
    if row == true:
        return True
    stamp_ms = int(str(row["timestamp"]))
    runs = [run.split("-") for run in archive_rows.partition("; ")[2].split(", ") if run]
    is_archived = any(run == ["more"] or int(run[0]) <= stamp_ms <= int(run[1]) for run in runs)
    return (
        is_archived
        and row.keys() == true.keys()
        and all(
            row[name] == true[name] if name in ("symbol", "timestamp") else is_near(str(row[name]), str(true[name]))
            for name in row
        )
    )


# --- a client's question -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """A client's question about metrics."""

    name: str
    """The node's name of the series."""
    limit: int
    start_ms: int | None
    end_ms: int | None

    @property
    def url(self) -> str:
        series = _series(self.name)
        times = {"startTime": self.start_ms, "endTime": self.end_ms}
        sent = {"symbol": series.symbol, "period": "5m", "limit": self.limit}
        sent |= {name: value for name, value in times.items() if value is not None}
        return f"{series.kind.rest.path}?" + "&".join(f"{name}={value}" for name, value in sent.items())

    @classmethod
    def drawn(cls, chance: Random, names: Sequence[str], now_ms: int) -> "Question":
        """A question within what the exchange has, and a little before it."""
        start_ms, end_ms = sorted(now_ms - int(chance.random() ** 2 * (REACH_MS + HOUR_MS)) for _ in range(2))
        shape = chance.random()
        return cls(
            chance.choice(names),
            chance.choice((1, 2, 30, 200)),
            start_ms if shape < 0.4 else None,
            end_ms if 0.2 < shape < 0.7 else None,
        )

    def may_be_refused(self, now_ms: int) -> bool:
        """Whether the exchange refuses the question by its times, wherever the node does not hold the rows."""
        oldest_ms = now_ms - REACH_MS + MINUTE_MS
        return min(self.start_ms or now_ms, self.end_ms or now_ms) < oldest_ms

    def wrong(
        self, exchange: Exchange, item: Instrument, answer: httpx.Response, sent_ms: int, *, is_honest: bool
    ) -> str:
        """What is wrong with an answer about a coin; "" if nothing. `is_honest`: the exchange never left rows out."""
        body: list[Json] = orjson.loads(answer.content)
        archive_rows = answer.headers.get("x-archive-rows", "")
        now_ms = exchange.clock.now_ms()
        lower_ms = max(self.start_ms or 0, sent_ms - 2 * REACH_MS)
        upper_ms = now_ms if self.end_ms is None else min(now_ms, self.end_ms)
        there = rows(exchange, item, self.name, (-(-lower_ms // STEP_MS) - 1) * STEP_MS, upper_ms // STEP_MS * STEP_MS)
        known = {int(str(row["timestamp"])): row for row in there}
        stamps = [int(str(row["timestamp"])) for row in body]
        if stamps != sorted(set(stamps)) or len(body) > self.limit:
            return f"is not {self.limit} rows in order: {stamps}"
        true = [known.get(stamp, {}) for stamp in stamps]
        if strange := [row for row, other in zip(body, true, strict=True) if not _is_true(row, other, archive_rows)]:
            return f"has rows that are not the exchange's: {strange[:2]}"
        least = [stamp for stamp in known if stamp <= sent_ms - CACHED_MS]
        for newest_ms in (max(known, default=0), max(least, default=0)):
            expected = [stamp for stamp in sorted(known) if stamp <= newest_ms][-self.limit :]
            lacking = expected[: len(expected) - len(stamps)]
            if stamps == expected[len(lacking) :] and max(lacking, default=0) <= now_ms - REACH_MS:
                return ""
        return f"has {stamps} instead of {sorted(known)[-self.limit :]}" if is_honest else ""
