"""The life signs of a socket with streams of any kind, each with its own limit of silence."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from app.binance.stream_name import parse
from infra.binance.socket_link import CHECK_S

UNHEARD_S: Final = 60  # a socket without any frame since it was opened is closed after this at the earliest
SILENCE_S_MAX: Final = 900
"""A socket is closed after so long without a frame, even if its streams are rare: a new connection costs less than one
that died without a close frame."""
_CHECK_MS_MAX: Final = 2 * int(CHECK_S * 1_000)  # the most that one check counts; more means that the clock was set
_DOUBLINGS_MAX: Final = 8
_UNKNOWN_S: Final = 3_600


class _Sign:
    """The state of one stream."""

    __slots__ = ("heard_ms", "quiet_ms", "silent_ms", "tries")

    def __init__(self, stream: str) -> None:
        name = parse(stream)
        self.quiet_ms = (name.quiet_s if name is not None else _UNKNOWN_S) * 1_000
        self.heard_ms: int | None = None
        self.silent_ms = 0
        self.tries = 0


class StreamPulse:
    """The life signs of one connection. Only frames count: silent streams are acknowledged too."""

    def __init__(self) -> None:
        self.newest_ms: int | None = None
        self.first_frame = asyncio.Event()
        self.all_heard = asyncio.Event()
        self.holds = 0
        self.is_held = False
        self._signs: dict[str, _Sign] = {}
        self._unheard: set[str] = set()
        self._tries: dict[str, int] = {}
        self._checked_ms: int | None = None
        self._silent_ms = 0
        self._is_complete = False

    @property
    def subscribed(self) -> dict[str, _Sign]:
        """By subscribed stream: its state."""
        return self._signs

    @property
    def silent(self) -> int:
        """How many streams have been silent for longer than their kind may be."""
        return sum(sign.silent_ms > sign.quiet_ms for sign in self._signs.values())

    def expect(self, keys: Iterable[str], now_ms: int) -> None:
        """Note that `keys` are being subscribed."""
        if not self._signs:
            self._silent_ms = 0
        for key in keys:
            sign = self._signs[key] = _Sign(key)
            sign.tries = self._tries.get(key, 0)
            self._unheard.add(key)
        self._is_complete = False

    def forget(self, keys: Iterable[str], *, for_good: bool = True) -> None:
        """Note that `keys` are unsubscribed, either `for_good` or to be subscribed again."""
        for key in keys:
            self._signs.pop(key, None)
            self._unheard.discard(key)
            if for_good:
                self._tries.pop(key, None)

    def complete(self) -> None:
        """Note that all wanted streams are subscribed."""
        self._is_complete = True
        if not self._unheard:
            self.all_heard.set()

    def beat(self, key: str, now_ms: int) -> None:
        """Note that a frame of `key` was received."""
        self.newest_ms = now_ms
        self._silent_ms = 0
        sign = self._signs.get(key)
        if sign is None:
            return
        sign.heard_ms, sign.silent_ms = now_ms, 0
        if self._unheard and key in self._unheard:
            self._unheard.discard(key)
            self._tries.pop(key, None)
            sign.tries = 0
            if not self._unheard and self._is_complete:
                self.all_heard.set()

    def check(self, now_ms: int) -> Sequence[str]:
        """Count the time since the last check; returns silent streams to be subscribed again, less often each time."""
        since_ms = now_ms if self._checked_ms is None else self._checked_ms
        elapsed_ms, self._checked_ms = min(max(0, now_ms - since_ms), _CHECK_MS_MAX), now_ms
        self._silent_ms += elapsed_ms
        due = []
        for key, sign in self._signs.items():
            sign.silent_ms += elapsed_ms
            if sign.silent_ms > sign.quiet_ms * 2 ** min(sign.tries, _DOUBLINGS_MAX):
                self._tries[key] = sign.tries + 1
                due.append(key)
        return due

    def heard_ms(self, key: str) -> int | None:
        """When the newest frame of `key` was received; None if it is dead or had none since it was subscribed."""
        sign = self._signs.get(key)
        return sign.heard_ms if sign is not None and sign.silent_ms <= sign.quiet_ms else None

    def illness(self) -> str | None:
        """Why the socket must be closed; None if it is usable."""
        if not self._signs:
            return None
        lively = [sign.quiet_ms for sign in self._signs.values() if sign.heard_ms is not None]
        unheard_ms = max(UNHEARD_S * 1_000, min(sign.quiet_ms for sign in self._signs.values()))
        limit_ms = min(SILENCE_S_MAX * 1_000, min(lively, default=unheard_ms))
        if self._silent_ms > limit_ms:
            return f"no frame of {len(self._signs)} streams for {limit_ms // 1_000} s"
        return None

    def complaint(self) -> str | None:
        """None: slow and quiet streams cannot be told apart, so the socket is replaced only at its end of life."""
        return None

    def exists(self, key: str, closed_ms: int) -> None:
        """Do nothing: REST reports only series that are ingested, which have their own sockets."""
