"""The traces of one process: none, or those that OTEL_… asks for, with what became of them in the log."""

from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from threading import Thread
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from app.events import Observe, SpansLost, TracesBegan, TracesFailed, TracesLost, TracesResumed
from app.ports.clock import Clock
from app.ports.tracing import RequestTraces, Traced, untraced
from app.settings import traces_wish
from app.trace_settings import TracesWish

if TYPE_CHECKING:
    from infra.trace_export import TraceExport

LOOK_EVERY_S: Final = 2.0  # how late the log may say that spans are lost
FLUSH_S_MAX: Final = 2.0  # of the ten seconds that a stop may take, the two in which the store is closed
FLUSH_AWAY_S_MAX: Final = 0.3  # while the collector does not answer: the spans are lost, and a stop need not wait
FLUSH_CHECK_S: Final = 0.05
_ABSENT: Final = (
    "the packages that send them are not installed: call `make otel` in the clone (or pip install --no-deps "
    "--require-hashes -r requirements-otel.lock), or unset OTEL_EXPORTER_OTLP_ENDPOINT"
)
_OVERFLOW: Final = (
    "more spans ended than could be sent; sample with OTEL_TRACES_SAMPLER, or raise OTEL_BSP_MAX_QUEUE_SIZE"
)


class NodeTraces:
    """What a process measures for traces. Without OTEL_… it measures nothing and imports nothing."""

    def __init__(self, url: str, wish: TracesWish | None) -> None:
        """`url` is where clients reach this process."""
        self._endpoint = "" if wish is None else wish.endpoint
        self.fault = "" if wish is None else wish.fault
        """Why there are no traces although OTEL_… asks for them."""
        self.requests: RequestTraces | None = None
        self.work: Traced = untraced
        self.observers: Iterable[Observe] = ()
        self.ids: Callable[[], Mapping[str, str]] | None = None
        """What a line of the log says of the current span."""
        self._export: TraceExport | None = None
        self._seen_lost = 0
        self._lost_before = 0
        self._is_away = False
        if wish is not None and not wish.fault:
            self._make(url, wish)

    def _make(self, url: str, wish: TracesWish) -> None:
        try:
            from infra.trace_export import TraceExport  # 0.2 s and 8 MB, of nodes that send traces
            from infra.tracing import Tracing, current_ids
        except ImportError:
            self.fault = _ABSENT
            return
        self._export = TraceExport(wish.queue_spans_max)
        tracing = Tracing(self._export, urlsplit(url).hostname or "")
        self.requests, self.work, self.observers, self.ids = tracing, tracing.work, (tracing.observe,), current_ids

    @property
    def are_sent(self) -> bool:
        """Whether there are traces."""
        return self._export is not None

    def report_start(self, observe: Observe) -> None:
        """Report where spans go, or why none are made."""
        if self.fault:
            observe(TracesFailed(self.fault))
        elif self.are_sent:
            observe(TracesBegan(self._endpoint))

    async def run(self, clock: Clock, observe: Observe) -> None:
        """Report, for ever, what was lost."""
        while True:
            await clock.sleep(LOOK_EVERY_S)
            self._look(observe)

    async def close(self, clock: Clock, observe: Observe) -> None:
        """Send what waits, for FLUSH_S_MAX at most, and report what was lost."""
        if (export := self._export) is None:
            return
        await _ended(export.flush(), clock, FLUSH_AWAY_S_MAX if export.trouble else FLUSH_S_MAX)
        is_late = bool(export.waiting)
        export.give_up()
        self._look(observe, "the collector did not answer before the node stopped" if is_late else "")
        self._export = None

    def _look(self, observe: Observe, late: str = "") -> None:
        export = self._export
        assert export is not None, "nothing is sent"
        lost = export.lost - self._seen_lost
        self._seen_lost += lost
        if lost:
            observe(SpansLost(lost))
        trouble = export.trouble or (late or _OVERFLOW if lost else "")
        if trouble and not self._is_away:
            self._is_away, self._lost_before = True, self._seen_lost - lost
            observe(TracesLost(trouble, self._endpoint))
        elif self._is_away and not trouble:
            self._is_away = False
            observe(TracesResumed(self._seen_lost - self._lost_before))


async def _ended(thread: Thread, clock: Clock, s_max: float) -> None:
    """Return when `thread` has ended, or after `s_max`."""
    for _ in range(int(s_max / FLUSH_CHECK_S)):
        if not thread.is_alive():
            return
        await clock.sleep(FLUSH_CHECK_S)


def traces_fault() -> str:
    """Why a node would send no traces although OTEL_… asks for them; empty if it would, or is not asked."""
    wish = traces_wish()
    if wish is None or wish.fault:
        return "" if wish is None else wish.fault
    try:
        is_installed = all(find_spec(name) for name in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"))
    except ModuleNotFoundError:  # of a package around the second one
        is_installed = False
    return "" if is_installed else _ABSENT


def traces_of(url: str) -> NodeTraces:
    """The traces of a process that clients reach at `url`."""
    return NodeTraces(url, traces_wish())
