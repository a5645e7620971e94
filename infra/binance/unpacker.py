"""The unpacker process, and the messages between it and the process that started it.

It imports little, because it is started when a file waits for it: without asyncio and SQLAlchemy it starts in a quarter
of the time.
"""

import os
import pickle
import select
import struct
import sys
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import IO, Any, Final, NamedTuple, Protocol, TypeVar

from app.binance.archive_csv import ArchiveFile
from app.binance.metrics_csv import MetricsDay
from app.domain.interval import Grid, Interval
from app.domain.kline import BadKline, Precision
from app.ports.exchange import FileKlines
from infra.binance.unpack import Collect, read_file
from infra.binance.unpack_metrics import MetricsRead, read_days

IDLE_S_MAX: Final = 60.0  # a process without work exits; the next file starts a new one (0.2 s)
_NICENESS: Final = 5  # history has lower priority than answers to clients
_LENGTH: Final = struct.Struct("<Q")


_Result_co = TypeVar("_Result_co", covariant=True)


class Job(Protocol[_Result_co]):
    """Work for an unpacker process: it and its result are pickled."""

    @property
    def name(self) -> str:
        """The name of its file, or of the first of them."""
        ...

    def result(self) -> _Result_co:
        """Do the work. Raises BadKline for any fault of the file."""
        ...


class KlinesJob(NamedTuple):
    """A downloaded file, and the arguments of `read_file` for it."""

    content: bytes
    file: ArchiveFile
    grid: Grid
    precision: Precision
    longer: Sequence[Interval]
    collect: Collect

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.file.name

    def result(self) -> FileKlines:
        """The klines of the file. Raises BadKline for any fault."""
        download = BytesIO(self.content)
        return read_file(download, self.file, self.grid, self.precision, self.longer, self.collect)


class MetricsJob(NamedTuple):
    """The downloaded files of a symbol's days, ascending, and the form of their rows."""

    downloads: Mapping[MetricsDay, bytes]
    collect: Collect

    @property
    def name(self) -> str:
        """The name of the first file."""
        return next(iter(self.downloads)).name

    def result(self) -> MetricsRead:
        """The rows of the files; their faults are in it."""
        return read_days(self.downloads, self.collect)


_Result = TypeVar("_Result")


def done(job: Job[_Result]) -> _Result | Exception:
    """The result of `job`, or the BadKline that it raised."""
    try:
        return job.result()
    except BadKline as error:
        return error


def send(pipe: IO[bytes], thing: object) -> None:
    """Pickle `thing` and write it to the pipe, after its length."""
    content = pickle.dumps(thing, pickle.HIGHEST_PROTOCOL)
    pipe.write(_LENGTH.pack(len(content)))
    pipe.write(content)
    pipe.flush()


def receive(pipe: IO[bytes]) -> Any:
    """Read the next object from the pipe. Raises EOFError when the other end has closed it."""
    content = _exactly(pipe, *_LENGTH.unpack(_exactly(pipe, _LENGTH.size)))
    return pickle.loads(content)  # noqa: S301  written by our own process at the other end


def _exactly(pipe: IO[bytes], size: int) -> bytes:
    content = pipe.read(size)
    if len(content) < size:
        raise EOFError(f"the pipe ended {size - len(content)} bytes early")
    return content


def serve() -> None:
    """Process jobs from stdin until the pipe is closed or there was no job for IDLE_S_MAX."""
    os.nice(_NICENESS)
    jobs, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # the pipe carries answers only
    while select.select([jobs], [], [], IDLE_S_MAX)[0]:
        try:
            send(answers, done(receive(jobs)))
        except (EOFError, BrokenPipeError):
            break
    os._exit(0)  # do not flush: the pipe may have no reader
