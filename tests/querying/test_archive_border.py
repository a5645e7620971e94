"""Answers across the border of archive and REST equal what REST would print if it reached back so far."""

import io
import random
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
import pytest

from app.binance import metrics_csv
from app.binance.rest_form import SymbolDigits
from app.binance.statistics_rows import OPEN_INTEREST, STATISTICS, TAKERS
from app.domain.interval import DAY_MS, INTERVALS, MINUTE_MS
from app.domain.kind import Kind, Row
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.filling.joining import Joining
from app.holding.ledger_cache import LedgerCache
from app.holding.rest_forms import RestForms
from app.kinds.metrics import METRICS
from app.querying.archived_rows import ByOrigin
from app.querying.statistics import Statistics, StatisticsQuery
from app.runtime import Runtime
from infra.net.tls import trusting_nobody
from infra.sandbox.grid import utc_ms
from infra.sandbox.options import Options, RestDigits
from infra.sandbox.server import SandboxServer
from infra.sqlite.sqlite_store import SqliteWriter
from tests.fakes import ManualClock
from tests.patience import PATIENCE_S

BTC: Final = "BTCUSDT"
M5: Final = INTERVALS["5m"]
STEP_MS: Final = 5 * MINUTE_MS
BORDER_MS: Final = utc_ms(2026, 11, 22)  # rows from here on are REST's
BEGIN_MS: Final = BORDER_MS - 2 * DAY_MS
OVERLAP: Final = (BORDER_MS + 3 * DAY_MS, BORDER_MS + 4 * DAY_MS)  # days of which both are compared
NOW_MS: Final = BORDER_MS + 29 * DAY_MS  # the exchange has lost what is before the border
UNKNOWN: Final = {OPEN_INTEREST: ("CMCCirculatingSupply",), TAKERS: ("sellVol", "buyVol")}
FORMS: Final = [
    RestDigits(amount_places, ratio_places, cut=cut, trimmed=trimmed)
    for (amount_places, ratio_places), cut, trimmed in product(((8, 4), (2, 3), (16, 8)), (False, True), (False, True))
]


class TrustedClock(ManualClock):
    """A clock that the exchange has confirmed."""

    is_trusted = True


async def rest(http: httpx.AsyncClient, kind: Kind, span: Span) -> bytes:
    """What REST answers about the open times of a day at most."""
    query = f"symbol={BTC}&period=5m&limit=500&startTime={span.start_ms + STEP_MS}&endTime={span.end_ms}"
    return (await http.get(f"{kind.rest.path}?{query}")).raise_for_status().content


async def archived(http: httpx.AsyncClient, day_ms: int) -> dict[Kind, list[Row]]:
    """The rows of a day's file."""
    file = metrics_csv.MetricsDay(BTC, day_ms)
    packed = (await http.get(file.path)).raise_for_status().content
    with zipfile.ZipFile(io.BytesIO(packed)) as opened:
        content = opened.read(f"{file.name}.csv")
    return {METRICS[name]: list(rows) for name, rows in metrics_csv.parse(content, BTC, day_ms).rows.items()}


@dataclass
class Border:
    """A store with rows of both sources, and the exchange's own rows of all times."""

    store: SqliteWriter
    clock: TrustedClock
    statistics: Statistics
    joining: Joining
    forms: RestForms
    holdings: LedgerCache
    dropped: list[str]
    truth: dict[Kind, list[dict[str, Any]]]
    overlaps: list[tuple[dict[Kind, list[Row]], dict[Kind, list[Row]]]]

    async def learn(self) -> None:
        for mine, theirs in self.overlaps:
            assert (await self.joining.check(BTC, mine, theirs)).mismatches == 0

    async def commit(self, kind: Kind, source: Source, span: Span, rows: list[Row]) -> None:
        series = Series(kind, BTC, M5)
        [committed] = await self.store.commit([Batch(series, source, Spans([span]), rows)])
        self.holdings.set_ledger(series, committed.ledger)

    async def asked(self, kind: Kind, start_ms: int | None, end_ms: int | None, limit: int) -> tuple[list[Any], str]:
        """The rows of an answer, and which of them came from the archive."""
        answer = await self.statistics.held(StatisticsQuery(Series(kind, BTC, M5), start_ms, end_ms, limit))
        assert answer is not None, "all of it is held"
        rows: list[Any] = orjson.loads(answer.body)
        assert orjson.dumps(rows) == answer.body, "no other key order, no blanks"
        return rows, answer.archived


