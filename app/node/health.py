"""Health and readiness, derived from the age of data and the state of tasks, never from a constant."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from app.collecting.health import CollectorHealth
from app.domain.validity import is_fresh
from app.holding.coverage import Gathered
from app.holding.freshness import Freshness, State, Survey, TailAge
from app.holding.symbol_sync import SymbolSync
from app.node.exchange_clock import ExchangeClock
from app.node.role import Role
from app.node.supervisor import Supervisor

SYNC_AGE_MS_MAX: Final = 30 * 60_000  # older symbols are reported
OFFSET_MS_MAX: Final = 1_000  # a larger error of the machine's clock is reported
REPORT_MS: Final = 1_000  # readiness is computed at most once a second, however often it is asked for
NAMED_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class Vitals:
    """Callbacks for the current state of a process; each is called when a report is made."""

    role: Callable[[], Role]
    store_error: Callable[[], str | None]
    """Why the database cannot be read or written."""
    stand_down: Callable[[], tuple[int, str] | None]
    """Until when (ms) the exchange must not be asked, and why; None without a stand-down."""
    upstream_complaints: Callable[[], list[str]]
    """Why the exchange is not asked as fast as the settings allow."""
    streams: Callable[[], dict[str, object]]
    """The streams that clients subscribe to."""
    notes: Callable[[], list[str]]
    """What an operator has to know although nothing is wrong at the moment."""
    gathered: Callable[[], dict[str, Gathered]]
    """How far the series of gathered kinds are behind."""
    collector: Callable[[], CollectorHealth | None] = lambda: None
    """The health of the collector, in the process that has one."""


class Health:
    """Makes the reports of /v1/health and of readiness."""

    def __init__(
        self,
        clock: ExchangeClock,
        symbols: SymbolSync,
        freshness: Freshness,
        supervisor: Supervisor,
        vitals: Vitals,
    ) -> None:
        self._clock = clock
        self._symbols = symbols
        self._freshness = freshness
        self._supervisor = supervisor
        self._vitals = vitals
        self._started_ms = clock.now_ms()
        self._ready_at_ms = 0
        self._ready: tuple[bool, dict[str, object]] = (False, {})
        self._since_ms = self._started_ms
        self._survey: Survey | None = None

    def report(self) -> dict[str, object]:
        """The state of the node, the reasons why it is degraded, and notes, which do not degrade it."""
        now_ms = self._clock.now_ms()
        reasons = self._reasons(now_ms)
        role = self._vitals.role()
        standing = self._vitals.stand_down()
        return {
            "status": "degraded" if reasons else "ok",
            "reasons": reasons,
            "notes": self._vitals.notes(),
            "serverTime": now_ms,
            "uptime_s": (now_ms - self._started_ms) // 1000,
            "role": "writer" if role.is_writer else "reader",
            "symbols": len(self._symbols.wished),
            "symbols_synced_ms": self._symbols.synced_ms,
            "tails": self._tails(),
            "gathered": {name: found._asdict() for name, found in self._vitals.gathered().items()},
            "missing_klines": role.missing_klines,
            "queue_depth": role.write_queue_depth,
            "clock_offset_ms": self._clock.offset_ms,
            "stand_down_until_ms": standing[0] if standing else None,
            "sockets": role.sockets_status(),
            "streams": self._vitals.streams(),
            "collector": None if (collector := self._vitals.collector()) is None else collector.report(),
            "tasks": {
                state.name: {
                    "running": state.is_running,
                    "restarts": state.restarts,
                    "last_error": state.last_error,
                }
                for state in self._supervisor.states.values()
            },
        }

    def ready(self) -> tuple[bool, dict[str, object]]:
        """Whether the tail of every wished series is held and fresh, which ones are not, and since when."""
        now_ms = self._clock.now_ms()
        if not is_fresh(
            self._ready_at_ms, now_ms, REPORT_MS
        ):  # the clock goes back when the exchange says it was ahead
            self._ready_at_ms = now_ms
            self._ready = self._compute_ready(now_ms)
        return self._ready

    def is_ready_now(self) -> bool:
        """Whether the node is ready, computed anew; what `ready` reports for a second stays as it is."""
        return not self._lacks(self._freshness.survey())

    def _lacks(self, survey: Survey) -> list[str]:
        """Why the node is not ready; empty if it is."""
        reasons = []
        if self._symbols.synced_ms is None:
            reasons.append("symbols were never synced with the exchange")
        if not self._clock.is_trusted:
            reasons.append("the exchange has not confirmed what time it is since the start or since the clock jumped")
        for state, words in _WORDS.items():
            if tails := [tail for tail in survey.lacking if tail.state is state]:
                reasons.append(f"{words}: {_named(tails)}")
        return reasons

    def _compute_ready(self, now_ms: int) -> tuple[bool, dict[str, object]]:
        survey = self._survey = self._freshness.survey()
        reasons = self._lacks(survey)
        is_ready = not reasons
        if is_ready is not self._ready[0]:
            self._since_ms = now_ms
        due_ms = [tail.since_ms for tail in survey.lacking if tail.since_ms is not None]
        if not is_ready and due_ms:  # the tails lagged before readiness was first asked for
            self._since_ms = max(self._started_ms, min(self._since_ms, *due_ms))
        return is_ready, {
            "ready": is_ready,
            "since_ms": self._since_ms,
            "reasons": reasons,
            "series": {state.value: count for state, count in survey.counts.items()},
        }

    def _tails(self) -> dict[str, object]:
        """By interval: the series whose newest kline is oldest."""
        self.ready()
        return {
            code: {"symbol": tail.series.name, "state": tail.state.value, "age_ms": tail.age_ms}
            for code, tail in (self._survey.worst if self._survey else {}).items()
        }

    def upstream_reasons(self) -> list[str]:
        """Why the exchange is not asked at the moment, or not as fast as the settings allow."""
        reasons = []
        if (standing := self._vitals.stand_down()) is not None:
            reasons.append(f"standing down until {standing[0]}: {standing[1]}")
        return reasons + self._vitals.upstream_complaints()

    def _reasons(self, now_ms: int) -> list[str]:
        role = self._vitals.role()
        reasons = self.upstream_reasons()
        if self._symbols.synced_ms is None:
            reasons.append(f"symbols were never synced: {self._symbols.last_error or 'not answered yet'}")
        elif now_ms - self._symbols.synced_ms > SYNC_AGE_MS_MAX:
            reasons.append(f"symbols were last synced at {self._symbols.synced_ms}: {self._symbols.last_error}")
        elif self._symbols.last_error is not None:
            reasons.append(f"the last symbol sync failed: {self._symbols.last_error}")
        if unlisted := self._symbols.unlisted:
            where = "SYMBOLS, PRICE_KLINES_SYMBOLS, METRICS and FUNDING"
            reasons.append(f"{_some(unlisted)}: not listed by the exchange; correct {where}")
        if abs(self._clock.offset_ms) > OFFSET_MS_MAX:
            reasons.append(f"this machine's clock is off by {-self._clock.offset_ms} ms; set up NTP")
        if role.paused is not None:
            reasons.append(f"backfill is paused: {role.paused}")
        if (store_error := self._vitals.store_error()) is not None:
            reasons.append(store_error)
        if (complaint := role.log_complaint()) is not None:
            reasons.append(complaint)
        reasons.extend(
            f"task {state.name} is not running: {state.last_error}"
            for state in self._supervisor.states.values()
            if not state.is_running
        )
        if (collector := self._vitals.collector()) is not None:
            reasons.extend(collector.reasons())
        is_ready, detail = self.ready()
        if not is_ready:
            reasons.extend(str(reason) for reason in _list(detail["reasons"]))
            if role.fetch_error is not None:
                reasons.append(f"the last failed fetch: {role.fetch_error}")
        return list(dict.fromkeys(reasons))


_WORDS: Final = {State.STALE: "tails stale", State.NOT_WHOLE: "tails not whole"}


def _named(tails: list[TailAge]) -> str:
    """The tails by name and age, oldest first, at most NAMED_MAX."""
    return _some([_one(tail) for tail in sorted(tails, key=lambda tail: -(tail.age_ms or 0))])


def _some(names: Sequence[str]) -> str:
    """The first NAMED_MAX names, and how many more there are."""
    named = ", ".join(names[:NAMED_MAX])
    return f"{named} and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else named


def _one(tail: TailAge) -> str:
    series = f"{tail.series.name} {tail.series.interval}"
    return series if tail.age_ms is None else f"{series} (newest kline closed {tail.age_ms // 1000} s ago)"


def _list(value: object) -> list[object]:
    assert isinstance(value, list), "reasons are a list"
    return value
