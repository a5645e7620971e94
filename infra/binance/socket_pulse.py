"""The life signs of a socket with kline streams: which streams deliver, and how late."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from app.domain.interval import INTERVALS, M1, MINUTE_MS
from infra.binance.socket_link import CHECK_S

Key = tuple[str, str]
"""Symbol and interval code of a stream."""

_CHECK_MS_MAX: Final = 2 * int(CHECK_S * 1_000)
"""The most that one check counts; a longer time means that the clock was set or the machine was suspended."""
SILENCE_GRACE_S: Final = 15
"""Added to the shortest interval. A traded symbol sends every 250 ms, and every symbol when its kline closes, so a
socket with 1m streams is dead after 75 s without a frame."""
SILENCE_STEP_S_MAX: Final = 900  # with any intervals: in a quarter of an hour some symbol trades
SILENT_SHARE_MAX: Final = 0.2  # of the 1m streams; with a larger share silent the socket is replaced
SILENT_MINUTES: Final = 2  # whole minutes without a frame, although each has at least the closing frame of a 1m kline
BUSY_FRAMES: Final = 30
"""In a minute. A stream with so many is busy and judged by its own frames: a gap of 10 s has a chance of 1 in 150."""
BUSY_MINUTES: Final = 2  # a stream counts as busy until so long after its last busy minute
LAG_MS_MAX: Final = 10_000  # from event to arrival; closing frames are sent up to 2 s late, others at once
LAG_S_MAX: Final = 30  # if no frame was in time for so long, the socket is slow
_NO_LAG: Final = 1 << 62


class _Heard:
    """What was received of one stream."""

    __slots__ = ("frames", "told_ms")

    def __init__(self) -> None:
        self.told_ms: int | None = None
        """The event time (ms) of the newest frame since the stream was last subscribed."""
        self.frames = 0
        """How many came in this minute."""


_UNHEARD: Final = _Heard()


class Pulse:
    """The life signs of one connection. Only kline frames count: silent streams are acknowledged too."""

    def __init__(self) -> None:
        self.subscribed: dict[Key, int] = {}  # by stream: since when (ms)
        self.newest_ms: int | None = None
        """When the newest frame was received (ms)."""
        self.told_ms: int | None = None
        """The newest event time (ms) of all frames; on a slow socket it is older than `newest_ms`."""
        self.first_frame = asyncio.Event()
        self.all_heard = asyncio.Event()
        """Set once every wanted stream has delivered a frame."""
        self.holds = 0
        """How often a frame had to wait because the intake was full."""
        self.is_held = False
        self._checked_ms: int | None = None
        self._silent_ms = 0
        self._late_ms: int | None = None
        self._is_slow = False
        self._lag_ms_min = _NO_LAG
        self._holds_checked = 0
        self._holds_minute = 0
        self._minute = 0
        self._unheard: set[Key] = set()
        self._silent_minutes: dict[Key, int] = {}
        self._told: dict[Key, int] = {}
        self._closed_ms: dict[Key, int] = {}
        self._is_complete = False
        self._heard: dict[Key, _Heard] = {}
        self._busy: dict[Key, int] = {}  # by stream: its last busy minute

    # --- what happens -------------------------------------------------------------------------------------------

    def expect(self, keys: Iterable[Key], now_ms: int) -> None:
        """Note that `keys` are being subscribed. Called first, as a frame may precede the acknowledgement."""
        if not self.subscribed:
            self._silent_ms, self._minute = 0, now_ms // MINUTE_MS
        keys = list(keys)
        self.subscribed.update(dict.fromkeys(keys, now_ms))
        self._unheard.update(keys)
        self._is_complete = False

    def forget(self, keys: Iterable[Key], *, for_good: bool = True) -> None:
        """Note that `keys` are unsubscribed, either `for_good` or to be subscribed again."""
        for key in keys:
            self.subscribed.pop(key, None)
            self._unheard.discard(key)
            if for_good:
                self._silent_minutes.pop(key, None)
                self._told.pop(key, None)
                self._closed_ms.pop(key, None)
                if (heard := self._heard.get(key)) is not None:
                    heard.told_ms = None
                self._busy.pop(key, None)

    def complete(self) -> None:
        """Note that all wanted streams are subscribed."""
        self._is_complete = True
        if not self._unheard:
            self.all_heard.set()

    def beat(self, key: Key, now_ms: int, event_ms: int) -> None:
        """Note that a frame of `key` with event time `event_ms` (0: unknown) was received at `now_ms`."""
        self.newest_ms = now_ms
        self._silent_ms = 0
        told_ms = now_ms
        if event_ms:
            lag_ms = now_ms - event_ms
            if lag_ms < self._lag_ms_min:
                self._lag_ms_min = lag_ms
            if lag_ms > 0:
                told_ms = event_ms
        if self.told_ms is None or told_ms > self.told_ms:
            self.told_ms = told_ms
        heard = self._heard.get(key)
        if heard is None:
            heard = self._heard[key] = _Heard()
        heard.told_ms = told_ms
        heard.frames += 1
        unheard = self._unheard
        if unheard:
            unheard.discard(key)
            if not unheard and self._is_complete:
                self.all_heard.set()

    def hold(self) -> None:
        """Note that a frame waits for a full intake: late or missing frames are not the socket's fault now."""
        self.is_held = True
        self.holds += 1

    def release(self) -> None:
        """Note that the frame was queued."""
        self.is_held = False

    def exists(self, key: Key, closed_ms: int) -> None:
        """Note that REST has a closed 1m kline of `key` that ends at `closed_ms`."""
        if key in self.subscribed:
            self._closed_ms[key] = max(closed_ms, self._closed_ms.get(key, 0))

    def check(self, now_ms: int) -> Sequence[Key]:
        """Count the time since the last check, every CHECK_S; returns silent streams to be subscribed again."""
        self._count(now_ms)
        return self._turn_minute(now_ms) if now_ms // MINUTE_MS != self._minute else ()

    # --- what it means ------------------------------------------------------------------------------------------

    @property
    def silent(self) -> int:
        """How many streams have had no frame for SILENT_MINUTES or longer."""
        return sum(minutes >= SILENT_MINUTES for minutes in self._silent_minutes.values())

    def heard_ms(self, key: Key) -> int | None:
        """The event time (ms) of the newest frame that shows `key` to be alive.

        That is a frame of the stream itself if it is busy, otherwise of any stream on the socket. None if `key` is not
        subscribed, or had no frame in a whole minute.
        """
        if key not in self.subscribed or key in self._silent_minutes:
            return None
        heard = self._heard.get(key, _UNHEARD)
        is_busy = key in self._busy or heard.frames >= BUSY_FRAMES
        return heard.told_ms if is_busy else self.told_ms

    def illness(self) -> str | None:
        """Why the socket must be closed; None if it is usable."""
        if not self.subscribed:
            return None
        steps_s = (INTERVALS[code].grid.step_ms // 1_000 for _, code in self.subscribed)
        limit_s = min(min(steps_s), SILENCE_STEP_S_MAX) + SILENCE_GRACE_S
        if self._silent_ms > limit_s * 1_000:
            return f"no frame of {len(self.subscribed)} streams for {limit_s} s"
        if self.silent > SILENT_SHARE_MAX * sum(code == M1.code for _, code in self.subscribed):
            return f"{self.silent} of {len(self.subscribed)} streams silent for {SILENT_MINUTES} minutes"
        return None

    def complaint(self) -> str | None:
        """Why another socket should replace this one, which still delivers frames; None if all is well."""
        if self._is_slow:
            return f"every frame came more than {LAG_MS_MAX // 1_000} s late for {LAG_S_MAX} s"
        for key, minutes in self._silent_minutes.items():
            since_ms = (self._minute - minutes) * MINUTE_MS
            is_deaf = minutes >= 2 * SILENT_MINUTES  # subscribing again did not help
            if is_deaf and self._closed_ms.get(key, 0) > since_ms + MINUTE_MS:
                return f"{key[0]} {key[1]} stays silent for {minutes} minutes while REST has its klines"
        return None

    # --- counting -----------------------------------------------------------------------------------------------

    def _count(self, now_ms: int) -> None:
        elapsed_ms = min(max(0, now_ms - (now_ms if self._checked_ms is None else self._checked_ms)), _CHECK_MS_MAX)
        lag_ms, self._lag_ms_min, self._checked_ms = self._lag_ms_min, _NO_LAG, now_ms
        if self.is_held or self.holds != self._holds_checked:
            self._holds_checked, self._silent_ms, self._late_ms, self._is_slow = self.holds, 0, None, False
            return
        self._silent_ms += elapsed_ms
        if lag_ms <= LAG_MS_MAX:
            self._late_ms, self._is_slow = None, False
        elif self._late_ms is not None:
            self._late_ms += elapsed_ms
            self._is_slow |= lag_ms != _NO_LAG and self._late_ms >= LAG_S_MAX * 1_000
        elif lag_ms != _NO_LAG:
            self._late_ms = 0

    def _turn_minute(self, now_ms: int) -> Sequence[Key]:
        began_ms, self._minute = self._minute * MINUTE_MS, now_ms // MINUTE_MS
        was_held, self._holds_minute = self.is_held or self.holds != self._holds_minute, self.holds
        for key, since_ms in self.subscribed.items():
            if key not in self._unheard:
                self._silent_minutes.pop(key, None)
                self._told.pop(key, None)
            elif key[1] == M1.code and since_ms <= began_ms and not was_held:
                self._silent_minutes[key] = self._silent_minutes.get(key, 0) + 1
        self._unheard = set(self.subscribed)
        self._heard = {key: heard for key, heard in self._heard.items() if heard.told_ms is not None or heard.frames}
        self._busy.update((key, self._minute) for key, heard in self._heard.items() if heard.frames >= BUSY_FRAMES)
        self._busy = {key: minute for key, minute in self._busy.items() if 0 <= self._minute - minute < BUSY_MINUTES}
        for heard in self._heard.values():
            heard.frames = 0
        return [key for key, minutes in self._silent_minutes.items() if self._is_due(key, minutes)]

    def _is_due(self, key: Key, minutes: int) -> bool:
        """Whether a stream silent for `minutes` is to be subscribed again: after 2 minutes, 4, 8, 16 …"""
        if minutes < max(SILENT_MINUTES, 2 * self._told.get(key, 0)):
            return False
        self._told[key] = minutes
        return True
