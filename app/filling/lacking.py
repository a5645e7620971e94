"""Rows that the exchange was asked for and lacked: when to ask again, and when to believe that there are none.

A row that lacks is asked for again after half an hour, three hours and a day; if it still lacks then, it is absent. An
exchange that has lost its history for hours, or publishes late, looks the same: when it has one such row after all, the
others are asked for again at once. Absent rows are asked for once more every day, as long as it could have them.
"""

from dataclasses import dataclass, field
from typing import Final

from app.domain.interval import HOUR_MS, MINUTE_MS
from app.domain.span import Span, Spans

RECHECKS_MS: Final = (30 * MINUTE_MS, 3 * HOUR_MS, 24 * HOUR_MS)
"""When a row that was first seen to lack is asked for again; if it lacks after the last, it is absent."""
ABSENT_EVERY_MS: Final = 24 * HOUR_MS
SINCE_STEP_MS: Final = 10 * MINUTE_MS
"""Rows first seen to lack within this time count as seen at its end: so there are at most 144 times a day."""

_NOTHING: Final = Spans()


@dataclass(slots=True)
class Lacking:
    """What the exchange lacks of one series."""

    _suspects: dict[tuple[int, int], Spans] = field(default_factory=dict)
    """By the time (ms) at which rows were first seen to lack, and the number of rechecks since: their spans."""
    _absent_ms: int = 0
    """When the absent rows were last due to be asked for again (ms)."""
    _absent_left: Spans = _NOTHING

    def waiting(self, now_ms: int) -> Spans:
        """The rows that it is too early to ask for again."""
        found = _NOTHING
        for (since_ms, rechecks), spans in self._suspects.items():
            if now_ms - since_ms < RECHECKS_MS[rechecks]:
                found |= spans
        return found

    def to_recheck(self, absent: Spans, now_ms: int) -> Spans:
        """Those of `absent`, the rows recorded absent that the exchange could still have, to be asked for again now."""
        if not 0 <= now_ms - self._absent_ms < ABSENT_EVERY_MS:
            is_first, self._absent_ms = not self._absent_ms, now_ms
            self._absent_left = _NOTHING if is_first else absent
        return self._absent_left & absent if self._absent_left else _NOTHING

    def note(self, lacking: Spans, given: Spans, asked: Span, now_ms: int) -> Spans:
        """Note the answer for `asked`, which has the rows of `given` but not those of `lacking`; returns the absent."""
        absent, known, has_come = _NOTHING, given, False
        for (since_ms, rechecks), spans in list(self._suspects.items()):
            if not spans.clip(asked):
                continue
            again = spans & lacking
            known |= again
            left = spans - given
            has_come |= left != spans
            self._put(since_ms, rechecks, left - again)
            if not again:
                continue
            done = _done(since_ms, now_ms)
            if done < len(RECHECKS_MS):
                self._put(since_ms, done, self._suspects.get((since_ms, done), _NOTHING) | again)
            else:
                absent |= again
        if fresh := lacking - known:
            since_ms = now_ms // SINCE_STEP_MS * SINCE_STEP_MS + SINCE_STEP_MS
            self._put(since_ms, 0, self._suspects.get((since_ms, 0), _NOTHING) | fresh)
        self._absent_left -= Spans([asked])
        if has_come:
            self._hasten(now_ms)
        return absent

    def _hasten(self, now_ms: int) -> None:
        """Let all rows be asked for again that were asked for again before."""
        for (since_ms, rechecks), spans in list(self._suspects.items()):
            due = _done(since_ms, now_ms) - 1
            if 0 <= due < rechecks:
                self._put(since_ms, rechecks, _NOTHING)
                self._put(since_ms, due, self._suspects.get((since_ms, due), _NOTHING) | spans)

    def keep(self, reach: Span) -> None:
        """Forget what the exchange no longer has."""
        for (since_ms, rechecks), spans in list(self._suspects.items()):
            if spans.hull.start_ms < reach.start_ms:
                self._put(since_ms, rechecks, spans.clip(reach))

    def _put(self, since_ms: int, rechecks: int, spans: Spans) -> None:
        if spans:
            self._suspects[since_ms, rechecks] = spans
        else:
            self._suspects.pop((since_ms, rechecks), None)


def _done(since_ms: int, now_ms: int) -> int:
    """How many of the rechecks of a row are due by now."""
    return sum(now_ms - since_ms >= recheck_ms for recheck_ms in RECHECKS_MS)
