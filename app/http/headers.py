"""The response headers that several modules share."""

from typing import Final

from app.domain.reason import Reason

Header = tuple[bytes, bytes]
REASON: Final = b"x-klinenode-reason"

JSON: Final[Header] = (b"content-type", b"application/json")
NO_STORE: Final[Header] = (b"cache-control", b"no-store")
VARY: Final[Header] = (b"vary", b"Accept-Encoding")

BINANCE: Final[tuple[Header, ...]] = (
    (b"x-mbx-used-weight-1m", b"1"),  # the node has no weight limit; clients' own rate limiters read this header
    (b"access-control-allow-origin", b"*"),  # as the exchange (binance-facts section 1): pages of any origin may read
)


def reason_header(reason: Reason) -> Header:
    """The header X-Klinenode-Reason: why a request is refused for the moment, in a form for programs."""
    return REASON, reason.encode()
