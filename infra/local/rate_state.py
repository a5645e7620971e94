"""The rate state that all processes on one database share, in a small file that survives their end."""

import fcntl
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from app.binance.rate_state import MINUTES_MAX, SLOTS_MAX, Minute, RateState, UnderWay
from app.domain.kind import Bucket
from app.events import Observe, RateStateNotShared
from app.ports.clock import Clock
from infra.process.place import PROCESSES_MAX, is_taken, take_place
from infra.process.private_file import open_private

T = TypeVar("T")

REASON_BYTES_MAX: Final = 600
SILENCE_BYTES_MAX: Final = 300
RETRY_MS: Final = 5_000  # a file that could not be used is tried again after this long
LOCK_TRIES_MAX: Final = 200
LOCK_PAUSE_S: Final = 0.000_1
"""The lock is held for microseconds. If its holder was stopped, 200 such pauses cost the others 30 ms."""

_MAGIC: Final = b"klnstd03"  # with the layout's number
_MAGIC_BEFORE: Final = b"klnstd02"
"""Of files without `_MORE`, which are read too: what they count in DATA may all have been one endpoint's."""
_HEAD: Final = struct.Struct("<8sI")
_PROCESSES_AT: Final = 3 * MINUTES_MAX
_SLOTS_AT: Final = _PROCESSES_AT + 3 * PROCESSES_MAX
_WHOLE_BUCKETS: Final = (Bucket.FUNDING, Bucket.DATA)
_MORE_BUCKETS: Final = tuple(bucket for bucket in Bucket if bucket not in _WHOLE_BUCKETS)
_OTHERS_AT: Final = _SLOTS_AT + 2 * SLOTS_MAX * len(_WHOLE_BUCKETS)
_BODY: Final = struct.Struct(f"<{_OTHERS_AT + 8}q{REASON_BYTES_MAX}s{SILENCE_BYTES_MAX}s")
_MORE: Final = struct.Struct(f"<{SLOTS_MAX * len(_MORE_BUCKETS)}q")
_COUNT_BITS: Final = 16  # of the numbers in `_MORE`, which hold a slot above its count
_COUNT_MAX: Final = (1 << _COUNT_BITS) - 1
_NO_SLOT: Final = -1
_FILE_BYTES_BEFORE: Final = _HEAD.size + _BODY.size
FILE_BYTES: Final = _FILE_BYTES_BEFORE + _MORE.size
assert FILE_BYTES <= 4096, "one page: even kill -9 in the middle of writing leaves it whole"


class Damaged(Exception):
    """The content of the file is not what a process wrote."""


def encode(state: RateState) -> bytes:
    """Return the content of the file for `state`."""
    numbers: list[int] = []
    for minute, entry in state.minutes.items():
        numbers += (minute, entry.used, entry.is_told)
    numbers += [-1, 0, 0] * (MINUTES_MAX - len(state.minutes))
    processes = [0] * (3 * PROCESSES_MAX)
    for number, each in state.under_way.items():
        processes[3 * number : 3 * number + 3] = (each.requests, each.weight, each.minute)
    numbers += processes
    for bucket in _WHOLE_BUCKETS:
        slots = state.slots.get(bucket, {})
        for slot, count in slots.items():
            numbers += (slot, count)
        numbers += [_NO_SLOT, 0] * (SLOTS_MAX - len(slots))
    numbers += (state.left_ms, state.until_ms, state.began_ms, state.in_a_row)
    numbers += (state.failures, state.probes, state.retry_ms, state.probe_ms)
    body = _BODY.pack(*numbers, state.reason.encode(), state.silence.encode()) + _encode_more(state)
    return _HEAD.pack(_MAGIC, zlib.crc32(body)) + body


def decode(content: bytes) -> RateState:
    """Return the state that was given to `encode`; long texts are cut. Raises Damaged."""
    if len(content) not in (FILE_BYTES, _FILE_BYTES_BEFORE):
        raise Damaged(f"{len(content)} bytes instead of {FILE_BYTES}")
    magic, checksum = _HEAD.unpack_from(content)
    body = content[_HEAD.size :]
    expected = _MAGIC if len(content) == FILE_BYTES else _MAGIC_BEFORE
    if magic != expected or checksum != zlib.crc32(body):
        raise Damaged("the checksum is wrong")
    *numbers, reason, silence = _BODY.unpack_from(body)
    state = RateState(reason=_text(reason), silence=_text(silence))
    for at in range(0, _PROCESSES_AT, 3):
        if numbers[at] >= 0:
            state.minutes[numbers[at]] = Minute(numbers[at + 1], bool(numbers[at + 2]))
    for number in range(PROCESSES_MAX):
        at = _PROCESSES_AT + 3 * number
        if numbers[at]:
            state.under_way[number] = UnderWay(*numbers[at : at + 3])
    for bucket in _WHOLE_BUCKETS:
        first = _SLOTS_AT + 2 * SLOTS_MAX * bucket
        pairs = ((numbers[at], numbers[at + 1]) for at in range(first, first + 2 * SLOTS_MAX, 2))
        if slots := {slot: count for slot, count in pairs if slot >= 0}:
            state.slots[bucket] = slots
    if magic == _MAGIC:
        _decode_more(body[_BODY.size :], state)
    elif Bucket.DATA in state.slots:
        state.slots |= {bucket: dict(state.slots[Bucket.DATA]) for bucket in _MORE_BUCKETS}
    state.left_ms, state.until_ms, state.began_ms, state.in_a_row = numbers[-8:-4]
    state.failures, state.probes, state.retry_ms, state.probe_ms = numbers[-4:]
    return state


