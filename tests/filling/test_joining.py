"""The join of archive and REST: learned, stored, counted, and known to whoever prints."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app.binance.digits import Rounding, Rule, long_share, short_share
from app.binance.evidence import Evidence
from app.binance.rest_form import SymbolDigits
from app.binance.statistics_rows import ACCOUNTS, OPEN_INTEREST, TAKERS, OpenInterestRow, RatioRow, TakerRow
from app.domain.kind import Kind, Row
from app.events import ArchiveJoined, Event, GarbageDropped, RestFormChanged
from app.filling.joining import JoinCheck, Joining
from app.holding.rest_forms import LOOK_MS, RestForms
from app.kinds.metrics import METRICS
from app.runtime import Runtime
from infra.sqlite.sqlite_store import SqliteWriter
from tests.fakes import ManualClock

BTC = "BTCUSDT"
UP4 = Rule(4, is_trimmed=False, rounding=Rounding.HALF_UP)
UP8 = UP4._replace(places=8)
STEP_MS = 300_000
Rows = dict[Kind, list[Row]]


def day(number: int, wrong: int = 0, ratio_rule: Rule = UP4) -> tuple[Rows, Rows]:
    """All kinds' rows of a day, from the archive and from REST; of `wrong` rows REST has other values."""
    chance = random.Random(number)
    opens_ms = range(number * 288 * STEP_MS, (number + 1) * 288 * STEP_MS, STEP_MS)
    archived: Rows = {kind: [] for kind in METRICS.values()}
    rest: Rows = {kind: [] for kind in METRICS.values()}
    for at, open_ms in enumerate(opens_ms):
        for kind in METRICS.values():
            mine, theirs = f"{chance.randrange(3)}.{chance.randrange(10**8):08}", f"{chance.randrange(9)}.5000"
            amount = f"{chance.randrange(10**6)}.{chance.randrange(10**10):010}000000"
            if kind.name == OPEN_INTEREST:
                archived[kind].append(OpenInterestRow(open_ms, amount, amount, None))
                rest[kind].append(OpenInterestRow(open_ms, UP8.apply(amount), UP8.apply(amount), "21000000.00000000"))
            elif kind.name == TAKERS:
                archived[kind].append(TakerRow(open_ms, mine, None, None))
                rest[kind].append(TakerRow(open_ms, UP4.apply(mine) if at >= wrong else theirs, "1.0", "2.0"))
            else:
                archived[kind].append(RatioRow(open_ms, mine, None, None))
                long = ratio_rule.apply(long_share(mine))
                rest[kind].append(RatioRow(open_ms, ratio_rule.apply(mine), long, short_share(long)))
    return archived, rest


