"""One exchange's language, as the collector needs it: channels, messages, requests and limits; all pure."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from app.domain.instrument import Instrument
from app.domain.market_events import BookUpdate, Event
from app.domain.records import Feed, FundingRate, KlineRecord, OpenInterest, Ticker, Trade
from app.domain.venue import Channel, Limits, Poll, Request


class Venue(Protocol):
    """One exchange's language. Reading raises `app.domain.unreadable.Unreadable` for bytes that mean nothing."""

    @property
    def name(self) -> str:
        """The exchange's name in subjects and paths."""
        ...

    @property
    def limits(self) -> Limits:
        """Its limits."""
        ...

    # --- instruments

    def instrument_requests(self) -> Sequence[Request]:
        """The requests whose answers list every instrument."""
        ...

    def read_instruments(self, body: bytes) -> list[Instrument]:
        """The instruments of one of these answers that can be followed; others are left out."""
        ...

    def learn(self, instruments: Collection[Instrument]) -> None:
        """From now on frames that name these instruments are read; frames of others are Unreadable."""
        ...

    # --- sockets

    def channels(self, feed: Feed) -> tuple[Channel, ...]:
        """The channels that bring `feed`; none: it is polled. LookupError: the exchange has no such feed."""
        ...

    def greeting(self, request_id: int) -> str | None:
        """What is sent first on a new socket."""
        ...

    def subscribe(self, request_id: int, names: Sequence[str]) -> str:
        """The message that subscribes to channels of one route."""
        ...

    def unsubscribe(self, request_id: int, names: Sequence[str]) -> str:
        """The message that ends subscriptions."""
        ...

    def keepalive(self, request_id: int) -> str | None:
        """The message that keeps a quiet socket open and draws an answer; None: pings of the protocol do."""
        ...

    def read(self, route: str, frame: bytes, received_ms: int) -> Sequence[Event]:
        """What a frame says."""
        ...

    # --- requests

    def poll(self, feed: Feed) -> Poll | None:
        """The regular request of a feed that no channel brings, or brings only in part (funding that was paid)."""
        ...

    def trades_request(self, instrument: Instrument, first: int, end: int) -> Request:
        """The request for trades with sequences [`first`, `end`): a page of them, the oldest or the newest."""
        ...

    def klines_request(self, feed: Feed, start_ms: int, end_ms: int) -> Request:
        """The request for klines that open in [`start_ms`, `end_ms`)."""
        ...

    def funding_request(self, instrument: Instrument, start_ms: int, end_ms: int) -> Request:
        """The request for the rates that were paid in [`start_ms`, `end_ms`)."""
        ...

    def snapshot_request(self, instrument: Instrument) -> Request | None:
        """The request for a whole book; None: a new subscription begins with one."""
        ...

    def read_answer(
        self, feed: Feed, body: bytes, received_ms: int
    ) -> Sequence[Trade | KlineRecord | FundingRate | OpenInterest | Ticker]:
        """The records of an answer to a request for `feed` (not of a snapshot), ascending, never one in progress."""
        ...

    def read_snapshot(self, instrument: Instrument, body: bytes, received_ms: int) -> BookUpdate:
        """The book of an answer to `snapshot_request`."""
        ...

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes, now_ms: int) -> int | None:
        """Until when (ms) nothing may be asked, if this answer says so (429, 418, 50011, 10028); otherwise None."""
        ...