def _encode_more(state: RateState) -> bytes:
    numbers: list[int] = []
    for bucket in _MORE_BUCKETS:
        slots = state.slots.get(bucket, {})
        numbers += ((slot << _COUNT_BITS) + min(count, _COUNT_MAX) for slot, count in slots.items())
        numbers += [_NO_SLOT] * (SLOTS_MAX - len(slots))
    return _MORE.pack(*numbers)


def _decode_more(content: bytes, state: RateState) -> None:
    numbers = _MORE.unpack(content)
    for place, bucket in enumerate(_MORE_BUCKETS):
        found = numbers[place * SLOTS_MAX : (place + 1) * SLOTS_MAX]
        if slots := {number >> _COUNT_BITS: number & _COUNT_MAX for number in found if number >= 0}:
            state.slots[bucket] = slots


def _text(padded: bytes) -> str:
    return padded.rstrip(b"\0").decode(errors="ignore")


class LocalRateState:
    """Keeps the rate state in the file at `path`. Every use locks the file; the kernel unlocks it if the process dies.

    Each process also locks a byte of its own, its place, which shows the others that it lives: the requests that a dead
    process had under way are dropped. A file that cannot be used is reported once. Until it can be used again, the
    process goes by what it knew last, and because of `trouble` its requests leave one at a time.
    """

    def __init__(self, path: Path, clock: Clock, observe: Observe) -> None:
        self._path = path
        self._clock = clock
        self._observe = observe
        self._thread_lock = threading.Lock()  # metrics are read on a thread of their own
        self._rate_state = RateState()
        self._fd: int | None = None
        self._is_locked = False
        self._before = b""
        self._is_behind = True
        """Whether what this process knows has to be merged into what the file says."""
        self._retry_ms = 0
        self._news: str | None = None
        self.me = 0
        self.trouble: str | None = None

    async def update(self, change: Callable[[RateState], T]) -> T:
        """Call `change` under the lock of the file, without suspending: no task can run, or be cancelled, meanwhile."""
        return self._use(change)

    def look(self, read: Callable[[RateState], T]) -> T:
        """Return the result of `read` for what the file says now."""
        return self._use(read)

    def close(self) -> None:
        """Close the file, which frees the place of this process; the next use opens it again."""
        with self._thread_lock:
            self._close()

    def _use(self, use: Callable[[RateState], T]) -> T:
        self._begin()
        try:
            return use(self._rate_state)
        finally:
            self._end()

    def _begin(self) -> None:
        self._thread_lock.acquire()
        try:
            if self._is_worth_trying():
                self._take()
        except OSError as error:
            self._go_alone(error)

    def _end(self) -> None:
        try:
            self._give_back()
        except OSError as error:
            self._go_alone(error)
        news, self._news = self._news, None
        self._thread_lock.release()
        if news is not None:
            self._observe(RateStateNotShared(str(self._path), news))

    def _is_worth_trying(self) -> bool:
        return self.trouble is None or not 0 < self._retry_ms - self._clock.now_ms() <= RETRY_MS

    def _take(self) -> None:
        if self._fd is None or not self._is_still(self._fd):
            self._open()
        assert self._fd is not None, "it was opened"
        _lock(self._fd)
        self._is_locked = True
        self._before = os.pread(self._fd, FILE_BYTES + 1, 0)
        try:
            found = decode(self._before) if self._before else RateState()
        except Damaged as error:
            self._news = f"it was damaged ({error}) and is written anew from what this process knows"
            found, self._is_behind = RateState(), True
        for number in [number for number in found.under_way if number != self.me and not self._lives(number)]:
            del found.under_way[number]
        if self._is_behind:
            found.join(self._rate_state, self.me)
        self._rate_state, self._is_behind, self.trouble = found, False, None

    def _give_back(self) -> None:
        if not self._is_locked:
            return
        assert self._fd is not None, "what is locked is open"
        content = encode(self._rate_state)
        if content != self._before:
            if os.pwrite(self._fd, content, 0) != FILE_BYTES:
                raise OSError("the disk is full")
            if len(self._before) > FILE_BYTES:
                os.ftruncate(self._fd, FILE_BYTES)
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        self._is_locked = False

    def _go_alone(self, error: OSError) -> None:
        self._close()
        if self.trouble is None:
            self._news = str(error)
            mine = self._rate_state.under_way.get(self.me)
            self._rate_state.under_way = {} if mine is None else {self.me: mine}
            self._rate_state.unlearn()
        self.trouble = f"{self._path.name} cannot be used: {error}"
        self._retry_ms = self._clock.now_ms() + RETRY_MS

    def _open(self) -> None:
        self._close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = open_private(self._path)
        before, self.me = self.me, take_place(self._fd)
        self._rate_state.under_way = (
            {self.me: self._rate_state.under_way[before]} if before in self._rate_state.under_way else {}
        )

    def _close(self) -> None:
        self._is_locked, self._is_behind = False, True
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _is_still(self, fd: int) -> bool:
        """Whether `fd` is still the file at the path; somebody may have deleted it."""
        try:
            return os.path.samestat(os.fstat(fd), Path.stat(self._path))
        except FileNotFoundError:
            return False

    def _lives(self, number: int) -> bool:
        assert self._fd is not None, "it is open"
        return is_taken(self._fd, number)


def _lock(fd: int) -> None:
    """Lock the file. Raises OSError if another process keeps it locked."""
    for _ in range(LOCK_TRIES_MAX):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_PAUSE_S)
            continue
        return
    raise OSError("another process has kept its lock for too long")
