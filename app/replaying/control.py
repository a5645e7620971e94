"""What an operator may ask of a replay, and what it reports."""

from dataclasses import dataclass
from typing import Final

from app.replaying.ahead import Ahead
from app.replaying.player import Player
from app.replaying.replay_clock import ReplayClock
from app.replaying.schedule import Schedule
from app.replaying.symbols import SymbolsThen

SPEED_MAX: Final = 1_000  # a minute lasts 60 ms: about as long as the frames of all symbols take


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to change; None stays as it is. `seek_ms` is a time inside the replay."""

    speed: int | None = None
    is_paused: bool | None = None
    is_looping: bool | None = None
    seek_ms: int | None = None


class BadReplay(ValueError):
    """The replay cannot be set like this; the message says what it can."""


class Control:
    """Sets a running replay, and reports how it goes."""

    def __init__(
        self, clock: ReplayClock, player: Player, ahead: Ahead, schedule: Schedule, symbols: SymbolsThen
    ) -> None:
        self._clock = clock
        self._player = player
        self._ahead = ahead
        self._schedule = schedule
        self._symbols = symbols

    def set(self, wanted: Wanted) -> None:
        """Apply what is wanted, all of it or, with BadReplay, nothing."""
        start_ms, end_ms = self._clock.span
        if wanted.speed is not None and not 1 <= wanted.speed <= SPEED_MAX:
            raise BadReplay(f"speed is a number from 1 to {SPEED_MAX}")
        if wanted.seek_ms is not None and not start_ms <= wanted.seek_ms <= end_ms:
            raise BadReplay(f"seek must lie in the replay, from {start_ms} to {end_ms}")
        if wanted.is_paused is not None:
            self._clock.pause(is_paused=wanted.is_paused)
        if wanted.speed is not None:
            self._clock.set_speed(wanted.speed)
        if wanted.is_looping is not None:
            self._clock.loop(is_looping=wanted.is_looping)
        if wanted.seek_ms is not None:
            self._player.seek(wanted.seek_ms)

    def report(self) -> dict[str, object]:
        """The replay's time and settings, what was sent, and how late (ms of the machine's time)."""
        clock = self._clock
        return {
            "time": clock.now_ms(),
            "closed_until": clock.seen_ms,
            "start": clock.span.start_ms,
            "end": clock.span.end_ms,
            "speed": clock.speed,
            "paused": clock.is_paused,
            "loop": clock.is_looping,
            "ended": clock.is_over,
            "pass": self._player.passes,
            "series": self._schedule.series,
            "frames": self._player.frames,
            "lag": self._player.lag.report(),
            "stood_ms": clock.stood_ms,
            "trouble": [each for each in (self._ahead.trouble, self._symbols.trouble) if each],
        }
