"""How long no request may be sent to the exchange; survives restarts."""

from collections.abc import Awaitable, Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from app.binance.error_body import banned_until_ms
from app.binance.rate_state import RateState
from app.binance.server_time import plausible
from app.domain.interval import MINUTE_MS
from app.events import Observe, StandDownBegan
from app.ports.clock import Clock
from app.ports.coordination import RateStateKeeper
from app.ports.errors import StandDown, StoreUnavailable

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
REFUSED_MS: Final = 5 * MINUTE_MS  # 403 and 451 last until somebody acts; one request in five minutes does no harm
RETRY_AFTER_DIGITS_MAX: Final = 9  # 31 years; a longer number is no announcement
EXTENSION_MS_NOTICED: Final = 5_000  # answers to one burst announce ends that differ by their travel time only

_ADVICE: Final = {
    403: "the exchange's firewall refuses this address; lower WEIGHT_PER_MINUTE or set HTTPS_PROXY",
    418: "this address is banned for too many requests; other programs behind it count too",
    429: "the weight limit of this address is used up; other programs behind it count too",
    451: "the exchange refuses this location; set HTTPS_PROXY to a place it serves",
}


class StandDownGuard:
    """Decides until when no request may be sent from this address, and why.

    An announced time (Retry-After, "banned until") is honoured in full. Without one, the time grows with each
    stand-down in a row. All processes that share `keeper` have the same stand-down.
    """

    def __init__(self, clock: Clock, observe: Observe, save: Save, keeper: RateStateKeeper) -> None:
        self._clock = clock
        self._observe = observe
        self._save = save
        self._keeper = keeper
        self._saved_until_ms = 0

    async def restore(self, until_ms: int, reason: str) -> None:
        """Apply the stored stand-down of an earlier run or another process; the present one is never shortened."""
        self._saved_until_ms = until_ms

        def change(state: RateState) -> None:
            if until_ms > state.until_ms:
                state.until_ms, state.reason = until_ms, reason
                state.in_a_row = max(state.in_a_row, 1)
                state.unlearn()

        await self._keeper.update(change)

    def active(self) -> StandDown | None:
        """Return the error to raise while the stand-down lasts, as far as this process knows, else None."""
        return self._keeper.look(lambda state: standing_down(state, self._clock.now_ms()))

    async def check(self) -> None:
        """Raise StandDown while one lasts, in whichever process it began."""
        await self._keeper.update(lambda state: None)
        if active := self.active():  # last, because one may have begun in this process while the update returned
            raise active

    @property
    def until_ms(self) -> int:
        """The end of the last stand-down (ms); 0 when there was none."""
        return self._keeper.look(lambda state: state.until_ms)

    async def announce(self, status: int, retry_after: str | None, msg: str, sent_ms: int) -> StandDown:
        """Begin or lengthen the stand-down that an answer with `status` to a request sent at `sent_ms` requires."""
        news: list[StandDownBegan] = []

        def change(state: RateState) -> StandDown:
            now_ms = self._clock.now_ms()
            is_known = sent_ms <= state.began_ms or now_ms < state.until_ms  # answers to the burst that caused it
            announced_ms = _announced_ms(now_ms, retry_after, msg)
            if not is_known:
                state.in_a_row += 1
                unannounced_ms = now_ms + _unannounced_ms(status, state.in_a_row, now_ms)
                announced_ms = max(announced_ms or unannounced_ms, now_ms + MARGIN_MS)
            until_ms = announced_ms or state.until_ms
            is_longer = until_ms > state.until_ms
            is_news = is_longer and (not is_known or until_ms > state.until_ms + EXTENSION_MS_NOTICED)
            if is_longer:
                state.until_ms = until_ms
                state.reason = f"HTTP {status}: {_ADVICE.get(status, _ADVICE[429])} ({msg:.200})"
                state.began_ms = max(state.began_ms, now_ms)
                state.unlearn()
            if is_news:
                news.append(StandDownBegan(state.until_ms, state.reason))
            return StandDown(state.until_ms, state.reason)

        try:
            return await self._keeper.update(change)
        finally:
            for event in news:
                self._observe(event)

    async def persist(self) -> None:
        """Store the stand-down unless it is stored, in whichever process it began; the next call retries a failure."""
        until_ms, reason = self._keeper.look(lambda state: (state.until_ms, state.reason))
        before_ms = self._saved_until_ms
        if until_ms <= before_ms:
            return
        self._saved_until_ms = until_ms
        try:
            await self._save(until_ms, reason)
        except StoreUnavailable:
            self._saved_until_ms = before_ms  # the rate state has it; the store reports its own error


def standing_down(state: RateState, now_ms: int) -> StandDown | None:
    """Return the error to raise while the stand-down lasts, else None."""
    return StandDown(state.until_ms, state.reason) if now_ms < state.until_ms else None


def _unannounced_ms(status: int, in_a_row: int, now_ms: int) -> int:
    doublings = min(max(in_a_row - 1, 0), 32)
    if status == 418:
        return min(BANNED_MS_FIRST << doublings, BANNED_MS_MAX)
    if status in (403, 451):
        return REFUSED_MS
    if in_a_row <= 1:
        return MINUTE_MS - now_ms % MINUTE_MS + MARGIN_MS
    return min(LIMITED_MS_FIRST << (doublings - 1), LIMITED_MS_MAX)


def _announced_ms(now_ms: int, retry_after: str | None, msg: str) -> int | None:
    ends = (retry_after_ms(now_ms, retry_after), banned_until_ms(msg))
    return max((end_ms for end_ms in ends if end_ms is not None), default=None)


def retry_after_ms(now_ms: int, text: str | None) -> int | None:
    """Return when a Retry-After header permits the next request; None if it has neither seconds nor a date."""
    text = (text or "").strip()
    if text.isascii() and text.isdigit() and len(text) <= RETRY_AFTER_DIGITS_MAX:
        return now_ms + int(text) * 1_000
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return plausible(int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()) * 1_000)
