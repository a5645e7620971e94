"""The pool of unpacker processes, each of which does one job at a time: an archive file, or a symbol's days of metrics.

concurrent.futures is not used: there a killed worker breaks the whole pool, workers survive a killed parent, and each
imports the parent's main module. Here a worker reads from a pipe and exits when its parent ends for any reason.
"""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Any, Final, NamedTuple, TypeVar

from app.binance.archive_csv import ArchiveFile, BadFile
from app.binance.metrics_csv import MetricsDay
from app.domain.interval import Grid, Interval
from app.domain.kline import Precision
from app.events import Observe, UnpackerLost
from app.ports.errors import UpstreamUnavailable
from app.ports.exchange import FileKlines
from infra.binance.unpack import Collect, Gathered
from infra.binance.unpack_metrics import MetricsRead
from infra.binance.unpacker import Job, KlinesJob, MetricsJob, done, receive, send

PROCESSES_MAX: Final = 4  # as many as there are simultaneous downloads
TRIES: Final = 2  # a file that killed two processes is not given to a third
_PROGRAM: Final = "from infra.binance.unpacker import serve; serve()"

_Result = TypeVar("_Result")


def processes_for(asked: int | None) -> int:
    """The number of unpacker processes: `asked` (ARCHIVE_PROCESSES), or one for each core; 0 on a single core.

    The writer has a fifth of their work to do. On a single core, more processes only add cost.
    """
    if asked is not None:
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(PROCESSES_MAX, cores) if cores > 1 else 0


class Unpackers:
    """At most `processes` processes, started when there is work; with 0, a thread of this process does it.

    `collect` creates the Collector that puts rows into the form in which they are sent to the store.
    """

    def __init__(self, processes: int, observe: Observe, collect: Collect = Gathered) -> None:
        self._observe = observe
        self._collect = collect
        self._processes = processes
        self._slots = asyncio.Semaphore(processes) if processes else None
        self._idle: list[_Worker] = []
        self._workers: set[_Worker] = set()
        self._starting = threading.Lock()
        self._is_closed = False

    def prepare(self, files: int) -> None:
        """Start processes for `files` running downloads; starting takes about as long as a download."""
        wanted = min(files, self._processes)
        if wanted and not self._is_closed:
            asyncio.get_running_loop().run_in_executor(None, self._start, wanted)

    async def read(
        self, download: IO[bytes], file: ArchiveFile, grid: Grid, precision: Precision, longer: Sequence[Interval] = ()
    ) -> FileKlines:
        """The klines of a downloaded ZIP, and their roll-ups. Raises BadKline for any fault, or UpstreamUnavailable."""
        download.seek(0)
        return await self._result(KlinesJob(download.read(), file, grid, precision, longer, self._collect))

    async def read_metrics(self, downloads: Mapping[MetricsDay, bytes]) -> MetricsRead:
        """The rows of downloaded ZIPs of a symbol, ascending days.

        Raises BadKline if they ended the processes that read them, or UpstreamUnavailable.
        """
        return await self._result(MetricsJob(downloads, self._collect))

    async def _result(self, job: Job[_Result]) -> _Result:
        if self._slots is None:
            return await asyncio.to_thread(job.result)
        slots = self._slots
        await slots.acquire()
        work = asyncio.get_running_loop().run_in_executor(None, self._do, job)
        work.add_done_callback(lambda _: slots.release())
        outcome = await asyncio.shield(work)  # cancelling the caller does not free the busy process
        for error in outcome.lost:
            self._observe(UnpackerLost(job.name, error))
        if isinstance(outcome.answer, Exception):
            raise outcome.answer
        result: _Result = outcome.answer
        return result

    async def aclose(self) -> None:
        """Kill all processes, also busy ones."""
        self._is_closed = True
        await asyncio.to_thread(self._end_all)

    def _end_all(self) -> None:
        for worker in tuple(self._workers):
            worker.end()

    def _do(self, job: Job[Any]) -> "_Outcome":
        """Run a job, in a thread. Errors are returned and not raised, because the caller may be cancelled."""
        lost: list[str] = []
        while len(lost) < TRIES and not self._is_closed:
            try:
                worker = self._take()
            except OSError as error:  # no process can be started: do it here
                return _Outcome(done(job), [*lost, f"none could be started: {error}"])
            try:
                answer = worker.do(job)
            except (OSError, EOFError, ValueError):  # ValueError: closed by `aclose`
                self._workers.discard(worker)
                lost.append(f"ended with {worker.end()}")
                continue
            self._idle.append(worker)
            return _Outcome(answer, lost)
        if self._is_closed:
            return _Outcome(UpstreamUnavailable("the node is stopping"), [])
        return _Outcome(BadFile("zip", f"unpacking it ended a process {TRIES} times"), lost)

    def _start(self, wanted: int) -> None:
        with self._starting:
            for worker in [worker for worker in self._idle if not worker.is_alive()]:
                self._forget(worker)
            with suppress(OSError):  # reported when a job needs one
                while len(self._workers) < wanted and not self._is_closed:
                    self._idle.append(self._new())

    def _take(self) -> "_Worker":
        with self._starting:  # do not start a second process while `_start` starts one
            while self._idle:
                worker = self._idle[-1]
                if worker.is_alive():
                    return self._idle.pop()
                self._forget(worker)
            return self._new()

    def _new(self) -> "_Worker":
        worker = _Worker()
        self._workers.add(worker)
        if self._is_closed:  # closed in between: `_end_all` has not seen this worker
            worker.end()
        return worker

    def _forget(self, worker: "_Worker") -> None:
        self._idle.remove(worker)
        self._workers.discard(worker)
        worker.end()


class _Outcome(NamedTuple):
    answer: Any
    """The job's result, or the exception to raise."""
    lost: list[str]


class _Worker:
    """One process and the pipes to it. Used by one thread at a time; `end` may be called from another."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603  our own interpreter and code
            [sys.executable, "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C at the terminal is for the node, which ends its processes itself
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def do(self, job: Job[Any]) -> Any:
        """Send a job and wait for its result. Raises OSError or EOFError when the process has ended."""
        send(self._in, job)
        return receive(self._out)

    def end(self) -> int:
        """Kill the process and return its exit status. A thread in `do` gets an EOFError."""
        self._process.kill()
        status = self._process.wait()
        for pipe in (self._in, self._out):
            with suppress(OSError):  # unwritten data has no reader
                pipe.close()
        return status
