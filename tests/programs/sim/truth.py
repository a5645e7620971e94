"""The rows that only the exchange knows, and how a database's rows and ledger differ from them."""

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from app.domain.interval import M1
from app.kinds.klines import KLINES
from app.kinds.registry import named
from infra.sandbox.grid import DAY_MS, Grid
from infra.sandbox.universe import Instrument
from tests.programs.sim import metrics
from tests.programs.sim.stored import Row, Stored

if TYPE_CHECKING:
    from tests.programs.sim.world import Sim

NAMED_MAX: Final = 3  # differences of one kind that are listed in full


class Truth:
    """The rows that the store must hold; each is computed once."""

    def __init__(self, sim: "Sim") -> None:
        self._sim = sim
        self._known: dict[tuple[str, str], dict[int, Row]] = defaultdict(dict)  # by coin: a name may change hands

    def rows(self, symbol: str, code: str, start_ms: int, end_ms: int) -> list[Row]:
        """The exchange's closed rows that open in [start_ms, end_ms), in the store's form."""
        item = self.item(symbol)
        if item is None:
            return []
        if metrics.is_metrics(symbol):
            return self._metrics(item, symbol, start_ms, end_ms)
        now_ms = self._sim.clock.now_ms()
        grid, known = item.grid(code), self._known[f"{item.uid}@{named(symbol, M1).kind.name}", code]
        hidden = [hole.span(grid) for hole in self._sim.plan.holes if hole.name == symbol]
        low = max(grid.index(item.onboard_ms), grid.index(start_ms - 1) + 1)
        rows = []
        for index in range(low, min(grid.index(now_ms), grid.index(end_ms - 1) + 1)):
            open_ms = grid.open_ms(index)
            if any(begin_ms <= open_ms < until_ms for begin_ms, until_ms in hidden):
                continue
            row = known.get(open_ms)
            if row is None:
                row = known[open_ms] = self._row(item, symbol, code, open_ms)
            rows.append(row)
        return rows

    def _row(self, item: Instrument, symbol: str, code: str, open_ms: int) -> Row:
        exchange, now_ms, kind = self._sim.exchange.exchange, self._sim.clock.now_ms(), named(symbol, M1).kind
        if kind is KLINES:
            found = exchange.closed_rows(item, code, open_ms, open_ms + 1, now_ms)
        else:
            found = exchange.sampled_window(item, kind.name, code, (open_ms, open_ms), 1, now_ms)
        return (*found[0][:6], *found[0][7:11])

    def _metrics(self, item: Instrument, name: str, start_ms: int, end_ms: int) -> list[Row]:
        """The rows of metrics; those of a span in which some are not known yet are computed together."""
        kind, exchange = named(name, M1).kind, self._sim.exchange.exchange
        known = self._known[f"{item.uid}@{kind.name}", "5m"]
        grid = Grid("5m")
        first_ms = max(grid.floor(item.onboard_ms), grid.next(grid.floor(start_ms - 1)))
        opens_ms = range(first_ms, min(end_ms, grid.floor(self._sim.clock.now_ms())), metrics.STEP_MS)
        if unknown := [open_ms for open_ms in opens_ms if open_ms not in known]:
            for row in metrics.rows(exchange, item, name, unknown[0], unknown[-1] + metrics.STEP_MS):
                stored = metrics.stored(kind, row)
                known[int(str(stored[0]))] = stored
        return [known[open_ms] for open_ms in opens_ms if open_ms in known]

    def item(self, symbol: str) -> Instrument | None:
        """The instrument that a series belongs to, as the exchange lists it or used to; None if it never did."""
        symbol = named(symbol, M1).symbol
        now_ms, universe = self._sim.clock.now_ms(), self._sim.exchange.exchange.universe
        past = universe.former(symbol) or universe.find_ever(symbol, self._sim.plan.start_ms, now_ms + 1)
        return universe.find(symbol, now_ms) or past

    def is_elsewhere(self, symbol: str, onboard_ms: int) -> bool:
        """Whether a name has changed hands and is not the listing whose onboardDate is `onboard_ms`."""
        now_ms, universe = self._sim.clock.now_ms(), self._sim.exchange.exchange.universe
        item = universe.find(symbol, now_ms)
        return universe.former(symbol) is not None and (item is None or item.onboard_date != onboard_ms)

    def audit(self, stored: Stored) -> list[str]:
        """Describe every difference between what a database holds and the exchange."""
        found: list[str] = []
        unnoticed = {
            symbol
            for symbol, onboard_ms, is_doubted in stored.listings  # the node has not learnt it, or is just checking
            if is_doubted or self.is_elsewhere(symbol, onboard_ms)
        }
        for name, code in sorted({*stored.ledger, *stored.rows}):
            if named(name, M1).symbol not in unnoticed:
                rows, lines = stored.rows.get((name, code), []), stored.ledger.get((name, code), [])
                found += self._audit_series(name, code, rows, lines)
        universe = self._sim.exchange.exchange.universe
        for line in () if self._sim.is_contradicted else stored.revisions:
            if universe.former(named(line[0], M1).symbol) is not None:
                continue  # frames of another coin were read with the listing that the node still knew
            found.append(f"a row was held that was not the exchange's: revision {line}")
        return found

    def _audit_series(self, symbol: str, code: str, rows: list[Row], lines: list[tuple[int, int, str]]) -> list[str]:
        found = []
        end_before_ms = -1
        expected: list[Row] = []
        for start_ms, end_ms, source in lines:
            if start_ms < end_before_ms or start_ms >= end_ms:
                found.append(f"{symbol} {code}: ledger lines overlap at {start_ms}")
            end_before_ms = end_ms
            there = self.rows(symbol, code, start_ms, end_ms)
            item = self.item(symbol)
            if source == "archive" and item is not None and metrics.is_metrics(symbol):
                there = metrics.archived(self._sim.exchange.exchange, item, symbol, start_ms, end_ms)
            if source == "absent":
                if there and not self._is_forgotten(symbol, end_ms):
                    found.append(f"{symbol} {code}: [{start_ms}, {end_ms}) is called absent, {len(there)} rows exist")
                continue
            expected += there
            grid = item.grid(code) if item else Grid(code)
            wanted = grid.index(end_ms - 1) - grid.index(start_ms - 1)
            if wanted != len(there):
                found.append(f"{symbol} {code}: [{start_ms}, {end_ms}) is held but {len(there)} of {wanted} rows exist")
        if rows != expected:
            have, want = {row[0]: row for row in rows}, {row[0]: row for row in expected}
            common = sorted(have.keys() & want.keys(), key=str)
            wrong = [(have[at], want[at]) for at in common if have[at] != want[at] and not self._is_excused(at, lines)]
            lost = sorted(want.keys() - have.keys(), key=str)
            stray = sorted(have.keys() - want.keys(), key=str)
            if not (wrong or lost or stray):
                return found
            found.append(
                f"{symbol} {code}: {len(wrong)} rows differ {wrong[:NAMED_MAX]}, {len(lost)} are lost "
                f"{lost[:NAMED_MAX]}, {len(stray)} are in no ledger line {stray[:NAMED_MAX]}"
            )
        return found

    def _is_forgotten(self, symbol: str, end_ms: int) -> bool:
        """Whether rows of metrics may be lost: REST has forgotten them, and the archive may have been faulty."""
        sim = self._sim
        is_faulty = any(step.kind in metrics.ARCHIVE_FAULTS for step in sim.plan.steps)
        oldest_ms = metrics.due(sim.clock.now_ms()).start_ms
        return metrics.is_metrics(symbol) and is_faulty and end_ms <= oldest_ms

    def _is_excused(self, open_ms: object, lines: list[tuple[int, int, str]]) -> bool:
        """Whether a row may be wrong because the sockets sent two versions of it and a cut or a kill hid one of them.

        Verification compares whole days, so it finds such a row after its day has closed.
        """
        sim = self._sim
        source = next((name for start_ms, end_ms, name in lines if start_ms <= int(str(open_ms)) < end_ms), "")
        is_young = int(str(open_ms)) >= sim.clock.now_ms() // DAY_MS * DAY_MS
        if not (sim.is_contradicted and is_young and source in ("ws", "rollup")):
            return False
        sim.count("rows left wrong by a contradiction that was cut short")
        return True
