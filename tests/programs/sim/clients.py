"""The node's users: a seeded stream of requests, each answer compared with the exchange at that moment."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httpx

from app.domain.interval import M1
from app.kinds.klines import KLINES
from app.kinds.registry import named
from infra.sandbox.grid import DAY_MS, DURATIONS_MS
from tests.programs.sim.holes import Hole
from tests.programs.sim.metrics import Question

if TYPE_CHECKING:
    from tests.programs.sim.process import Process
    from tests.programs.sim.world import Sim

WATCHED: Final = ("/v1/health", "/v1/ready", "/metrics", "/v1/coverage", "/fapi/v1/time", "/fapi/v1/exchangeInfo")
PATIENCE_S: Final = 60.0  # an answer that takes longer counts as a hang
AGAIN_SHARE: Final = 0.3
SPAN_MS_MAX: Final = 2 * DAY_MS  # of one request: the sandbox computes every minute of a longer candle
HOLES_SHARE: Final = 0.2  # of requests whose window is around a hole of the exchange
METRICS_SHARE: Final = 0.3  # of moments at which a user asks about metrics too
LEAVE_SHARE: Final = 0.05  # of users who disconnect before their answer
CALM_S: Final = 300.0
CALM_PAUSES: Final = 5  # pauses in one, after CALM_S of calm, when only proofs of absence are still to come


@dataclass(frozen=True)
class Asked:
    """A klines request."""

    series: str
    """The node's name of the series: a symbol, or such as BTCUSDT@markPrice."""
    interval: str
    limit: int
    start_ms: int | None
    end_ms: int | None
    only_final: bool

    @property
    def name(self) -> str:
        """The symbol or pair that the klines belong to."""
        return named(self.series, M1).symbol

    @property
    def url(self) -> str:
        kind = named(self.series, M1).kind
        sent = {kind.rest.symbol: self.name, kind.rest.interval: self.interval, "limit": self.limit}
        sent |= {"startTime": self.start_ms} if self.start_ms is not None else {}
        sent |= {"endTime": self.end_ms} if self.end_ms is not None else {}
        return (
            f"{kind.rest.path}?"
            + "&".join(f"{name}={value}" for name, value in sent.items())
            + ("" if self.only_final or kind is not KLINES else "&only_final=false")
        )


