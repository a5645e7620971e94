"""What a process that unpacks archive files does, and the language it speaks with the one that started it.

It imports little, for it is started when somebody waits for its work: without asyncio and SQLAlchemy it is there in a
quarter of the time.
"""

import os
import pickle
import select
import struct
import sys
from collections.abc import Sequence
from io import BytesIO
from typing import IO, Any, Final, NamedTuple

from app.binance.archive_csv import ArchiveFile
from app.domain.interval import Grid, Interval
from app.domain.kline import BadKline, Precision
from app.ports.exchange import FileKlines
from infra.binance.unpack import Collect, read_file
from infra.process.malloc import stop_sqlite_counting

IDLE_S_MAX: Final = 60.0  # a process without work ends itself; the next file starts a new one (0.2 s)
_NICENESS: Final = 5  # history gives way to those who are waiting for an answer
_LENGTH: Final = struct.Struct("<Q")


class Job(NamedTuple):
    """A downloaded file, and what is to be known of it."""

    content: bytes
    file: ArchiveFile
    grid: Grid
    precision: Precision
    longer: Sequence[Interval]
    collect: Collect


def read(job: Job) -> FileKlines | Exception:
    """What comes of a job."""
    content, file, grid, precision, longer, collect = job
    try:
        return read_file(BytesIO(content), file, grid, precision, longer, collect)
    except BadKline as error:
        return error


def send(pipe: IO[bytes], thing: object) -> None:
    """Write `thing` to the other end."""
    content = pickle.dumps(thing, pickle.HIGHEST_PROTOCOL)
    pipe.write(_LENGTH.pack(len(content)))
    pipe.write(content)
    pipe.flush()


def receive(pipe: IO[bytes]) -> Any:
    """What the other end wrote next. Raises EOFError when it has ended."""
    content = _exactly(pipe, *_LENGTH.unpack(_exactly(pipe, _LENGTH.size)))
    return pickle.loads(content)  # noqa: S301  written by our own process at the other end


def _exactly(pipe: IO[bytes], size: int) -> bytes:
    content = pipe.read(size)
    if len(content) < size:
        raise EOFError(f"the pipe ended {size - len(content)} bytes early")
    return content


def serve() -> None:
    """What a worker does: job after job, until the other end of the pipe is gone or there was no work for long."""
    os.nice(_NICENESS)
    stop_sqlite_counting()
    jobs, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # nothing but answers may get between answers
    while select.select([jobs], [], [], IDLE_S_MAX)[0]:
        try:
            send(answers, read(receive(jobs)))
        except (EOFError, BrokenPipeError):
            break
    os._exit(0)  # what is left in buffers has no reader
