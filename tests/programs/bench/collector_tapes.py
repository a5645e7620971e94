"""What one session hears of one feed, recorded from the sandbox without sockets: frames, with all that frames need."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Final

from app.collecting.effects import Effect, Open, Send
from app.collecting.ledger import SequenceLedger
from app.collecting.session import Session
from app.domain.instrument import Market
from app.domain.records import DataType
from app.domain.venue import Request
from app.ports.venue import Venue
from infra.sandbox.exchange import Exchange
from infra.sandbox.faults import FaultBoard
from infra.sandbox.options import Options
from infra.sandbox.peers import Peer
from infra.sandbox.universe import Universe
from infra.sandbox.venues import Venues
from tests.programs.bench.collector_ours import EXCHANGES, SOCKET, Case, Tape, feed_of
from tests.programs.bench.pinned import PinnedClock
from tests.system.processes import START_MS

STEP_MS: Final = 100
WARM_MS: Final = 2_000  # for the subscription and its first frames
_DATA: Final = '"data":'  # of a frame that is more than an acknowledgement or a sign of life
BUSY: Final = 200.0
CALM: Final = 3.0
"""Trades a second with which a push of Deribit, ten times a second, has about one."""


CASES: Final = (
    Case("OKX trades, one a frame", "okx", DataType.TRADE, Market.SWAP, "BTC-USDT", BUSY),
    Case("Deribit trades, linear", "deribit", DataType.TRADE, Market.SWAP, "BTC-USDC", CALM),
    Case("Deribit trades, inverse", "deribit", DataType.TRADE, Market.SWAP, "BTC-USD", CALM),
    Case("OKX books", "okx", DataType.ORDERBOOK, Market.SWAP, "BTC-USDT", CALM),
    Case("Deribit books", "deribit", DataType.ORDERBOOK, Market.SWAP, "BTC-USD", CALM),
)


class _Sandbox:
    def __init__(self, clock: PinnedClock, rate: float) -> None:
        self._clock = clock
        clock.set(START_MS)
        self._venues = Venues(Exchange(clock, Universe(1, 10), Options(rate=rate)), FaultBoard())

    def answer(self, request: Request) -> bytes:
        """The body of an answer."""
        return self._venues.answer(request.path, dict(request.params), self._clock.now_ms()).body

    def connect(self, route: str) -> Peer:
        """Open a socket."""
        path, _, query = route.partition("?")
        return self._venues.connect(path, self._clock.now_ms(), query)


def record(case: Case, frames: int, clock: PinnedClock) -> Tape:
    """Record so many frames of a case."""
    sandbox = _Sandbox(clock, case.rate)
    exchange = EXCHANGES[case.exchange]
    venue: Venue = exchange.make()
    bodies = [sandbox.answer(request) for request in venue.instrument_requests()]
    instruments = [each for body in bodies for each in venue.read_instruments(body)]
    venue.learn(instruments)
    feed = feed_of(case, instruments)
    session = Session(venue, SequenceLedger(), exchange.book_rule, START_MS, Random(1))
    peer: Peer | None = None
    opening: list[tuple[int, str]] = []
    found: list[tuple[int, str]] = []
    effects: Sequence[Effect] = session.follow(frozenset([feed]), clock.now_ms())
    route = ""
    while len(found) < frames:
        now_ms = clock.now_ms()
        texts: list[str] = []
        for effect in effects:
            if type(effect) is Open:
                assert peer is None, "the session keeps its socket"
                route, peer = effect.route, sandbox.connect(effect.route)
                effects = [*effects, *session.opened(effect.socket, now_ms)]
        for effect in effects:
            if type(effect) is Send and peer is not None:
                texts += peer.receive(effect.text, now_ms)
        texts += peer.push(now_ms) if peer is not None else []
        effects = [each for text in texts for each in session.received(SOCKET, text.encode(), now_ms)]
        heard = [(now_ms, text) for text in texts if _DATA in text or now_ms < START_MS + WARM_MS]
        if now_ms < START_MS + WARM_MS:
            opening += heard
        else:
            found += heard
        clock.set(now_ms + STEP_MS)
        effects += session.tick(now_ms + STEP_MS)
    return Tape(case, [body.decode() for body in bodies], route, opening, found[:frames])


def record_all(frames: int, clock: PinnedClock) -> Iterator[Tape]:
    """Record every case."""
    for case in CASES:
        yield record(case, frames, clock)