@asynccontextmanager
async def border(folder: Path, digits: RestDigits) -> AsyncIterator[Border]:
    options, past_clock, clock = Options(rest_digits=digits), ManualClock(BORDER_MS + 2 * DAY_MS), TrustedClock(NOW_MS)
    truth: dict[Kind, list[dict[str, Any]]] = {kind: [] for kind in METRICS.values()}
    dropped: list[str] = []
    store = await SqliteWriter.open(f"sqlite:///{folder}/klinenode.db", clock)
    holdings = LedgerCache()
    forms = RestForms(clock, store, lambda _event: None, dropped.append)
    joining = Joining(Runtime(clock, lambda _event: None), store, forms)
    statistics = _statistics(clock, store, holdings, forms)
    async with (
        SandboxServer(past_clock, seed=1, symbols=2, options=options) as past,
        SandboxServer(clock, seed=1, symbols=2, options=options) as present,
        httpx.AsyncClient(base_url=past.base_url, timeout=PATIENCE_S, verify=trusting_nobody()) as earlier,
        httpx.AsyncClient(base_url=present.base_url, timeout=PATIENCE_S, verify=trusting_nobody()) as now,
    ):
        made = Border(store, clock, statistics, joining, forms, holdings, dropped, truth, [])
        for day_ms in range(BEGIN_MS, BORDER_MS + DAY_MS, DAY_MS):
            day, source = Span(day_ms, day_ms + DAY_MS), Source.ARCHIVE if day_ms < BORDER_MS else Source.REST
            files = await archived(now, day_ms) if source is Source.ARCHIVE else {}
            for kind in METRICS.values():
                body = await rest(earlier, kind, day)
                truth[kind] += orjson.loads(body)
                if source is Source.REST:
                    assert await rest(now, kind, day) == body, "the exchange still has it"
                rows = files[kind] if files else list(kind.rest.decode(body, M5.grid, BTC))
                await made.commit(kind, source, day, rows)
        refused = await now.get(f"{kind.rest.path}?symbol={BTC}&period=5m&startTime={BORDER_MS - 3 * DAY_MS}")
        assert refused.status_code == 400, "the exchange has lost it"
        for day_ms in OVERLAP:
            theirs = {
                kind: list(kind.rest.decode(await rest(now, kind, Span(day_ms, day_ms + DAY_MS)), M5.grid, BTC))
                for kind in METRICS.values()
            }
            made.overlaps.append((await archived(now, day_ms), theirs))
        yield made
    await store.close()


def _statistics(clock: TrustedClock, store: SqliteWriter, holdings: LedgerCache, forms: RestForms) -> Statistics:
    async def keep(*_: object) -> None:
        raise AssertionError("the exchange is not asked")

    return Statistics(
        clock, store, ByOrigin(store, forms), holdings, lambda _: Spans(), keep, lambda: True, is_retention_strict=False
    )


def as_far_as_known(kind: Kind, row: dict[str, Any]) -> dict[str, Any]:
    """REST's row, without what the archive does not have where it came from there."""
    if row["timestamp"] > BORDER_MS:
        return row
    return {name: "" if name in UNKNOWN.get(kind.name, ()) else text for name, text in row.items()}


