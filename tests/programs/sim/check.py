"""The witness, which compares the node's answers, requests and state with the truth and the exchange's rules."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import httpx
import orjson

from app.domain.interval import INTERVALS, M1, MINUTE_MS
from app.domain.reason import Reason
from app.domain.series import Series
from app.domain.symbol import Symbol
from app.holding.wish import CLOSE_GRACE_MS
from app.kinds.klines import KLINES
from app.kinds.registry import named
from app.node.node import Node
from app.ports.exchange import Priority
from infra.binance.budget import WAITERS_MAX
from infra.binance.socket_intake import QUEUE_MAX
from infra.sandbox.grid import DURATIONS_MS
from tests.programs.sim import metrics
from tests.programs.sim.clients import Asked
from tests.programs.sim.holes import Hole
from tests.programs.sim.loop import Fate
from tests.programs.sim.stored import Row
from tests.programs.sim.truth import Truth

if TYPE_CHECKING:
    from tests.programs.sim.process import Process
    from tests.programs.sim.world import Sim

SAMPLE_S: Final = 1.0
STALE_MS: Final = 1_000  # an answer's clock may be so far behind without counting as stale
BATCH_ROWS_MAX: Final = 5_000
EARLY_S_MAX: Final = 1.0  # a stand-down may end so much too early: the error of a clock measured over a network
READS_MAX: Final = 64
VERIFY_S_MAX: Final = 1_800
HEARD_MS_MAX: Final = 150_000  # the age of the newest frame: two closes, the second one late
HOLE_S_MAX: Final = 60  # answers around a hole may be refused for so long once all is whole: 5 s, and for the weight
HEARD_S_MAX: Final = 200  # until a sick socket is detected and replaced
READY_S_MAX: Final = 15  # a follower reads the ledger every five seconds


@dataclass(frozen=True)
class Moment:
    """When a request was sent: the true time, and the error of the node's clock."""

    true_ms: int
    error_ms: int
    listings: Mapping[str, Symbol]
    """The exchange's list as the node knew it."""


