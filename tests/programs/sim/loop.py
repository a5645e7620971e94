"""An event loop on virtual time, which jumps to the next timer instead of waiting, and can kill or freeze a process.

A process is everything that runs in a context with its `Fate`. Tasks and callbacks inherit the context in which they
are made, so that all that a node starts belongs to its process.
"""

import asyncio
import heapq
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from itertools import count
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tests.programs.sim.network import Network

STEP_S: Final = 2e-6  # virtual time that a callback takes: time passes also in a busy loop
CANCELLED_MAX: Final = 500  # cancelled timers in the heap before they are removed

PROCESS: ContextVar["Fate | None"] = ContextVar("process", default=None)


class Deadlocked(Exception):
    """Nothing is ready and no timer is set: all tasks would wait for ever."""


class Fate:
    """The state of one process: its callbacks run, wait while it is frozen, or never run once it is dead."""

    def __init__(self, name: str, killed: Callable[[], None]) -> None:
        self.name = name
        self.steps = 0
        self.kill_at_step = -1
        self.is_dead = False
        self.parked: list[asyncio.Handle] | None = None
        self.graveyard: list[object] = []
        """The callbacks of the dead process, kept so that no `finally` block runs before the seed is over."""
        self._killed = killed

    def kill(self) -> None:
        """Kill the process: none of its callbacks runs from this step on."""
        if not self.is_dead:
            self.is_dead = True
            self.graveyard.extend(self.parked or ())
            self.parked = None
            self._killed()

    def admits(self, handle: asyncio.Handle) -> bool:
        """Whether `handle` may run now; otherwise keep it for later, or for good."""
        if not self.is_dead and self.parked is None:
            self.steps += 1
            if self.steps != self.kill_at_step:
                return True
            self.kill()
        (self.graveyard if self.parked is None else self.parked).append(handle)
        return False


class SimTask(asyncio.Task[Any]):
    """A task whose hash is its number, so that sets of tasks are iterated in the same order in every replay."""

    def __init__(self, coro: Coroutine[Any, Any, Any], *, loop: "SimLoop", name: str | None, context: Context | None):
        self.number = next(loop.numbers)
        self.fate = PROCESS.get() if context is None else context.get(PROCESS)
        super().__init__(coro, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self.number


class SimLoop(asyncio.BaseEventLoop):
    """The event loop on virtual time; `create_connection` and `create_server` use `network`."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = count()
        self.network: Network | None = None
        self.work_delay_s: Callable[[], float] = lambda: 0.0
        self._queue: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timer_numbers = count()
        self._cancelled = 0
        self._now_s = 0.0
        self._is_stopping = False

    # --- time and callbacks -------------------------------------------------------------------------------------

    def __del__(self) -> None:
        """Do nothing: a simulated loop holds no resources of the machine."""

    def time(self) -> float:
        return self._now_s

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._queue.append(handle)
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        timer._scheduled = True  # type: ignore[attr-defined]  # so that its cancellation is counted
        heapq.heappush(self._timers, (when, next(self._timer_numbers), timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        del handle
        self._cancelled += 1
        if self._cancelled > CANCELLED_MAX and self._cancelled * 2 > len(self._timers):
            self._timers = [each for each in self._timers if not each[2].cancelled()]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> SimTask:
        return SimTask(coro, loop=self, name=name, context=context)

    def stop(self) -> None:
        self._is_stopping = True

    def run_forever(self) -> None:
        self._is_stopping = False
        asyncio.events._set_running_loop(self)
        try:
            while not self._is_stopping:
                self._turn()
        finally:
            asyncio.events._set_running_loop(None)

    def is_running(self) -> bool:
        return asyncio._get_running_loop() is self

    def _turn(self) -> None:
        queue, timers = self._queue, self._timers
        if not queue:
            self._now_s = max(self._now_s, self._next_timer_s())
            timers = self._timers
        while timers and timers[0][0] <= self._now_s:
            timer = heapq.heappop(timers)[2]
            timer._scheduled = False  # type: ignore[attr-defined]
            if not timer.cancelled():
                queue.append(timer)
        for _ in range(len(queue)):
            handle = queue.popleft()
            if handle._cancelled:
                continue
            fate = handle._context.get(PROCESS)  # type: ignore[attr-defined]
            if fate is None or fate.admits(handle):
                self._now_s += STEP_S
                handle._run()

    def _next_timer_s(self) -> float:
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
            self._cancelled = max(0, self._cancelled - 1)
        if not self._timers:
            waiting = sorted(repr(task) for task in asyncio.all_tasks(self))
            raise Deadlocked("the simulation is deadlocked; these tasks wait for ever:\n" + "\n".join(waiting))
        return self._timers[0][0]

    # --- processes ----------------------------------------------------------------------------------------------

    def freeze(self, fate: Fate, delay_s: float) -> None:
        """Stop a process for `delay_s` seconds (SIGSTOP, a suspended machine); callbacks due then run afterwards."""

        def thaw() -> None:
            parked, fate.parked = fate.parked, None
            self._queue.extend(parked or ())

        if fate.parked is None and not fate.is_dead:
            fate.parked = []
            self.call_later(delay_s, thaw, context=Context())

    def tasks_of(self, fate: Fate) -> list[SimTask]:
        """The tasks of a process that have not ended."""
        tasks = [task for task in asyncio.all_tasks(self) if isinstance(task, SimTask) and task.fate is fate]
        return sorted(tasks, key=lambda task: task.number)

    # --- the outside --------------------------------------------------------------------------------------------

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Run `func` at once and deliver its result a little later, so that other callbacks run in between."""
        del executor
        future: asyncio.Future[Any] = self.create_future()

        def deliver(result: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        try:
            result, failure = func(*args), None
        except Exception as error:  # noqa: BLE001  raised again where the future is awaited
            result, failure = None, error
        self.call_later(self.work_delay_s(), deliver, result, failure)
        return future

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **kwargs: Any) -> Any:
        assert self.network is not None, "there is no network"
        assert not kwargs.get("ssl"), "TLS is not simulated"
        return await self.network.connect(protocol_factory, str(host), int(port))

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **kwargs: Any) -> Any:
        assert self.network is not None, "there is no network"
        bound: socket.socket | None = kwargs.get("sock")
        address = bound.getsockname() if bound is not None else (host, port)
        return self.network.listen(protocol_factory, str(address[0]), int(address[1]))
