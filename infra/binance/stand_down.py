"""How long the exchange wants to be left alone, kept across restarts."""

from collections.abc import Awaitable, Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from app.domain.interval import MINUTE_MS
from app.events import Observe, StandDownBegan
from app.ports import Clock, StandDown, StoreUnavailable
from app.wire.error_body import banned_until_ms
from app.wire.server_time import plausible

Save = Callable[[int, str], Awaitable[None]]
"""Stores (until_ms, reason) of a stand-down durably; may raise StoreUnavailable."""

STAND_DOWN_STATUSES: Final = frozenset({403, 418, 429, 451})
"""429 limit exceeded, 418 banned, 403 web application firewall, 451 location refused (binance-facts section 1.2)."""

MARGIN_MS: Final = 10_000
"""Beyond the clock minute, and the shortest stand-down: longer than a request in flight takes to come back."""
LIMITED_MS_FIRST: Final = 2 * MINUTE_MS  # the second 429 in a row; it doubles from here
LIMITED_MS_MAX: Final = 60 * MINUTE_MS
BANNED_MS_FIRST: Final = 2 * MINUTE_MS  # Binance's bans last from 2 minutes …
BANNED_MS_MAX: Final = 3 * 24 * 60 * MINUTE_MS  # … to 3 days
REFUSED_MS: Final = 5 * MINUTE_MS  # 403 and 451 do not pass by themselves; asking every five minutes offends nobody
CALM_MS: Final = MINUTE_MS  # an answer this long after a stand-down ended means it is over: escalation starts anew
RETRY_AFTER_DIGITS_MAX: Final = 9  # 31 years; a longer number is no announcement
EXTENSION_MS_NOTICED: Final = 5_000  # answers to one burst announce ends that differ by their travel time only

_ADVICE: Final = {
    403: "the exchange's firewall refuses this address; lower WEIGHT_PER_MINUTE or set HTTPS_PROXY",
    418: "this address is banned for too many requests; other programs behind it count too",
    429: "the weight limit of this address is used up; other programs behind it count too",
    451: "the exchange refuses this location; set HTTPS_PROXY to a place it serves",
}


class StandDownGuard:
    """The one stand-down of an address: when it ends and why.

    What the exchange announces (Retry-After, "banned until") is honoured in full; without an announcement the time
    grows with every stand-down in a row.
    """

    def __init__(self, clock: Clock, observe: Observe, save: Save) -> None:
        self._clock = clock
        self._observe = observe
        self._save = save
        self._until_ms = 0
        self._began_ms = 0
        self._reason = ""
        self._in_a_row = 0
        self._is_saved = True

    def restore(self, until_ms: int, reason: str) -> None:
        """Take over a stand-down that was stored (by an earlier run or another process); it is never shortened."""
        if until_ms > self._until_ms:
            self._until_ms, self._reason = until_ms, reason
            self._in_a_row = max(self._in_a_row, 1)

    def active(self) -> StandDown | None:
        """The error to raise while the stand-down lasts, else None."""
        if self._clock.now_ms() < self._until_ms:
            return StandDown(self._until_ms, self._reason)
        return None

    def announce(self, status: int, retry_after: str | None, msg: str, sent_ms: int) -> StandDown:
        """Begin, or lengthen, the stand-down that an answer with `status` to a request sent at `sent_ms` calls for."""
        now_ms = self._clock.now_ms()
        is_known = sent_ms <= self._began_ms or now_ms < self._until_ms  # an answer to the burst that caused it
        announced_ms = _announced_ms(now_ms, retry_after, msg)
        if not is_known:
            self._in_a_row += 1
            announced_ms = max(announced_ms or now_ms + self._unannounced_ms(status, now_ms), now_ms + MARGIN_MS)
        until_ms = announced_ms or self._until_ms
        if until_ms > self._until_ms:
            is_news = not is_known or until_ms > self._until_ms + EXTENSION_MS_NOTICED
            self._until_ms, self._is_saved = until_ms, False
            self._reason = f"HTTP {status}: {_ADVICE.get(status, _ADVICE[429])} ({msg:.200})"
            self._began_ms = max(self._began_ms, now_ms)
            if is_news:
                self._observe(StandDownBegan(until_ms, self._reason))
        return StandDown(self._until_ms, self._reason)

    async def persist(self) -> None:
        """Store what is not stored yet. A store that cannot be written is tried again at the next call."""
        if self._is_saved:
            return
        self._is_saved = True
        try:
            await self._save(self._until_ms, self._reason)
        except StoreUnavailable:
            self._is_saved = False  # held in memory all the same; the store reports its own trouble

    def note_success(self) -> None:
        """A request was answered: long enough after a stand-down, escalation starts anew."""
        if self._in_a_row and self._clock.now_ms() >= self._until_ms + CALM_MS:
            self._in_a_row = 0

    def _unannounced_ms(self, status: int, now_ms: int) -> int:
        doublings = min(max(self._in_a_row - 1, 0), 32)
        if status == 418:
            return min(BANNED_MS_FIRST << doublings, BANNED_MS_MAX)
        if status in (403, 451):
            return REFUSED_MS
        if self._in_a_row <= 1:
            return MINUTE_MS - now_ms % MINUTE_MS + MARGIN_MS
        return min(LIMITED_MS_FIRST << (doublings - 1), LIMITED_MS_MAX)


def _announced_ms(now_ms: int, retry_after: str | None, msg: str) -> int | None:
    ends = (retry_after_ms(now_ms, retry_after), banned_until_ms(msg))
    return max((end_ms for end_ms in ends if end_ms is not None), default=None)


def retry_after_ms(now_ms: int, text: str | None) -> int | None:
    """When a Retry-After lets us ask again: seconds from now, or a date; None when it says neither."""
    text = (text or "").strip()
    if text.isascii() and text.isdigit() and len(text) <= RETRY_AFTER_DIGITS_MAX:
        return now_ms + int(text) * 1_000
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return plausible(int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()) * 1_000)