class Witness:
    """Compares what the node does with the truth; differences fail the seed."""

    def __init__(self, sim: "Sim") -> None:
        self._sim = sim
        self.truth = Truth(sim)
        self._stored_stand_down_ms: dict[Fate, int] = {}
        self.deepest: Counter[str] = Counter()
        self.requests = 0

    # --- answers --------------------------------------------------------------------------------------------------

    def moment(self, process: "Process") -> Moment:
        """The current Moment of a process."""
        true_ms = self._sim.clock.now_ms()
        error_ms = process.node.parts.clock.now_ms() - true_ms if process.node else 0
        return Moment(true_ms, error_ms, process.node.parts.symbols.listings if process.node else {})

    def answered(self, process: "Process", asked: Asked, answer: httpx.Response, sent: Moment) -> None:
        """Compare an answer with the truth."""
        if self._is_unnoticed(asked.name, sent.listings):
            self._sim.count("answers from before a relisting was noticed")
        elif answer.status_code == 200 and not self._sim.is_contradicted:
            late_ms = max(0, -sent.error_ms, -self.moment(process).error_ms)
            body = orjson.loads(answer.content)
            if wrong := self._wrong(asked, body, sent.true_ms, late_ms) or self._unnamed(asked, body, answer):
                self._sim.fail(f"{process.fate.name}: {asked.url} {wrong}")
        if answer.status_code == 200:
            return
        try:
            code = orjson.loads(answer.content)["code"]
        except (ValueError, KeyError, TypeError):
            code = None
        is_honest = isinstance(code, int) and (
            (answer.status_code == 503 and answer.headers.get("retry-after", "").isdigit())
            or (answer.headers.get("x-klinenode-reason") == Reason.NOT_HELD and self._may_never_come(asked))
            or (answer.status_code == 400 and code == -1121 and not self._is_listed(asked, sent))
        )
        if not is_honest:
            self._sim.fail(f"{process.fate.name}: {asked.url} → {answer.status_code} {answer.text:.200}")

    def _may_never_come(self, asked: Asked) -> bool:
        """Whether nobody will fetch klines of a series, so that a refusal need not say when to try again."""
        settings, kind = self._sim.plan.settings, named(asked.series, M1).kind
        names = settings["symbols"]
        if kind is not KLINES:
            names = settings["price_klines_symbols"] if kind.name in settings.get("price_klines", ()) else ()
        return not (settings["read_through"] or (asked.name in names and asked.interval in settings["intervals"]))

    def answered_question(
        self, process: "Process", question: metrics.Question, answer: httpx.Response, sent: Moment
    ) -> None:
        """Compare an answer about metrics with the truth."""
        sim = self._sim
        symbol = named(question.name, M1).symbol
        if self._is_unnoticed(symbol, sent.listings) or sim.exchange.exchange.universe.former(symbol) is not None:
            sim.count("answers about metrics of a name that changed hands")
        elif answer.status_code == 200:
            is_honest = not any(step.kind in metrics.LYING for step in sim.plan.steps)
            sent_ms = sent.true_ms - max(0, -sent.error_ms, -self.moment(process).error_ms)
            item = self.truth.item(question.name)
            assert item is not None, "questions are about the plan's coins"
            if wrong := question.wrong(sim.exchange.exchange, item, answer, sent_ms, is_honest=is_honest):
                sim.fail(f"{process.fate.name}: {question.url} {wrong}")
            sim.count("answers about metrics")
        elif not (answer.status_code == 503 and answer.headers.get("retry-after", "").isdigit()):
            code = orjson.loads(answer.content).get("code")
            is_refused = (code == -1130 and question.may_be_refused(sim.clock.now_ms())) or (
                code == -1121 and sim.exchange.exchange.universe.find(symbol, sent.true_ms) is None
            )
            if answer.status_code != 400 or not is_refused:
                sim.fail(f"{process.fate.name}: {question.url} → {answer.status_code} {answer.text:.200}")

    def _unnamed(self, asked: Asked, body: list[list[Any]], answer: httpx.Response) -> str:
        """Describe a hole in an answer that its coverage header does not name, or names wrongly; "" without one."""
        item = self.truth.item(asked.series)
        if item is None or len(body) < 2:
            return ""
        grid = item.grid(asked.interval)
        holes = [(grid.next(one[0]), two[0]) for one, two in pairwise(body) if grid.next(one[0]) != two[0]]
        header = answer.headers.get("x-klinenode-coverage", "")
        named = ",".join(f"{start_ms}-{end_ms}" for start_ms, end_ms in holes)
        if holes and f"absent={named}" not in header.split("; "):
            return f"lacks {named}, and the header says {header!r}"
        self._sim.count("answers with a hole", len(holes))
        return ""

    def _is_listed(self, asked: Asked, sent: Moment) -> bool:
        return self._sim.exchange.exchange.universe.find(asked.name, sent.true_ms) is not None

    def _is_unnoticed(self, symbol: str, listings: Mapping[str, Symbol]) -> bool:
        """Whether the name belongs to another coin by now, and the node's list of symbols does not say so yet."""
        listed = listings.get(symbol)
        return self.truth.is_elsewhere(symbol, 0 if listed is None else listed.onboard_ms)

    def _wrong(self, asked: Asked, body: list[list[Any]], sent_ms: int, late_ms: int) -> str:
        """What is wrong with the rows of an answer to a request sent at `sent_ms`; "" when nothing is."""
        now_ms = self._sim.clock.now_ms()
        rows = [(*row[:6], *row[7:11]) for row in body]
        live = None
        if (
            rows
            and not (asked.only_final and named(asked.series, M1).kind is KLINES)
            and body[-1][6] >= sent_ms - CLOSE_GRACE_MS - late_ms
        ):
            open_ms = body[-1][0]
            if rows[-1:] != self.truth.rows(asked.series, asked.interval, open_ms, open_ms + 1):
                live = rows.pop()[0]
        item = self.truth.item(asked.series)
        if item is None:
            return "has rows of a symbol that never was" if rows else ""
        grid = item.grid(asked.interval)
        due_ms = grid.floor(sent_ms - CLOSE_GRACE_MS - late_ms - STALE_MS)
        end_ms = 1 << 62 if asked.end_ms is None else asked.end_ms + 1
        limit = asked.limit - (live is not None)
        if live is not None and rows and live != grid.next(int(str(rows[-1][0]))):
            return f"has a hole before its live kline {live}"
        if asked.start_ms is not None:
            expected = self.truth.rows(asked.series, asked.interval, asked.start_ms, min(end_ms, now_ms))[: asked.limit]
            due = sum(1 for row in expected if int(str(row[0])) < due_ms)
            if rows != expected[: len(rows)]:
                return f"differs: {_difference(rows, expected)}"
            return "" if len(rows) >= min(due, limit) else f"ends early: {len(rows)} rows of {due} due"
        if not rows:
            first_ms = grid.floor(item.onboard_ms)
            return "is empty" if limit and first_ms < min(due_ms, end_ms) else ""
        last_ms = int(str(rows[-1][0]))
        size_ms = DURATIONS_MS[asked.interval]
        hidden_ms = sum(hole.end_ms - hole.start_ms for hole in self._sim.plan.holes if hole.name == asked.series)
        since_ms = last_ms - (limit - 1) * size_ms - hidden_ms
        expected = self.truth.rows(asked.series, asked.interval, since_ms, last_ms + 1)[-limit:]
        if rows != expected:
            return f"differs: {_difference(rows, expected)}"
        newest_due_ms = min(due_ms, grid.next(grid.floor(end_ms - 1)) if asked.end_ms is not None else due_ms)
        is_stale = self.truth.rows(asked.series, asked.interval, grid.next(last_ms), newest_due_ms)
        return f"is stale: ends at {last_ms}, {newest_due_ms} was due" if is_stale else ""

    # --- manners ----------------------------------------------------------------------------------------------------

    def asked(self, fate: Fate, path: str) -> None:
        """Check a process's request to the exchange's REST against its stand-down."""
        sim = self._sim
        self.requests += 1
        sim.trace(f"{fate.name} GET {path}")
        process = next(process for process in sim.processes if process.fate is fate)
        for announced_s, until_s in process.stand_downs:
            if announced_s < sim.loop.time() < until_s - EARLY_S_MAX:
                sim.fail(f"{fate.name} asks {path} {until_s - sim.loop.time():.1f} s before its stand-down ends")
        stored_ms = self._stored_stand_down_ms.get(fate, 0)
        if sim.clock.now_ms() < stored_ms - EARLY_S_MAX * 1_000:
            sim.fail(f"{fate.name} asks {path} {stored_ms - sim.clock.now_ms()} ms before the stored stand-down ends")

    def started(self, fate: Fate) -> None:
        """A process has started: it must honour the stand-down in the database."""
        self._stored_stand_down_ms[fate] = self._sim.store.stand_down_until_ms()

    async def run(self) -> None:
        """Check the state of the processes every second, for ever."""
        sim = self._sim
        while True:
            await sim.clock.sleep(SAMPLE_S)
            holders = [process for process in sim.processes if process.node and process.node.parts.lease.is_held()]
            writers = [process.name for process in holders if process.node and process.node.writer]
            if len(writers) > 1:
                sim.fail(f"two writers at once: {writers}")
            for process in sim.processes:
                self._sample(process)

    def _sample(self, process: "Process") -> None:
        node = process.node
        if node is None:
            return
        writer, rows_max = node.writer, self._sim.plan.queue_rows_max or 20_000
        bounds = {
            "rows that wait to be written": (writer.live.queue_depth if writer else 0, rows_max + BATCH_ROWS_MAX),
            "requests that wait for weight": (max(map(node.parts.budget.waiting, Priority)), WAITERS_MAX),
            "read-throughs": (len(node.parts.read_through._flights), READS_MAX),
            "bytes of pages": (node.parts.pages.bytes, node.parts.settings.cache_bytes_max),
            "socket events": (writer.sockets._intake.depth if writer else 0, QUEUE_MAX),
        }
        for name, (number, most) in bounds.items():
            self.deepest[name] = max(self.deepest[name], number)
            if number > most:
                self._sim.fail(f"{process.fate.name}: {number} {name}, {most} are the most allowed")

    # --- the end ----------------------------------------------------------------------------------------------------

    def lacking(self) -> str:
        """What the node still lacks now that all faults have ended; "" if nothing."""
        sim = self._sim
        if not all(process.is_up and process.node for process in sim.processes):
            return "not all processes are up"
        writers = [process.node for process in sim.processes if process.node and process.node.writer]
        if not writers:
            return "nobody writes"
        if any(process.standing_until_ms() > sim.clock.now_ms() for process in sim.processes):
            return "a stand-down lasts"
        node = writers[0]
        if node.parts.symbols.synced_ms is None:
            return "symbols were never synced"
        if late := [
            name for name in node.parts.symbols.listings if self._is_unnoticed(name, node.parts.symbols.listings)
        ]:
            return f"the relisting of {late} is not noticed"
        if node.parts.holdings.doubted:
            return f"whose klines are held is not settled: {sorted(node.parts.holdings.doubted)}"
        gaps = [
            f"{gap.series.symbol} {gap.series.interval} {list(gap.missing)}"
            for gap in node.parts.coverage.gaps()
            if gap.missing and not gap.series.kind.is_gathered  # a file is sought for hours, longer than a seed lasts
        ]
        return ", ".join([*gaps, *self._lacking_metrics(node)])

    def _lacking_metrics(self, node: Node) -> list[str]:
        """The rows of metrics that the exchange has, and that should have been asked for by now."""
        sim = self._sim
        found = []
        for name in sim.plan.metrics:
            series = named(name, INTERVALS["5m"])
            held = node.parts.holdings.ledger(series).held
            rows = self.truth.rows(name, "5m", *metrics.due(sim.clock.now_ms()))
            if lost := [row[0] for row in rows if held.span_at(int(str(row[0]))) is None]:
                found.append(f"{name} {len(lost)} of {len(rows)} rows: {lost[:3]}")
        return found

    async def verify(self) -> None:
        """Have the writer verify all that it holds, as an operator would."""
        sim = self._sim
        process = next(process for process in sim.processes if process.node and process.node.writer)
        await process.run_inside(self._verify(process))

    async def _verify(self, process: "Process") -> None:
        assert process.node is not None, "a process that writes has a node"
        assert process.client is not None, "a process that is up has a client"
        wish = process.node.parts.wish()
        codes = list(dict.fromkeys(series.interval.code for series in wish.planned()))
        body = {"symbols": sorted(wish.symbols), "intervals": codes, "start": 0, "end": self._sim.clock.now_ms()}
        operator = {"authorization": f"Bearer {process.node.parts.token_file.token()}"}
        answer = await process.client.post("/v1/admin/verify", json=body, headers=operator)
        if answer.status_code != 202:
            self._sim.fail(f"verification is refused: {answer.status_code} {answer.text:.200}")
            return
        for _ in range(VERIFY_S_MAX):
            await self._sim.clock.sleep(1.0)
            report = orjson.loads((await process.client.get("/v1/verification")).content)
            if all(audit["state"] in ("done", "failed") for audit in report["audits"]):
                return
        self._sim.fail(f"verification does not end: {report}")

    async def at_the_end(self) -> None:
        """Check, once everything is whole, that the held klines are the truth and that the node reports so."""
        sim = self._sim
        sim.audit("at the end")
        for process in sim.processes:
            node = process.node
            if node is None or process.client is None:
                continue
            if node.writer is not None:
                await process.run_inside(self._heard(process))
            for hole in sim.plan.holes:
                await process.run_inside(self._told(process, hole))
            await process.run_inside(self._final(process))

    async def _final(self, process: "Process") -> None:
        assert process.client is not None, "a process that is up has a client"
        for _ in range(READY_S_MAX):
            answer = await process.client.get("/v1/ready")
            if answer.status_code == 200:
                return
            await self._sim.clock.sleep(1.0)
        self._sim.fail(f"{process.fate.name} is whole but not ready: {answer.text:.300}")

    async def _told(self, process: "Process", hole: Hole) -> None:
        """Check that requests around a hole of the exchange are answered and name the hole."""
        sim, plan = self._sim, self._sim.plan
        series = named(hole.name, M1)
        name, kind = series.symbol, series.kind
        code = M1.code if kind is KLINES or M1.code in plan.settings["intervals"] else ""
        is_answered = (hole.is_wished and M1.code in plan.settings["intervals"]) or plan.settings["read_through"]
        universe = sim.exchange.exchange.universe
        is_there = universe.find(name, sim.clock.now_ms()) is not None and universe.former(name) is None
        if not code or not is_answered or not is_there:
            return
        limit = (hole.end_ms - hole.start_ms) // MINUTE_MS + 10
        asked = Asked(hole.name, code, limit, hole.start_ms - 5 * MINUTE_MS, hole.end_ms + 5 * MINUTE_MS, True)
        assert process.client is not None, "a process that is up has a client"
        for _ in range(HOLE_S_MAX):
            moment = self.moment(process)
            answer = await process.client.get(asked.url)
            self.answered(process, asked, answer, moment)
            if answer.status_code == 200:
                return
            await sim.clock.sleep(1.0)
        sim.fail(f"{process.fate.name}: {asked.url} is refused for good: {answer.text:.200}")

    async def _heard(self, process: "Process") -> None:
        """Check that the sockets deliver every trading symbol, at the latest once a sick socket was replaced."""
        unheard: list[str] = []
        for _ in range(HEARD_S_MAX):
            unheard = self._unheard(process)
            if not unheard:
                return
            await self._sim.clock.sleep(1.0)
        self._sim.fail(f"{process.fate.name}: nothing is heard of {unheard}")

    def _unheard(self, process: "Process") -> list[str]:
        node, now_ms = process.node, self._sim.clock.now_ms()
        assert node is not None, "a process that writes has a node"
        unheard = []
        for symbol in node.parts.symbols.wished:
            item = self.truth.item(symbol)
            if item is None or item.status(now_ms - 5 * MINUTE_MS) != "TRADING" or item.status(now_ms) != "TRADING":
                continue
            heard_ms = node.parts.role.last_seen_ms(Series(KLINES, symbol, M1)) or 0
            if node.parts.clock.now_ms() - heard_ms > HEARD_MS_MAX:
                unheard.append(symbol)
        return unheard

    def sum_up(self) -> None:
        """Check what only the whole run shows: the weight used, and 429s that the node itself has caused."""
        sim = self._sim
        by_minute: Counter[int] = Counter()
        for entry in sim.exchange.journal.since(0):
            if entry.kind == "rest" and not entry.banned:
                by_minute[entry.time_ms // MINUTE_MS] += entry.weight
        for minute, weight in by_minute.items():
            if weight > sim.plan.weight_limit:
                sim.fail(f"{weight} of {sim.plan.weight_limit} weight in minute {minute}")
        is_faulted = any(step.kind == "http_429" for step in sim.plan.steps)
        for entry in sim.exchange.journal.since(0):
            minute = entry.time_ms // MINUTE_MS
            if entry.status == 429 and not is_faulted and minute not in sim.neighbour_minutes:
                sim.fail(f"429 at {entry.time_ms}: {by_minute[minute]} of {sim.plan.weight_limit} weight")


def _difference(rows: list[Row], expected: list[Row]) -> str:
    for place, (row, other) in enumerate(zip(rows, expected, strict=False)):
        if row != other:
            return f"row {place} is {row}, the exchange has {other} ({len(rows)} rows of {len(expected)})"
    return f"{len(rows)} rows, the exchange has {len(expected)}"