@dataclass
class Case:
    writer: SqliteWriter
    clock: ManualClock
    events: list[Event] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.forms = RestForms(self.clock, self.writer, self.events.append, self.changed.append)
        self.joining = Joining(Runtime(self.clock, self.events.append), self.writer, self.forms)

    def seen(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
async def case(tmp_path: Path) -> AsyncIterator[Case]:
    clock = ManualClock()
    writer = await SqliteWriter.open(f"sqlite:///{tmp_path}/klinenode.db", clock)
    yield Case(writer, clock)
    await writer.close()


def rules(digits: SymbolDigits) -> set[Rule]:
    """The rules of columns in which one is left; ties, which are rare, leave two."""
    return {evidence.left[0] for evidence in digits.evidence.values()}


async def test_a_day_is_learned_and_further_days_change_nothing_but_numbers(case: Case) -> None:
    assert await case.joining.check(BTC, *day(1)) == JoinCheck(9 * 288, 0, is_changed=True)
    digits = await case.forms.of(BTC)
    assert rules(digits) == {UP4, UP8}
    assert not case.changed, "nothing was printed before"
    for number in (2, 3):
        assert (await case.joining.check(BTC, *day(number)))[:2] == (9 * 288, 0)
    assert (await case.forms.of(BTC)).pairs == 3 * 9 * 288
    assert {(event.kind, event.pairs) for event in case.seen(ArchiveJoined)} == {
        (name, 288 if name == TAKERS else 576) for name in METRICS
    }
    assert not case.seen(RestFormChanged)
    assert await case.forms.of("ETHUSDT") == SymbolDigits()


async def test_different_values_are_counted_and_listed_and_change_no_rule(case: Case) -> None:
    await case.joining.check(BTC, *day(1))
    before = await case.forms.of(BTC)
    assert (await case.joining.check(BTC, *day(2, wrong=25))).mismatches == 25
    after = await case.forms.of(BTC)
    assert rules(after) == rules(before)
    assert [each.open_ms for each in after.last] == [(288 * 2 + at) * STEP_MS for at in range(5, 25)]
    assert {(each.endpoint, each.column) for each in after.last} == {(TAKERS, "buy_sell_ratio")}
    assert sum(event.mismatches for event in case.seen(ArchiveJoined)) == 25


async def test_another_form_is_learned_reported_and_replaces_what_was_printed(case: Case) -> None:
    await case.joining.check(BTC, *day(1))
    await case.forms.of(BTC)
    down = Rule(6, is_trimmed=False, rounding=Rounding.DOWN)
    found = await case.joining.check(BTC, *day(2, ratio_rule=down))
    assert (found.mismatches, found.is_changed) == (0, True)
    assert case.changed == [BTC]
    reported = case.seen(RestFormChanged)
    assert {event.column.rpartition(".")[2] for event in reported} == {"long_short_ratio", "long_account"}
    assert {event.after for event in reported} == {"6 decimals, down"}
    assert (await case.forms.of(BTC)).evidence[ACCOUNTS, "long_short_ratio"].rule == down


async def test_nothing_to_compare_stores_nothing(case: Case) -> None:
    archived, rest = day(1)
    nothing = JoinCheck(0, 0, is_changed=False)
    assert await case.joining.check(BTC, archived, {}) == nothing
    assert await case.joining.check(BTC, {}, rest) == nothing
    assert await case.joining.check(BTC, archived, day(2)[1]) == nothing
    assert await case.writer.document("digits/BTCUSDT") is None
    assert not case.events


async def test_checks_at_one_time_lose_nothing(case: Case) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(case.joining.check(BTC, *day(number)))
            group.create_task(case.joining.check("ETHUSDT", *day(number)))
    for symbol in (BTC, "ETHUSDT"):
        assert (await case.forms.of(symbol)).pairs == 3 * 9 * 288


async def test_a_damaged_document_is_learned_again(case: Case) -> None:
    await case.writer.save_document("digits/BTCUSDT", b"{", 0)
    assert await case.forms.of(BTC) == SymbolDigits()
    assert [event.where for event in case.seen(GarbageDropped)] == ["digits/BTCUSDT"]
    await case.joining.check(BTC, *day(1))
    assert rules(await case.forms.of(BTC)) == {UP4, UP8}


async def test_another_process_knows_a_minute_later_and_drops_what_it_has_printed(case: Case) -> None:
    dropped: list[str] = []
    other = RestForms(case.clock, case.writer, case.events.append, dropped.append)
    assert await other.of(BTC) == SymbolDigits()
    await case.joining.check(BTC, *day(1))
    case.clock.ms += LOOK_MS - 1
    assert await other.of(BTC) == SymbolDigits()
    assert not dropped
    case.clock.ms += 1
    assert await other.of(BTC) == await case.forms.of(BTC)
    assert dropped == [BTC]
    column = ACCOUNTS, "long_short_ratio"
    evidence = (await case.forms.of(BTC)).evidence[column]
    more = (await case.forms.of(BTC)).with_column(column, evidence._replace(pairs=1_000), [])
    await case.writer.save_document("digits/BTCUSDT", more.to_json(), case.clock.ms)
    case.clock.ms += LOOK_MS
    assert await other.of(BTC) == more
    assert dropped == [BTC], "the rules are the same"


async def test_what_became_known_during_a_read_is_kept(case: Case) -> None:
    """The read may have been of the document before."""
    reading, gate = asyncio.Event(), asyncio.Event()

    class Slow:
        async def document(self, name: str) -> None:
            reading.set()
            await gate.wait()

    forms = RestForms(case.clock, Slow(), case.events.append, case.changed.append)  # type: ignore[arg-type]
    new = SymbolDigits({(ACCOUNTS, "long_short_ratio"): Evidence(pairs=1)})
    async with asyncio.TaskGroup() as group:
        task = group.create_task(forms.of(BTC))
        await reading.wait()
        forms.keep(BTC, new)
        gate.set()
    assert task.result() == new


async def test_a_read_during_which_everything_is_forgotten_is_answered_and_not_kept(case: Case) -> None:
    """As when the process becomes the writer, or another database appears."""
    reading, gate = asyncio.Event(), asyncio.Event()

    class Slow:
        async def document(self, name: str) -> None:
            reading.set()
            await gate.wait()

    forms = RestForms(case.clock, Slow(), case.events.append, case.changed.append)  # type: ignore[arg-type]
    forms.keep(BTC, SymbolDigits({(ACCOUNTS, "long_short_ratio"): Evidence(pairs=1)}))
    case.clock.ms += LOOK_MS
    async with asyncio.TaskGroup() as group:
        task = group.create_task(forms.of(BTC))
        await reading.wait()
        forms.clear()
        gate.set()
    assert task.result() == SymbolDigits()
