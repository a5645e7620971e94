"""Which streams of a socket deliver, and when their silence means that the socket is sick."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from app.domain.interval import INTERVALS, M1, MINUTE_MS

Key = tuple[str, str]
"""Symbol and interval code: what a frame says about itself, cheap to hash."""

SILENCE_GRACE_S: Final = 15
"""A traded symbol sends every 250 ms, and any symbol when its kline closes: a socket whose shortest interval is 1m is
dead after 75 s without a frame."""
SILENCE_STEP_S_MAX: Final = 900  # however long the intervals: in a quarter of an hour some symbol trades
SILENT_SHARE_MAX: Final = 0.2  # of the 1m streams; with more of them silent the socket is replaced
SILENT_MINUTES: Final = 2  # whole minutes without a frame, each of which has at least the closing frame of a 1m kline


class Pulse:
    """The life signs of one connection: only kline frames count, acknowledgements prove nothing."""

    def __init__(self) -> None:
        self.subscribed: dict[Key, int] = {}  # since when, ms
        self.newest_ms: int | None = None
        """When the newest frame came."""
        self.first_frame = asyncio.Event()
        self.all_heard = asyncio.Event()
        """Set once every wanted stream has delivered."""
        self._alive_ms = 0
        self._minute = 0
        self._unheard: set[Key] = set()
        self._silent_minutes: dict[Key, int] = {}
        self._told: set[Key] = set()
        self._is_complete = False

    @property
    def silent(self) -> int:
        """Streams without a frame for SILENT_MINUTES or longer."""
        return sum(minutes >= SILENT_MINUTES for minutes in self._silent_minutes.values())

    def heard_ms(self, key: Key) -> int | None:
        """When the newest frame of any stream came, unless `key` is not subscribed or missed a whole minute."""
        return self.newest_ms if key in self.subscribed and key not in self._silent_minutes else None

    def expect(self, keys: Iterable[Key], now_ms: int) -> None:
        """These streams are being subscribed: the first frame may come before the acknowledgement."""
        if not self.subscribed:
            self._alive_ms, self._minute = now_ms, now_ms // MINUTE_MS
        keys = list(keys)
        self.subscribed.update(dict.fromkeys(keys, now_ms))
        self._unheard.update(keys)
        self._is_complete = False

    def forget(self, keys: Iterable[Key]) -> None:
        """These streams are no longer subscribed."""
        for key in keys:
            self.subscribed.pop(key, None)
            self._silent_minutes.pop(key, None)
            self._unheard.discard(key)
            self._told.discard(key)

    def complete(self) -> None:
        """Everything that is wanted has been subscribed."""
        self._is_complete = True
        if not self._unheard:
            self.all_heard.set()

    def beat(self, key: Key, now_ms: int) -> None:
        """A frame of `key` came."""
        self.newest_ms = self._alive_ms = now_ms
        unheard = self._unheard
        if unheard:
            unheard.discard(key)
            if not unheard and self._is_complete:
                self.all_heard.set()

    def illness(self, now_ms: int) -> str | None:
        """Why the socket has to be replaced, if it has to."""
        if not self.subscribed:
            return None
        steps_s = (INTERVALS[code].grid.step_ms // 1_000 for _, code in self.subscribed)
        limit_s = min(min(steps_s), SILENCE_STEP_S_MAX) + SILENCE_GRACE_S
        if now_ms - self._alive_ms > limit_s * 1_000:
            return f"no frame of {len(self.subscribed)} streams for {limit_s} s"
        if self.silent > SILENT_SHARE_MAX * sum(code == M1.code for _, code in self.subscribed):
            return f"{self.silent} of {len(self.subscribed)} streams silent for {SILENT_MINUTES} minutes"
        return None

    def turn(self, now_ms: int) -> Sequence[Key]:
        """To be called often: counts the minutes; returns streams newly found silent, to be subscribed again once."""
        if now_ms // MINUTE_MS == self._minute:
            return ()
        began_ms, self._minute = self._minute * MINUTE_MS, now_ms // MINUTE_MS
        for key, since_ms in self.subscribed.items():
            if key not in self._unheard:
                self._silent_minutes.pop(key, None)
                self._told.discard(key)
            elif key[1] == M1.code and since_ms <= began_ms:
                self._silent_minutes[key] = self._silent_minutes.get(key, 0) + 1
        self._unheard = set(self.subscribed)
        silent = [key for key, minutes in self._silent_minutes.items() if minutes >= SILENT_MINUTES]
        fresh = [key for key in silent if key not in self._told]
        self._told.update(fresh)
        return fresh
