"""Where the answer to a market data request comes from: a mirror in memory, or one REST request for all who wait.

When clients request many symbols one by one, one request about all symbols replaces those requests as soon as it costs
less. Example: /ticker/24hr costs 1 for a symbol and 40 for all, so that the 41st symbol within a second fetches all.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol

import msgspec

from app.binance.unreadable import UNREADABLE
from app.domain.reason import Reason
from app.domain.validity import is_fresh, is_valid
from app.market.endpoints import ENDPOINTS, MOVING_MS, REFUSED_MS, Endpoint, Question
from app.ports.clock import Clock
from app.ports.errors import UpstreamGarbage, UpstreamUnavailable
from app.ports.exchange import Priority, RawRest
from app.querying.single_flight import SingleFlight

WIDER_MAX: Final = 256  # upstream requests in progress at once, as in app/http/market_pages.py
ALONE_MAX: Final = 64  # single symbols remembered for each endpoint; fewer already cost more than all symbols together


class Fetched(NamedTuple):
    """An answer or the exchange's refusal: valid for `fresh_ms`, and for `thrifty_ms` while weight is short."""

    status: int
    body: bytes
    fresh_ms: int
    thrifty_ms: int
    archived: str = ""
    """Which of its rows came from the archive (app/querying/archived_rows.py)."""


class Mirror(Protocol):
    """A copy in memory of one endpoint's rows, kept current by a stream."""

    def answer(self, question: Question) -> bytes | None:
        """The body REST would answer with; None when REST has to be asked."""
        ...

    def wants_snapshot(self) -> bool:
        """Whether the mirror needs REST's answer about all symbols, even if the request is about one."""
        ...

    def learn(self, question: Question, body: bytes, asked_ms: int) -> None:
        """Take in REST's answer, about one symbol or all, to a question that was sent at `asked_ms`."""
        ...


class NewestMirror(Protocol):
    """A copy in memory of one endpoint's newest rows, by symbol, kept current by a stream."""

    def widened(self, question: Question) -> Question | None:
        """The question whose answer ends with the answer to this one; None when this is not about the newest rows."""
        ...

    def answer(self, question: Question) -> bytes | None:
        """The body REST would answer with; None when REST has to be asked."""
        ...

    def learn(self, question: Question, body: bytes) -> None:
        """Take in REST's answer to a widened question."""
        ...


class _Named(msgspec.Struct):
    symbol: str


_rows: Final = msgspec.json.Decoder(list[msgspec.Raw])
_named: Final = msgspec.json.Decoder(_Named)


class _Whole:
    """An answer about all symbols, split into rows when the first row is requested."""

    def __init__(self, fetched: Fetched, asked_ms: int, now_ms: int) -> None:
        self._body = fetched.body
        self._rows: dict[str, bytes] | None = None
        self.asked_ms = asked_ms
        self.made_ms = now_ms
        self.fresh_until_ms = now_ms + fetched.fresh_ms
        self.thrifty_until_ms = now_ms + fetched.thrifty_ms

    def row(self, symbol: str) -> bytes | None:
        """The row of a symbol, None when the answer has none. Raises UNREADABLE."""
        if self._rows is None:
            raws = (bytes(raw) for raw in _rows.decode(self._body))
            self._rows = {_named.decode(raw).symbol: raw for raw in raws}
            self._body = b""
        return self._rows.get(symbol)