def undecided(kind: Kind, digits: SymbolDigits, mine: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Whether rows differ in a tie only, which is printed as the archive has it until the rule for ties is known."""
    columns = {"sumOpenInterest": "sum_open_interest", "sumOpenInterestValue": "sum_open_interest_value",
               "longShortRatio": "long_short_ratio", "buySellRatio": "buy_sell_ratio"}  # fmt: skip
    differing = [name for name, text in mine.items() if text != expected[name]]
    evidence = [digits.evidence[kind.name, columns[name]] for name in differing]
    return all(each.apply_all([mine[name]]) == [None] for name, each in zip(differing, evidence, strict=True))


@pytest.mark.parametrize("form", FORMS, ids=str)
async def test_answers_over_the_border_are_what_rest_would_print(tmp_path: Path, form: RestDigits) -> None:
    chance = random.Random(f"{form}")
    async with border(tmp_path, form) as made:
        await made.learn()
        digits = await made.forms.of(BTC)
        ties = compared = 0
        for kind in METRICS.values():
            for _ in range(25):
                end_ms = chance.randrange(BORDER_MS - DAY_MS, BORDER_MS + DAY_MS)
                start_ms = chance.randrange(BEGIN_MS, end_ms)
                limit = chance.choice((1, 30, 288, 500))
                bounds = chance.choice(((start_ms, end_ms), (None, max(end_ms, BEGIN_MS + 500 * STEP_MS))))
                rows, archive = await made.asked(kind, bounds[0], bounds[1], limit)
                inside = [each for each in made.truth[kind] if (bounds[0] or 0) <= each["timestamp"] <= bounds[1]]
                expected = [as_far_as_known(kind, each) for each in inside[-limit:]]
                assert [list(each) for each in rows] == [list(each) for each in expected], "the keys in their order"
                differing = [(mine, one) for mine, one in zip(rows, expected, strict=True) if mine != one]
                for mine, one in differing:
                    assert undecided(kind, digits, mine, one), f"{form} {kind.name}: {mine} instead of {one}"
                ties, compared = ties + len(differing), compared + len(rows)
                stamps = [each["timestamp"] for each in expected if each["timestamp"] <= BORDER_MS]
                assert archive == (f"{len(stamps)}; {stamps[0]}-{stamps[-1]}" if stamps else "")
        assert compared > 5_000
        assert ties * 1_000 < compared, "a tie is as rare as one in ten thousand"


async def test_without_an_overlap_the_archive_s_digits_are_printed_and_dropped_once_a_rule_is_known(
    tmp_path: Path,
) -> None:
    async with border(tmp_path, RestDigits()) as made:
        for kind in METRICS.values():
            rows, archive = await made.asked(kind, BORDER_MS, BORDER_MS + STEP_MS, 10)
            assert archive == f"1; {BORDER_MS}-{BORDER_MS}"
            first, second = rows
            assert second == made.truth[kind][2 * 288]
            held = (await made.store.read(Series(kind, BTC, M5), Span(BORDER_MS - STEP_MS, BORDER_MS), 1)).rows[0]
            printed = orjson.loads(kind.finished(kind.encode(held, 0), BTC))
            assert first == printed
            assert set(printed.values()) >= {""}
        await made.learn()
        assert set(made.dropped) == {BTC}
        rows, _ = await made.asked(METRICS[OPEN_INTEREST], BORDER_MS, BORDER_MS, 1)
        assert rows == [as_far_as_known(METRICS[OPEN_INTEREST], made.truth[METRICS[OPEN_INTEREST]][2 * 288 - 1])]


async def test_runs_of_archive_rows_are_named_and_at_most_eight(tmp_path: Path) -> None:
    async with border(tmp_path, RestDigits()) as made:
        await made.learn()
        kind = METRICS[TAKERS]
        window = BORDER_MS - 40 * STEP_MS, BORDER_MS + 10 * STEP_MS
        _, archive = await made.asked(kind, *window, 500)
        assert archive == f"41; {window[0]}-{BORDER_MS}"
        rest_rows = {row["timestamp"] - STEP_MS: row for row in made.truth[kind]}
        for number in range(9):
            open_ms = BORDER_MS - (2 + 2 * number) * STEP_MS
            body = orjson.dumps([rest_rows[open_ms]])
            decoded = list(STATISTICS[TAKERS].decode(body, M5.grid, BTC))
            await made.commit(kind, Source.REST, Span(open_ms, open_ms + STEP_MS), decoded)
        rows, archive = await made.asked(kind, *window, 500)
        named = [f"{window[0]}-{BORDER_MS - 18 * STEP_MS}"]
        named += [f"{BORDER_MS - at * STEP_MS}-{BORDER_MS - at * STEP_MS}" for at in range(16, 2, -2)]
        assert archive == f"32; {', '.join(named)}, more"
        assert sum(row["sellVol"] == "" for row in rows) == 32


async def test_a_row_that_comes_from_the_archive_while_it_is_read_is_known_for_one(tmp_path: Path) -> None:
    """The ledger in memory is that before the commit; the store has the row."""
    async with border(tmp_path, RestDigits()) as made:
        await made.learn()
        kind = METRICS[TAKERS]
        series, later = Series(kind, BTC, M5), Span(BORDER_MS + DAY_MS, BORDER_MS + DAY_MS + STEP_MS)
        await made.commit(kind, Source.ABSENT, later, [])
        known = made.holdings.ledger(series)
        await made.commit(kind, Source.ARCHIVE, later, [kind.row(later.start_ms, "1.23456789", None, None)])
        made.holdings.set_ledger(series, known)
        rows, archive = await made.asked(kind, later.end_ms - 3 * STEP_MS, later.end_ms, 2)
        assert archive == f"1; {later.end_ms}-{later.end_ms}"
        assert (rows[-1]["buySellRatio"], rows[-1]["sellVol"]) == ("1.2346", "")
