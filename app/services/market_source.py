"""Where answers about the market come from, beside klines: from the exchange, within the weight budget."""

from typing import NamedTuple

from app.ports import Clock, Priority, RawRest, UpstreamGarbage, UpstreamUnavailable
from app.services.endpoints import ENDPOINTS, REFUSED_MS, Question
from app.wire.unreadable import UNREADABLE


class Fetched(NamedTuple):
    """An answer, or the exchange's refusal; true for `fresh_ms`, and good enough for `thrifty_ms`."""

    status: int
    body: bytes
    fresh_ms: int
    thrifty_ms: int


class MarketSource:
    """Answers questions of the table of endpoints."""

    def __init__(self, clock: Clock, rest: RawRest, *, is_allowed: bool) -> None:
        self._clock = clock
        self._rest = rest
        self._is_allowed = is_allowed

    async def fetch(self, question: Question) -> Fetched:
        """The answer. Raises UpstreamError."""
        if not self._is_allowed:
            raise UpstreamUnavailable(f"{question.path} is not held; READ_THROUGH is off")
        endpoint = ENDPOINTS[question.path]
        weight = endpoint.weight(question)
        status, body = await self._rest.ask(question.path, question.params, weight, endpoint.bucket, Priority.USER)
        if status != 200:
            return Fetched(status, body, REFUSED_MS, REFUSED_MS)
        try:
            fresh_ms = endpoint.holds(question, body, self._clock.now_ms())
        except UNREADABLE as error:
            raise UpstreamGarbage(f"{question.path}: {error}") from error
        return Fetched(200, body, fresh_ms, endpoint.thrifty_ms(question, fresh_ms))