class MarketSource:
    """Answers questions about the endpoints of the table in endpoints.py."""

    def __init__(
        self,
        clock: Clock,
        rest: RawRest,
        mirrors: Mapping[str, Mirror],
        newest: Mapping[str, NewestMirror],
        is_weight_short: Callable[[], bool],
        *,
        is_allowed: bool,
    ) -> None:
        """`mirrors` and `newest`: by path, what answers from memory; `is_allowed`: whether REST may be asked."""
        self._clock = clock
        self._rest = rest
        self._mirrors = mirrors
        self._newest_mirrors = newest
        self._is_weight_short = is_weight_short
        self._is_allowed = is_allowed
        self._wholes: dict[str, _Whole] = {}
        self._alone: dict[str, dict[str, int]] = {}
        """By path: the symbols requested one by one, with the time (ms) of the last request."""
        self._flights = SingleFlight[Question, Fetched](WIDER_MAX, "questions about more than was asked for")

    async def fetch(self, question: Question) -> Fetched:
        """Answer a question from a mirror, from an answer about all symbols, or from REST. Raises UpstreamError."""
        if not self._is_allowed:
            raise UpstreamUnavailable(f"{question.path} is not held; READ_THROUGH is off", Reason.NOT_HELD)
        endpoint = ENDPOINTS[question.path]
        held = self._mirrors.get(question.path)
        if held is not None and (body := held.answer(question)) is not None:
            return Fetched(200, body, endpoint.held_ms, endpoint.held_ms)
        newest = self._newest_mirrors.get(question.path)
        if newest is not None and (wide := newest.widened(question)) is not None:
            return await self._newest(endpoint, newest, question, wide)
        if not endpoint.is_row_of_all:
            return await self._ask(endpoint, question)
        symbol = question.params.get("symbol")
        if symbol is None:
            return await self._all(endpoint)
        is_wanted = held is not None and held.wants_snapshot()
        if is_wanted or (self._whole(endpoint) is None and self._is_one_of_many(endpoint, question, symbol)):
            await self._all(endpoint)
        return self._row(endpoint, question, symbol) or await self._ask_and_learn(endpoint, question)

    def _whole(self, endpoint: Endpoint) -> _Whole | None:
        """The last answer about all symbols if it is still valid; while weight is short, it is valid for longer."""
        whole, now_ms = self._wholes.get(endpoint.path), self._clock.now_ms()
        if whole is None or not is_valid(whole.made_ms, now_ms, whole.thrifty_until_ms):
            return None
        return whole if now_ms < whole.fresh_until_ms or self._is_weight_short() else None

    def _row(self, endpoint: Endpoint, question: Question, symbol: str) -> Fetched | None:
        """The symbol's row in a valid answer about all symbols; None without one of the two. Raises UpstreamGarbage."""
        whole = self._whole(endpoint)
        if whole is None:
            return None
        try:
            row = whole.row(symbol)
        except UNREADABLE as error:
            del self._wholes[endpoint.path]
            raise UpstreamGarbage(f"{endpoint.path}: {error}") from error
        if row is not None and (held := self._mirrors.get(endpoint.path)) is not None:
            held.learn(question, row, whole.asked_ms)
        now_ms = self._clock.now_ms()
        left = max(0, whole.fresh_until_ms - now_ms), whole.thrifty_until_ms - now_ms
        return None if row is None else Fetched(200, row, *left)

    def _is_one_of_many(self, endpoint: Endpoint, question: Question, symbol: str) -> bool:
        """Whether the symbols requested one by one within MOVING_MS, this one included, cost more than all at once."""
        now_ms = self._clock.now_ms()
        alone = self._alone.setdefault(endpoint.path, {})
        for name in [name for name, asked_ms in alone.items() if not is_fresh(asked_ms, now_ms, MOVING_MS)]:
            del alone[name]
        if len(alone) < ALONE_MAX:
            alone[symbol] = now_ms
        return len(alone) * endpoint.weight(question) > endpoint.weight(Question(endpoint.path, ()))

    async def _all(self, endpoint: Endpoint) -> Fetched:
        return await self._flights.join(Question(endpoint.path, ()), lambda: self._ask_all(endpoint))

    async def _newest(self, endpoint: Endpoint, held: NewestMirror, question: Question, wide: Question) -> Fetched:
        """The newest rows, from the mirror or cut from REST's largest page, which costs no more than a small one."""
        if (body := held.answer(question)) is not None:
            return Fetched(200, body, endpoint.held_ms, endpoint.held_ms)

        async def ask() -> Fetched:
            fetched = await self._ask(endpoint, wide)
            if fetched.status == 200:
                held.learn(wide, fetched.body)
            return fetched

        fetched = await self._flights.join(wide, ask)
        limit = question.number("limit")
        if fetched.status != 200 or limit is None:
            return fetched
        try:
            rows = _rows.decode(fetched.body)
        except UNREADABLE as error:
            raise UpstreamGarbage(f"{endpoint.path}: {error}") from error
        return fetched if len(rows) <= limit else fetched._replace(body=b"[" + b",".join(rows[-limit:]) + b"]")

    async def _ask_all(self, endpoint: Endpoint) -> Fetched:
        asked_ms = self._clock.now_ms()
        fetched = await self._ask_and_learn(endpoint, Question(endpoint.path, ()))
        if fetched.status == 200:
            self._wholes[endpoint.path] = _Whole(fetched, asked_ms, self._clock.now_ms())
        return fetched

    async def _ask_and_learn(self, endpoint: Endpoint, question: Question) -> Fetched:
        asked_ms, held = self._clock.now_ms(), self._mirrors.get(endpoint.path)
        fetched = await self._ask(endpoint, question)
        if fetched.status == 200 and held is not None:
            held.learn(question, fetched.body, asked_ms)
        return fetched

    async def _ask(self, endpoint: Endpoint, question: Question) -> Fetched:
        weight = endpoint.weight(question)
        status, body = await self._rest.ask(question.path, question.params, weight, endpoint.bucket, Priority.USER)
        if status != 200:
            return Fetched(status, body, REFUSED_MS, REFUSED_MS)
        try:
            fresh_ms = endpoint.holds(question, body, self._clock.now_ms())
        except UNREADABLE as error:
            raise UpstreamGarbage(f"{question.path}: {error}") from error
        return Fetched(200, body, fresh_ms, endpoint.thrifty_ms(question, fresh_ms))
