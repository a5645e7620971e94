"""A long archive with every quirk, across the change of labels, compared row by row with the exchange's true numbers.

`python -m tests.filling.test_archived_year 20 365` does it for a year of 20 symbols, which takes an hour of a core.
"""

import asyncio
import hashlib
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx

from app.domain.interval import DAY_MS, HOUR_MS
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.holding.metrics_looks import CONFIRM_MS
from app.kinds.metrics import METRICS
from infra.net.tls import trusting_nobody
from infra.sandbox.grid import utc_ms
from infra.sandbox.options import Options
from infra.sandbox.statistics import PERIOD_MS
from tests.filling.test_archived_metrics import Case, archived
from tests.sandbox.files import day_text, metrics_file, unpack

FLIP_MS: Final = utc_ms(2026, 6, 25)
WEEKS: Final = 10
STAMPED: Final = timedelta(milliseconds=PERIOD_MS)
_VALUES: Final = dict(zip(METRICS, (slice(0, 2), *(slice(place, place + 1) for place in range(2, 6))), strict=True))
"""By endpoint: the places of its values among the six of a line."""

Line = tuple[str, ...]


def opened_ms(label: str, day_ms: int) -> int:
    """The open time that a label of a day's file means: since the flip it is the label, before it five minutes less."""
    at = datetime.fromisoformat(label).replace(tzinfo=UTC) - (STAMPED if day_ms < FLIP_MS else timedelta())
    return int(at.timestamp()) * 1_000


async def read_by_hand(case: Case, symbol: str, days_ms: range) -> dict[int, list[Line]]:
    """By open time: the lines of all good files in the order in which they count."""
    found: dict[int, list[Line]] = {}
    async with httpx.AsyncClient(base_url=case.sandbox.base_url, timeout=60, verify=trusting_nobody()) as client:
        for day_ms in days_ms:
            path = metrics_file(symbol, day_text(day_ms))
            answer, digest = await client.get(path), (await client.get(f"{path}.CHECKSUM")).text.partition(" ")[0]
            if answer.status_code == 404 or not _is_right(answer.content, digest):
                continue
            for label, _, *values in unpack(answer.content, path)[1:]:
                is_zeros = all(values) and not "".join(values).strip("0.")  # beside blanks a zero is a number
                line = tuple("" if is_zeros else value for value in values)
                lines = found.setdefault(opened_ms(label, day_ms), [])
                lines.append(line)
    return found


def _is_right(content: bytes, digest: str) -> bool:
    return hashlib.sha256(content).hexdigest() == digest


def counted(lines: list[Line]) -> Line:
    """The line that counts: the last, with the values that it lacks from those before."""
    left = lines[0]
    for line in lines[1:]:
        left = tuple(later or earlier for later, earlier in zip(line, left, strict=True))
    return left


def true_line(case: Case, symbol: str, open_ms: int) -> Line:
    exchange = case.sandbox.exchange
    item = exchange.universe.find_ever(symbol, open_ms, open_ms + PERIOD_MS)
    assert item is not None
    interest = exchange.statistics.interest(item, open_ms + PERIOD_MS)
    names = ("topLongShortAccountRatio", "topLongShortPositionRatio", "globalLongShortAccountRatio")
    ratios = [exchange.statistics.ratio(item, name, open_ms + PERIOD_MS) for name in names]
    ratios.append(exchange.statistics.takers(item, open_ms, open_ms + PERIOD_MS).ratio)
    return (
        *(f"{units // 10**16}.{units % 10**16:016}" for units in interest),
        *(f"{units // 10**8}.{units % 10**8:08}" for units in ratios),
    )


async def test_a_long_archive_is_what_the_exchange_knew_when_it_knew_it(tmp_path: Path) -> None:
    tally = await checked(tmp_path, 2, 45)
    for quirk in ("absent", "contradicted", "double"):
        assert tally[quirk], f"no {quirk}: the archive of this seed tests nothing"


async def checked(folder: Path, symbols: int, days: int) -> Counter[str]:
    """Read and compare an archive of so many symbols and days, a third of which lie behind the change of labels."""
    now_ms = FLIP_MS + min(days // 3, 120) * DAY_MS + 12 * HOUR_MS
    end_ms = now_ms // DAY_MS * DAY_MS
    begin_ms = end_ms - days * DAY_MS
    options = Options(archive_quirks=True)
    async with archived(folder, days=days, now_ms=now_ms, symbols=symbols + 1, options=options) as case:
        listed = [item for item in case.sandbox.exchange.universe.at(begin_ms) if item.onboard_ms < begin_ms - DAY_MS]
        names = [item.symbol for item in listed if item.contract_type == "PERPETUAL" and item.delivery_ms > now_ms]
        case.symbols = tuple(names[:symbols])
        await case.loop.read_all()
        case.rig.clock.ms += CONFIRM_MS  # while the first days are wished
        await case.loop.read_all()
        for _ in range(WEEKS):  # until late files have come, and those that are replaced were looked at again
            case.rig.clock.ms += 7 * DAY_MS
            await case.loop.read_all()
        tally: Counter[str] = Counter()
        for symbol in case.symbols:
            await compare(case, symbol, range(begin_ms, end_ms, DAY_MS), tally)
        assert tally["rows"] > 0.9 * len(METRICS) * 288 * days * len(case.symbols)
        assert tally["contradicted"] < 0.01 * tally["rows"]
        return tally


async def compare(case: Case, symbol: str, days_ms: range, tally: Counter[str]) -> None:
    """Compare all five series of a symbol with the files as read by hand, and with the true numbers."""
    lines = await read_by_hand(case, symbol, days_ms)
    span = Span(days_ms.start, days_ms.stop)
    expected = {open_ms: counted(some) for open_ms, some in lines.items() if span.start_ms <= open_ms < span.end_ms}
    true = {open_ms: true_line(case, symbol, open_ms) for open_ms in expected}
    tally["double"] += sum(len(some) > 1 for some in lines.values())
    for kind in METRICS.values():
        series, places = Series(kind, symbol, case.series(kind).interval), _VALUES[kind.name]
        held: dict[int, Any] = {row.open_ms: row for row in (await case.rig.store.read(series, span, 1 << 30)).rows}
        known = {at: line[places] for at, line in expected.items() if any(line[places])}
        assert held.keys() == known.keys(), f"{series}: rows that should not be there, or lack"
        ledger = case.rig.holdings.ledger(series)
        absent = Spans(entry.span for entry in ledger.entries if entry.source is Source.ABSENT)
        assert ledger.known.covers(span), f"{series}: what the archive lacks is absent, not unknown"
        for at, values in known.items():
            texts = tuple(text or "" for text in tuple(held[at])[1 : 1 + len(values)])
            assert texts == values, f"{series} at {at}"
            is_true = all(text in {"", right} for text, right in zip(texts, true[at][places], strict=True))
            tally["rows"] += 1
            tally["true" if is_true else "contradicted"] += 1
        tally["absent"] += sum((end_ms - start_ms) // PERIOD_MS for start_ms, end_ms in absent.clip(span))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        print(dict(asyncio.run(checked(Path(made), int(sys.argv[1]), int(sys.argv[2])))))
