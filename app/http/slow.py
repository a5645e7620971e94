"""The requests that took longest lately: what an operator looks at when somebody says that the node is slow."""

from collections import deque
from typing import Final, NamedTuple

from starlette.types import Scope

from app.ports.clock import Clock

SLOW_S: Final = 0.25
"""From here on an answer is slow: one that is held takes milliseconds, one from the exchange a tenth of a second."""
KEPT_MAX: Final = 20  # the newest; a page shows no more
QUERY_CHARS_MAX: Final = 200  # of a query string, which the client chooses


class SlowAnswer(NamedTuple):
    """One request; `at_ms` is when its answer was ready."""

    path: str
    query: str
    elapsed_ms: int
    at_ms: int
    status: int


class SlowAnswers:
    """Keeps the newest slow requests of this process for klines and market data. Keys are in headers, never here."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: deque[SlowAnswer] = deque(maxlen=KEPT_MAX)

    def note(self, scope: Scope, elapsed_s: float, status: int) -> None:
        """Keep the request if its answer took `elapsed_s` >= SLOW_S."""
        if elapsed_s >= SLOW_S:
            query = scope["query_string"][:QUERY_CHARS_MAX].decode("latin-1")
            self._kept.append(SlowAnswer(scope["path"], query, int(elapsed_s * 1000), self._clock.now_ms(), status))

    def report(self) -> list[dict[str, object]]:
        """The requests, the newest first; times in ms."""
        return [answer._asdict() for answer in reversed(self._kept)]