class Clients:
    """Sends requests at random moments, for ever."""

    def __init__(self, sim: "Sim") -> None:
        self._sim = sim
        self._chance = sim.chance("clients")
        self._metrics_chance = sim.chance("questions about metrics")

    async def run(self) -> None:
        """Send a request to a living process after each random pause, for ever."""
        sim, chance = self._sim, self._chance
        while True:
            pause_s = sim.plan.ask_every_s * (CALM_PAUSES if sim.has_been_calm_for(CALM_S) else 1)
            await sim.clock.sleep(chance.expovariate(1 / pause_s))
            process = chance.choice(sim.processes)
            burst = chance.choice((1, 1, 1, 1, 6))
            watched = chance.random() < 0.15
            asked = [self._draw() for _ in range(burst)]
            question = self._draw_question()
            path = chance.choice(WATCHED)
            leaves_s = chance.random() if chance.random() < LEAVE_SHARE else None
            if not process.is_up:
                continue
            if watched:
                self._start(process, self._look(process, path), None)
            if question is not None:
                self._start(process, self._ask_about_metrics(process, question), leaves_s)
            for each in asked:
                self._start(process, self._ask(process, each, chance.random() < AGAIN_SHARE), leaves_s)

    def _start(self, process: "Process", coro: Any, leaves_s: float | None) -> None:
        task = process.run_inside(coro)
        process.queries[task] = None
        task.add_done_callback(lambda done: process.queries.pop(done, None))
        if leaves_s is not None:
            self._sim.loop.call_later(leaves_s, task.cancel)

    def _draw(self) -> Asked:
        sim, chance = self._sim, self._chance
        if sim.plan.holes and chance.random() < HOLES_SHARE:
            return self._draw_around(chance.choice(sim.plan.holes))
        now_ms = sim.clock.now_ms()
        intervals: Sequence[str] = [code for code in sim.plan.settings["intervals"] if code in DURATIONS_MS]
        code = chance.choice([*intervals, "1m", "1h" if chance.random() < 0.2 else "1m"])
        step_ms = DURATIONS_MS[code]
        limit = min(chance.choice((1, 2, 10, 10, 99, 500)), max(2, SPAN_MS_MAX // step_ms))
        start_ms = end_ms = None
        shape = chance.random()
        back_ms = int(min(chance.choice((5, 30, 200, 1_500)) * step_ms, SPAN_MS_MAX) * chance.random())
        if shape < 0.3:
            start_ms = now_ms - back_ms
        elif shape < 0.45:
            end_ms = now_ms - back_ms
        elif shape < 0.6:
            start_ms = now_ms - back_ms
            end_ms = start_ms + int(chance.random() * 100 * step_ms)
        series = chance.choice(sim.plan.series) if code in intervals else chance.choice(sim.plan.settings["symbols"])
        return Asked(series, code, limit, start_ms, end_ms, chance.random() < 0.75)

    def _draw_question(self) -> Question | None:
        """A question about metrics, in some seeds and now and then."""
        names, chance = self._sim.plan.metrics, self._metrics_chance
        if not names or chance.random() >= METRICS_SHARE:
            return None
        return Question.drawn(chance, names, self._sim.clock.now_ms())

    def _draw_around(self, hole: Hole) -> Asked:
        """A window that begins or ends before, in or after a hole.

        Of price klines only held intervals are requested; others are passed through unchanged.
        """
        chance = self._chance
        codes = [code for code in self._sim.plan.settings["intervals"] if code in DURATIONS_MS]
        code = chance.choice(codes if named(hole.name, M1).kind is not KLINES else [*codes, "1m", "5m"])
        step_ms = DURATIONS_MS[code]
        limit = min(chance.choice((1, 10, 99, 500)), max(2, SPAN_MS_MAX // step_ms))
        around_ms = [
            hole.start_ms - int(chance.random() * 40 * step_ms),
            hole.end_ms + int(chance.random() * 9 * step_ms),
        ]
        around_ms.append(chance.randrange(hole.start_ms, hole.end_ms))
        start_ms, end_ms = sorted(chance.sample(around_ms, 2))
        shape = chance.random()
        return Asked(
            hole.name,
            code,
            limit,
            start_ms if shape < 0.7 else None,
            end_ms if shape > 0.3 else None,
            chance.random() < 0.75,
        )

    # --- inside the process ---------------------------------------------------------------------------------------

    async def _get(self, process: "Process", url: str, headers: dict[str, str]) -> httpx.Response | None:
        sim = self._sim
        assert process.client is not None, "a process that is up has a client"
        before_s = sim.loop.time()
        answer = await process.client.get(url, headers=headers, timeout=None)
        took_s = sim.loop.time() - before_s
        sim.count(f"answer {answer.status_code}")
        if took_s > PATIENCE_S + 10 * sim.disk.work_s_since(before_s) and not sim.was_frozen(process.fate):
            sim.fail(f"{process.fate.name}: {url} took {took_s:.1f} s")
        return answer

    async def _look(self, process: "Process", path: str) -> None:
        answer = await self._get(process, path, {})
        expected = {"/v1/ready": (200, 503), "/fapi/v1/exchangeInfo": (200, 503)}.get(path, (200,))
        if answer is not None and answer.status_code not in expected:
            self._sim.fail(f"{process.fate.name}: {path} answered {answer.status_code} {answer.text:.200}")

    async def _ask_about_metrics(self, process: "Process", question: Question) -> None:
        sim = self._sim
        moment = sim.witness.moment(process)
        answer = await self._get(process, question.url, {})
        if answer is not None:
            sim.trace(f"{process.fate.name} {question.url} → {answer.status_code} {len(answer.content)} B")
            sim.witness.answered_question(process, question, answer, moment)

    async def _ask(self, process: "Process", asked: Asked, again: bool) -> None:
        sim = self._sim
        moment = sim.witness.moment(process)
        answer = await self._get(process, asked.url, {})
        if answer is None:
            return
        sim.trace(f"{process.fate.name} {asked.url} → {answer.status_code} {len(answer.content)} B")
        sim.witness.answered(process, asked, answer, moment)
        etag = answer.headers.get("etag")
        if answer.status_code == 200 and again and etag:
            moment = sim.witness.moment(process)
            second = await self._get(process, asked.url, {"if-none-match": etag})
            if second is not None and second.status_code == 304:
                sim.witness.answered(process, asked, answer, moment)  # 304: the earlier answer must still be true
            elif second is not None:
                sim.witness.answered(process, asked, second, moment)
