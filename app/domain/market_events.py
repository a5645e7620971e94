"""What an exchange's frames and answers mean, before any rule of sequence: values that the mappers make."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from app.domain.instrument import Instrument
from app.domain.records import FundingRate, KlineRecord, OpenInterest, Ticker, Trade


class Trades(NamedTuple):
    """Trades of one instrument in the exchange's order."""

    instrument: Instrument
    trades: list[Trade]


class BookUpdate(msgspec.Struct, frozen=True, gc=False):
    """A frame of a book. It follows the frame whose `last` is its `previous`; None: the exchange does not say.

    `first` and `last` are the exchange's sequence numbers that it covers. Levels are pairs of price and amount, in
    no set order; prices as printed, or without superfluous zeros.
    `sent_ms` is when the exchange sent it, where it tells that beside the time of the change; otherwise 0.
    """

    instrument: Instrument
    is_snapshot: bool
    first: int
    last: int
    previous: int | None
    bids: Sequence[tuple[str, str]]
    asks: Sequence[tuple[str, str]]
    timestamp_ms: int
    received_ms: int
    sent_ms: int = 0


class Accepted(NamedTuple):
    """The exchange accepted a subscription to `channels` (their names); `request_id` None where it sends none back."""

    request_id: int | None
    channels: tuple[str, ...]


class Refused(NamedTuple):
    """The exchange refused a request; `channel` is "" when it does not say which."""

    request_id: int | None
    code: int
    message: str
    channel: str = ""


class Reply(NamedTuple):
    """The exchange demands `text` as an answer (a heartbeat's test)."""

    text: str


class Alive(NamedTuple):
    """A frame that only shows that the connection lives (pong, heartbeat, an acknowledged unsubscribe)."""


class Closing(NamedTuple):
    """The exchange will close this connection soon; a new one should take over before."""

    reason: str


Event: TypeAlias = (
    Trades
    | BookUpdate
    | Ticker
    | FundingRate
    | OpenInterest
    | KlineRecord
    | Accepted
    | Refused
    | Reply
    | Alive
    | Closing
)
