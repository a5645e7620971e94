"""All three exchanges on the same tape, without I/O: their sockets and requests, and the faults of these."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from infra.sandbox.binance_peer import BinancePeer
from infra.sandbox.binance_rest import BinanceRest
from infra.sandbox.deribit import peer as deribit_peer
from infra.sandbox.deribit.rest import PREFIX as DERIBIT_PREFIX
from infra.sandbox.deribit.rest import DeribitRest
from infra.sandbox.exchange import Exchange
from infra.sandbox.faults import BEFALLING_KINDS, Fault, FaultBoard
from infra.sandbox.feeds import FeedHub
from infra.sandbox.okx.peer import PATHS as OKX_PATHS
from infra.sandbox.okx.peer import OkxPeer
from infra.sandbox.okx.rest import PREFIX as OKX_PREFIX
from infra.sandbox.okx.rest import OkxRest
from infra.sandbox.peers import Peer
from infra.sandbox.venue import Answer, Venue


@dataclass(slots=True)
class Venues:
    """OKX, Deribit and Binance, the open sockets, and where their paths lead.

    The server serves Binance by other classes; the sockets and requests here are for those who own the time.
    """

    exchange: Exchange
    faults: FaultBoard
    okx: Venue = field(init=False)
    deribit: Venue = field(init=False)
    okx_rest: OkxRest = field(init=False)
    deribit_rest: DeribitRest = field(init=False)
    binance_rest: BinanceRest = field(init=False)
    _binance_hub: FeedHub = field(init=False)
    peers: dict[Peer, None] = field(default_factory=dict)
    """The open sockets, oldest first, so that faults hit the same ones in every run."""
    _connects: int = 0

    def __post_init__(self) -> None:
        self.okx = Venue("okx", self.exchange, self.faults)
        self.deribit = Venue("deribit", self.exchange, self.faults)
        self.okx_rest, self.deribit_rest = OkxRest(self.okx), DeribitRest(self.deribit)
        self.binance_rest = BinanceRest(self.exchange, self.faults)
        self._binance_hub = FeedHub(self.exchange, self.faults)

    def venue_of(self, path: str) -> Venue | None:
        """OKX or Deribit, if a path of REST or sockets is theirs."""
        if path in OKX_PATHS or path.startswith(OKX_PREFIX):
            return self.okx
        return self.deribit if path == deribit_peer.PATH or path.startswith(DERIBIT_PREFIX) else None

    def connect(self, path: str, now_ms: int, query: str = "") -> Peer:
        """Open a socket at a path of one of the exchanges; `query` is what follows a Binance URL's "?"."""
        self._connects += 1
        peer: Peer
        if path in OKX_PATHS:
            peer = OkxPeer(self.okx, path, now_ms, self._connects)
        elif path == deribit_peer.PATH:
            peer = deribit_peer.DeribitPeer(self.deribit, path, now_ms)
        else:
            peer = BinancePeer(self._binance_hub, self.faults, path, query, now_ms)
        self.peers = {each: None for each in self.peers if not each.is_closed}
        self.peers[peer] = None
        return peer

    def answer(self, path: str, params: Mapping[str, str], now_ms: int, ip: str = "") -> Answer:
        """The answer to GET `path`."""
        venue = self.venue_of(path)
        if venue is None:
            return self.binance_rest.answer(path, params, now_ms, ip)
        rest = self.okx_rest if venue is self.okx else self.deribit_rest
        return rest.answer(path, params, now_ms, ip)

    def inject(self, fault: Fault, now_ms: int) -> int:
        """Activate a fault of sockets, frames, books or requests and return its number.

        One of open sockets or books acts at once. The faults of the market need the server's control.
        """
        if fault.kind == "reset":
            self.reset(fault, now_ms)
        number = self.faults.add(fault, now_ms)
        if fault.kind in BEFALLING_KINDS:
            self.befall(now_ms)
            if fault.count is None and fault.duration_s is None:
                self.faults.clear(number)
        return number

    def reset(self, fault: Fault, now_ms: int) -> None:
        """Reset the books that match. Raises ValueError above RESETS_MAX."""
        for venue in (self.okx, self.deribit):
            if fault.venue in (None, venue.name):
                venue.reset(fault, now_ms)

    def befall(self, now_ms: int) -> None:
        """Apply active faults to the matching open sockets, each kind at most once to a socket."""
        if self.faults.any_of(BEFALLING_KINDS):
            for peer in tuple(self.peers):
                peer.suffer(BEFALLING_KINDS, now_ms)
